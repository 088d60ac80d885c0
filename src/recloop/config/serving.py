"""`serving`: where the endpoint listens, and how much it lets itself be asked."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from recloop.config.rerank import Rerank
from recloop.config.section import Positive, Section


def _as_address(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        raise ValueError("must be an IP address, such as 127.0.0.1 or 0.0.0.0") from None


class Serving(Section):
    """The endpoint."""

    host: Annotated[str, AfterValidator(_as_address)] = "127.0.0.1"
    port: int = Field(default=3000, ge=0, le=65535)
    default_k: Positive = 10
    """Items in a list, where a request does not say how many."""
    max_k: Positive = 100
    max_history: Positive = 1000
    """Longest history, and most events, in one request."""
    max_batch: Positive = 100
    """Most lists that one request may ask for."""
    workers: Positive = 1
    """Processes that answer."""
    max_waiting: Positive = 256
    """Requests of a worker that wait to be computed; those that come on top are refused at once (503)."""
    max_requests: Positive = 2048
    """Requests of a worker that are under way, of any kind; likewise. Half of them may wait for the database."""
    kept_answers: Positive = 20_000
    """Answers that a worker keeps to send again while nothing has changed; about 2 KB each."""
    popular_half_life_hours: float = Field(default=24.0, gt=0)
    """After so long an event counts half for what is popular now."""
    poll_seconds: float = Field(default=2.0, gt=0)
    """How often the live service looks which model is champion."""
    impression_queue: Positive = 10_000
    """Served lists that wait to be stored; beyond it they are dropped and counted."""
    rerank: Rerank = Rerank()
    auth: Literal["required", "off"] = "off"
    """Whether a request needs a key (`recloop keys create`); `off` only where `host` is a loopback address."""
    requests_per_second: float = Field(default=1000.0, ge=1e-6, le=1e9)
    """What a key may send for long, to each worker."""
    burst: Positive = 2000
    """What a key may send at once, to each worker, when it has been quiet."""

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Serving:
        if self.default_k > self.max_k:
            raise ValueError(f"default_k must not exceed max_k, and {self.default_k} is above {self.max_k}")
        return self

    @model_validator(mode="after")
    def _is_open_to_this_machine_alone(self) -> Serving:
        if self.auth == "off" and not ip_address(self.host).is_loopback:
            raise ValueError(
                f"serving.auth is off, and serving.host ({self.host}) is not a loopback address: whoever reaches it "
                "could ask for recommendations and send events. Set auth to required and make a key with `recloop keys "
                "create`, or set host to 127.0.0.1"
            )
        return self
