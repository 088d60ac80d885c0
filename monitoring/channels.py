"""Where alerts go: to the log always, to a webhook and by e-mail where these are set up.

Secrets are in the environment alone: RECLOOP_ALERT_WEBHOOK, whose URL is one and so is in no log, RECLOOP_SMTP_USER and
RECLOOP_SMTP_PASSWORD. Whoever has another way to tell people makes a `Channel` of it: the flows, an event of Prefect's.
"""

from __future__ import annotations

import json
import logging
import os
import smtplib
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from http.client import HTTPException
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from monitoring.moments import from_micros, spoken
from recloop.config import Email, Severity
from recloop.errors import ConfigError, PlatformError
from recloop.project import Project

logger = logging.getLogger("recloop.alerts")

WEBHOOK_SECONDS = 5.0
EMAIL_SECONDS = 10.0
"""How long each step of a conversation may take"""
IN_ALL_SECONDS = 30.0
"""How long all of it may: whoever answers a byte at a time keeps nobody waiting"""
LEVELS: dict[Severity, int] = {"note": logging.INFO, "roll back": logging.ERROR, "error": logging.ERROR}
"""Of the lines in the log; the other severities are warnings."""


@dataclass(frozen=True)
class Message:
    """What a channel is told. Times are µs since 1970, UTC."""

    cause: str
    severity: Severity
    title: str
    text: str
    first_at: int
    last_at: int
    times: int
    """How often it was found since `first_at`"""

    @property
    def body(self) -> str:
        """The text, and since when, for people."""
        if self.times == 1:
            return self.text
        return f"{self.text}\n\nFound {self.times:,} times since {spoken(self.first_at)}."


@dataclass(frozen=True)
class Channel:
    """One way to tell people."""

    name: str
    """In the database and the log; no two have the same."""
    tell: Callable[[Message], None]
    """Whatever it raises says that nobody has been told; the words are kept, so they must hold no secret."""
    always: bool = False
    """Told of everything, not only from `alerts.least` on"""


def channels_of(project: Project, environment: Mapping[str, str] = os.environ) -> tuple[Channel, ...]:
    """The log, and what else is set up in `params.yaml` and the environment.

    Raises:
        ConfigError: RECLOOP_ALERT_WEBHOOK is no URL, or a password would be sent where others can read it.
    """
    model, settings = project.params.promotion.model_name, project.params.alerts.email
    channels = [LOG]
    if url := environment.get("RECLOOP_ALERT_WEBHOOK"):
        channels.append(webhook(url, model))
    if settings is not None:
        user, password = (environment.get(f"RECLOOP_SMTP_{name}", "") for name in ("USER", "PASSWORD"))
        channels.append(by_email(settings, model, user, password))
    return tuple(channels)


def webhook(url: str, model: str) -> Channel:
    """A channel that posts JSON: title, text, severity, cause, at and model. `text` is all that Slack shows.

    Raises:
        ConfigError: it is no URL of http or https.
    """
    if not _is_web_address(url):
        raise ConfigError(
            "RECLOOP_ALERT_WEBHOOK holds no URL of http or https",
            remedy="set it to what the receiver gave you, or to nothing",
        )

    def tell(message: Message) -> None:
        content = {
            "title": message.title,
            "text": f"{message.title}\n{message.body}",
            "severity": message.severity,
            "cause": message.cause,
            "at": from_micros(message.last_at).isoformat(),
            "model": model,
        }
        _post(url, json.dumps(content).encode())

    return Channel("webhook", _in_time(tell))


def by_email(settings: Email, model: str, user: str = "", password: str = "") -> Channel:
    """A channel that hands a mail to a server.

    Raises:
        ConfigError: there is a password, and it would be sent where others can read it.
    """
    if password and not settings.starttls:
        raise ConfigError(
            "RECLOOP_SMTP_PASSWORD would be sent where others can read it",
            remedy="set alerts.email.starttls to true; or unset the password, where the server asks for none",
        )

    def tell(message: Message) -> None:
        with smtplib.SMTP(settings.host, settings.port, timeout=EMAIL_SECONDS) as server:
            if settings.starttls:
                server.starttls(context=ssl.create_default_context())
            if user:
                server.login(user, password)
            # It raises where all are refused. Of some, others know: tried again, they would have it twice.
            for address, why in server.send_message(_mail(message, settings, model)).items():
                logger.error("alert %r: %s refuses mail for %s: %s", message.cause, settings.host, address, why)

    return Channel("e-mail", _in_time(tell))


def _in_time(tell: Callable[[Message], None]) -> Callable[[Message], None]:
    """The same, given up after a while. It may come to its end yet, and the message then be told twice."""

    def tell_in_time(message: Message) -> None:
        told: Future[None] = Future()

        def run() -> None:
            try:
                tell(message)
            except Exception as error:
                told.set_exception(error)
            else:
                told.set_result(None)

        Thread(target=run, daemon=True).start()
        try:
            told.result(IN_ALL_SECONDS)
        except TimeoutError as error:
            if told.done():  # a step of it took too long
                raise
            raise PlatformError(
                f"it has not taken the message in {IN_ALL_SECONDS:g} s", remedy="see what keeps the receiver busy"
            ) from error

    return tell_in_time


def _mail(message: Message, settings: Email, model: str) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = f"[{model}] {message.severity}: {' '.join(message.title.split())}"
    mail["From"], mail["To"] = settings.from_, ", ".join(settings.to)
    mail["Date"] = format_datetime(from_micros(message.last_at))
    mail["Message-ID"] = make_msgid(domain=settings.from_.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # nobody's machine is to answer that its owner is away
    mail.set_content(f"{message.body}\n\nCause: {message.cause}\n")
    return mail


def _to_log(message: Message) -> None:
    level = LEVELS.get(message.severity, logging.WARNING)
    logger.log(level, "%s: %s: %s", message.severity, message.title, message.body)


LOG = Channel("log", _to_log, always=True)


class _NoRedirects(HTTPRedirectHandler):
    """A redirected POST would come to its end as a GET, and look like a success."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    printable = url.isascii() and url.isprintable() and " " not in url
    return printable and parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc


def _post(url: str, content: bytes) -> None:
    """Raises PlatformError, without the URL, which is a secret."""
    request = Request(url, content, {"Content-Type": "application/json", "User-Agent": "recloop"})  # noqa: S310 (checked)
    try:
        build_opener(_NoRedirects).open(request, timeout=WEBHOOK_SECONDS).close()
    except HTTPError as error:
        error.close()
        said = f"it answered with status {error.code}"
    except URLError as error:
        said = str(error.reason)
    except OSError as error:
        said = str(error)
    except HTTPException as error:
        said = f"it did not answer as a web server does ({type(error).__name__})"
    else:
        return
    raise PlatformError(said, remedy="see that the receiver runs, and that RECLOOP_ALERT_WEBHOOK is still its URL")
