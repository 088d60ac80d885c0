"""A small client of the endpoint, for Python.

    with Client("http://127.0.0.1:3000", key=os.environ["RECLOOP_KEY"]) as client:
        answer = client.recommend(user_id="42", k=5)
        client.record(user_id="42", item_id=answer.items[0].item_id, event="click", request_id=answer.request_id)

It keeps connections open, and tries again what the endpoint could not do at that moment: events have an id of their
own, so that trying again counts nothing twice. It needs httpx and pydantic, and nothing else of what recloop needs.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from recloop.errors import EndpointError
from recloop.serving.schemas import (
    Answer,
    BatchAnswer,
    EventsAnswer,
    ExplainedAnswer,
    ForgottenAnswer,
    ModelAnswer,
    RecommendAnswer,
    ReloadAnswer,
    RollbackAnswer,
    SimilarAnswer,
    SplitAnswer,
    UserAnswer,
)

A = TypeVar("A", bound=Answer)

RETRIED = (429, 503)
ROLLBACK_SECONDS = 150.0
"""How long a rollback may take: the endpoint gives its registry two minutes"""


class Client:
    """One endpoint. Safe to use from several threads. What it cannot have is an `EndpointError`, with the `status`.

    Args:
        url: of the endpoint, e.g. http://127.0.0.1:3000
        key: an API key; None where the endpoint asks for none.
        timeout: seconds an answer may take.
        attempts: how often a request is sent at most while the endpoint is busy, or not there.
        patience: seconds that it waits at most between two of them, whatever the endpoint asks for.
        sleep: waits so many seconds between them.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float = 5.0,
        attempts: int = 3,
        patience: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)
        self._timeout, self._attempts, self._patience, self._sleep = timeout, attempts, patience, sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def recommend(
        self, user_id: str | None = None, *, k: int | None = None, explain: bool = False, **further: Any
    ) -> RecommendAnswer:
        """A list for a user.

        Args:
            further: what else `RecommendRequest` takes: history, filters, exclude, exclude_seen, context, age.

        Raises:
            EndpointError: the endpoint refuses, cannot answer, or is not there.
        """
        body = {"user_id": user_id, "k": k, "explain": explain, **further}
        model = ExplainedAnswer if explain else RecommendAnswer
        return self._post("/recommend", {name: value for name, value in body.items() if value is not None}, model)

    def recommend_batch(self, requests: Sequence[Mapping[str, Any]]) -> BatchAnswer:
        """Several lists, in the order of the requests; each is what `RecommendRequest` takes.

        Raises:
            EndpointError: as `recommend`.
        """
        return self._post("/recommend/batch", {"requests": list(requests)}, BatchAnswer)

    def similar(self, item_id: str, **further: Any) -> SimilarAnswer:
        """Items like one; `further`: k, filters, exclude.

        Raises:
            EndpointError: as `recommend`; also for an item that the model does not know.
        """
        return self._post("/similar", {"item_id": item_id, **further}, SimilarAnswer)

    def record(self, *, user_id: str, item_id: str, event: str, **further: Any) -> EventsAnswer:
        """Store one thing a user did; it is stored for good when this returns.

        Args:
            further: what else `EventRequest` takes: value, timestamp, request_id, context, event_id.

        Raises:
            EndpointError: as `recommend`; the event may be stored or not, and can be sent again by its event_id,
                which the error has in `event_ids`.
        """
        return self.record_all([{"user_id": user_id, "item_id": item_id, "event": event, **further}])

    def record_all(self, events: Sequence[Mapping[str, Any]]) -> EventsAnswer:
        """Store several, all or none; those without an `event_id` get one.

        Raises:
            EndpointError: as `record`.
        """
        named = [{"event_id": uuid.uuid4().hex, **event} for event in events]
        try:
            return self._post("/events", {"events": named}, EventsAnswer)
        except EndpointError as error:
            error.event_ids = tuple(str(event["event_id"]) for event in named)
            raise

    def model(self) -> ModelAnswer:
        """What is live.

        Raises:
            EndpointError: as `recommend`.
        """
        return self._ask("GET", "/model", None, ModelAnswer)

    def user(self, user_id: str) -> UserAnswer:
        """What is known of a person.

        Raises:
            EndpointError: as `recommend`.
        """
        return self._ask("GET", f"/users/{quote(user_id, safe='')}", None, UserAnswer)

    def forget(self, user_id: str) -> ForgottenAnswer:
        """Forget a person.

        Raises:
            EndpointError: as `recommend`.
        """
        return self._ask("DELETE", f"/users/{quote(user_id, safe='')}", None, ForgottenAnswer)

    def reload(self) -> ReloadAnswer:
        """Have it look now which version is to be live.

        Raises:
            EndpointError: as `recommend`.
        """
        return self._post("/admin/reload", {}, ReloadAnswer)

    def rollback(self, reason: str) -> RollbackAnswer:
        """Make the champion before this one live again. Never tried again: twice goes two versions back.

        Raises:
            EndpointError: as `recommend`; where its `status` is None or 503, it may be done all the same.
        """
        timeout = max(self._timeout, ROLLBACK_SECONDS)
        return self._ask("POST", "/admin/rollback", {"reason": reason}, RollbackAnswer, attempts=1, timeout=timeout)

    def split(self, challenger: float, *, shadow: bool = False) -> SplitAnswer:
        """Have the challenger answer a share of the users, or make lists that nobody sees.

        Raises:
            EndpointError: as `recommend`.
        """
        return self._post("/admin/split", {"challenger": challenger, "shadow": shadow}, SplitAnswer)

    def _post(self, path: str, body: Mapping[str, Any], model: type[A]) -> A:
        return self._ask("POST", path, body, model)

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        model: type[A],
        *,
        attempts: int | None = None,
        timeout: float | None = None,
    ) -> A:
        wait, attempts = 0.1, attempts or self._attempts
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            try:
                answer = self._http.request(method, path, json=body, timeout=timeout or self._timeout)
            except httpx.TransportError as error:
                if last:
                    raise EndpointError(
                        f"{self._http.base_url} does not answer: {error}", remedy="`recloop serve` starts it"
                    ) from error
            else:
                if answer.status_code == httpx.codes.OK:
                    return _read(model, answer)
                if last or answer.status_code not in RETRIED:
                    raise _refusal(answer)
                wait = _asked_for(answer, wait)
            self._sleep(min(wait, self._patience))
            wait *= 2
        raise AssertionError("the last attempt returns or raises")


def _read(model: type[A], answer: httpx.Response) -> A:
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        what = answer.headers.get("Content-Type", "no Content-Type")
        raise EndpointError(
            f"{answer.url} gave what is no {model.__name__} ({what}): {answer.text[:100]!r}",
            remedy="see that the address is the endpoint's own, and that it is of the same recloop as this client",
            status=answer.status_code,
        ) from error


def _asked_for(answer: httpx.Response, otherwise: float) -> float:
    """Seconds until a request may be sent again: `Retry-After` has them, or a date; else what is said here."""
    said = answer.headers.get("Retry-After", "")
    if said.isdecimal():
        return float(said)
    try:
        moment = parsedate_to_datetime(said)
    except ValueError:
        return otherwise
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _refusal(answer: httpx.Response) -> EndpointError:
    try:
        said = answer.json()
        error, remedy = str(said["error"]), said["remedy"]
    except (ValueError, KeyError, TypeError):
        error, remedy = f"HTTP {answer.status_code}", None
    return EndpointError(error, remedy=remedy, status=answer.status_code)
