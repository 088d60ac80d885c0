"""Alerts: one for one cause, however often and by however many it is found; and the channels they go through."""

from __future__ import annotations

import base64
import json
import logging
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Engine, select

from flows import alerts as flow_alerts
from monitoring import alerts as module
from monitoring import channels
from monitoring.alerts import Alert, Alerts, describe
from monitoring.channels import LOG, Channel, Message, by_email, channels_of, webhook
from recloop.config import Alerting, Email, load_params
from recloop.errors import ConfigError, PlatformError
from recloop.project import Project
from recloop.storage import connect
from tests.conftest import ROOT

HOUR = 3_600_000_000
AT = 1_790_000_000_000_000  # 2026-09-21 14:13:20 UTC
DRIFT = Alert("drift of version 7: value", "retrain", "The values have changed", "value: 0.500 ≥ 0.25")
MESSAGE = Message(**vars(DRIFT), first_at=AT, last_at=AT, times=1)


class Told:
    """A channel that remembers, and fails as long as `fault` is set."""

    def __init__(self, name: str = "webhook", *, always: bool = False) -> None:
        self.heard: list[Message] = []
        self.fault: Exception | None = None
        self.asked = 0
        self.channel = Channel(name, self._tell, always)

    def _tell(self, message: Message) -> None:
        self.asked += 1
        if self.fault:
            raise self.fault
        self.heard.append(message)

    @property
    def causes(self) -> list[str]:
        return [message.cause for message in self.heard]


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'recloop.db'}")
    yield engine
    engine.dispose()


def alerts_of(database: Engine, *told: Told, clock: Callable[[], float] = lambda: 0.0, **settings: Any) -> Alerts:
    return Alerts(database, Alerting(**settings), [each.channel for each in told], clock=clock)


class TestOneAlertForOneCause:
    def test_a_cause_that_is_open_counts_up_and_is_not_sent_again(self, database: Engine) -> None:
        alerts = alerts_of(database, told := Told())
        for hour in range(3):
            alerts.raise_alert(replace(DRIFT, text=f"found at hour {hour}"), AT + hour * HOUR)

        (found,) = alerts.open()
        assert [message.text for message in told.heard] == ["found at hour 0"]
        assert (found.times, found.first_at, found.last_at, found.sent_at) == (3, AT, AT + 2 * HOUR, AT)
        assert (found.text, found.waiting, found.failed) == ("found at hour 2", None, None)

    def test_it_is_sent_again_after_the_hours_of_the_settings_and_says_since_when(self, database: Engine) -> None:
        alerts = alerts_of(database, told := Told(), repeat_hours=2)
        for at in (AT, AT + 2 * HOUR - 1, AT + 2 * HOUR, AT + 3 * HOUR):
            alerts.raise_alert(DRIFT, at)

        assert [message.last_at for message in told.heard] == [AT, AT + 2 * HOUR]
        assert told.heard[1].body.endswith("Found 3 times since 2026-09-21 14:13:20 UTC.")

    def test_it_is_sent_again_when_it_becomes_graver_but_not_when_it_becomes_less_grave(self, database: Engine) -> None:
        alerts = alerts_of(database, told := Told())
        for severity in ("note", "retrain", "warn", "retrain", "error"):
            alerts.raise_alert(replace(DRIFT, severity=severity), AT)  # type: ignore[arg-type]

        assert [message.severity for message in told.heard] == ["retrain", "error"]
        assert alerts.open()[0].severity == "error"

    def test_what_is_over_before_anybody_could_be_told_is_told_all_the_same(self, database: Engine) -> None:
        alerts = alerts_of(database, told := Told())
        told.fault = OSError("the network is away")
        alerts.raise_alert(DRIFT, AT)
        alerts.resolve("drift of version 7: ", AT + HOUR)
        told.fault = None
        for _ in range(2):
            alerts.send(AT + 2 * HOUR)

        assert [message.text for message in told.heard] == [f"{DRIFT.text}\nIt is over since 2026-09-21 15:13:20 UTC."]
        assert alerts.open() == ()

    def test_channels_that_only_the_next_to_find_it_has_are_told_then(self, database: Engine) -> None:
        """A person's shell has no webhook; the platform, which finds the same an hour later, has."""
        alerts_of(database, shell := Told("log")).raise_alert(DRIFT, AT)
        platform = alerts_of(database, shell, webhook := Told("webhook"))
        for hour in (1, 2):
            platform.raise_alert(DRIFT, AT + hour * HOUR)

        assert [len(told.heard) for told in (shell, webhook)] == [1, 1]
        assert platform.open()[0].waiting is None

    def test_a_cause_that_was_gone_and_comes_back_is_a_new_alert(self, database: Engine) -> None:
        alerts = alerts_of(database, told := Told())
        alerts.raise_alert(DRIFT, AT)
        assert alerts.resolve("drift of version 7: ", AT + 1) == (DRIFT.cause,)
        assert alerts.open() == ()
        alerts.raise_alert(DRIFT, AT + 2)

        assert len(told.heard) == 2
        with database.connect() as connection:
            rows = connection.execute(select(module.alerts).order_by(module.alerts.c.id)).all()
        assert [(row.first_at, row.resolved_at, row.times) for row in rows] == [(AT, AT + 1, 1), (AT + 2, None, 1)]

    def test_only_what_begins_so_and_is_not_there_any_more_is_resolved(self, database: Engine) -> None:
        alerts = alerts_of(database)
        for cause in (
            "drift of version 7: value",
            "drift of version 7: event",
            "drift of version 70: value",
            "Drift %",
        ):
            alerts.raise_alert(replace(DRIFT, cause=cause), AT)

        gone = alerts.resolve("drift of version 7: ", AT, still=["drift of version 7: event"])

        assert gone == ("drift of version 7: value",)
        assert alerts.resolve("drift %", AT) == ()
        assert len(alerts.open()) == 3

    def test_many_that_find_it_at_once_send_it_once(self, database: Engine) -> None:
        told, together = Told(), threading.Barrier(8)

        def find() -> None:
            together.wait()
            for cause in ("training failed: gate", DRIFT.cause):
                alerts_of(database, told).raise_alert(replace(DRIFT, cause=cause), AT)

        threads = [threading.Thread(target=find) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(told.causes) == sorted([DRIFT.cause, "training failed: gate"])
        assert {found.times for found in alerts_of(database).open()} == {8}


class TestChannelsThatFail:
    def test_one_that_fails_stops_neither_the_others_nor_who_raised_it(
        self, database: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken, sound = Told("webhook"), Told("e-mail")
        broken.fault = PlatformError("it answered with status 500", remedy="mend it")
        alerts = alerts_of(database, broken, sound)

        alerts.raise_alert(DRIFT, AT)

        (found,) = alerts.open()
        assert sound.causes == [DRIFT.cause]
        assert (found.waiting, found.failed) == (["webhook"], "webhook: it answered with status 500")
        assert f"alert '{DRIFT.cause}' could not be sent to webhook: it answered with status 500" in caplog.text

    @pytest.mark.parametrize("how", ["the next alert", "the next run of the monitor"])
    def test_it_is_told_the_next_time_and_the_others_are_not_told_twice(self, database: Engine, how: str) -> None:
        broken, sound = Told("webhook"), Told("e-mail")
        broken.fault = ValueError("out of order")
        alerts_of(database, broken, sound).raise_alert(DRIFT, AT)
        broken.fault = None

        again = alerts_of(database, broken, sound)
        if how == "the next alert":
            again.raise_alert(replace(DRIFT, cause="another"), AT + 1)
        else:
            again.send(AT + 1)

        assert broken.causes.count(DRIFT.cause) == sound.causes.count(DRIFT.cause) == 1
        assert not any(found.waiting or found.failed for found in again.open())

    def test_one_that_stalls_is_left_alone_for_a_minute(self, sqlite: Engine) -> None:
        now = 0.0
        stalled = Told()
        stalled.fault = TimeoutError()

        def clock() -> float:
            nonlocal now
            now += 5.0  # every look at it: so telling a channel takes five seconds
            return now

        alerts = alerts_of(sqlite, stalled, clock=clock)
        for cause in ("one", "two", "three"):
            alerts.raise_alert(replace(DRIFT, cause=cause), AT)
        assert stalled.asked == 1

        stalled.fault, now = None, 1000.0
        alerts.send(AT)
        assert stalled.causes == ["one", "two", "three"]

    def test_what_a_channel_of_another_process_waits_for_is_left_to_that(self, sqlite: Engine) -> None:
        prefect = Told("prefect")
        prefect.fault = ValueError("out of order")
        alerts_of(sqlite, prefect).raise_alert(DRIFT, AT)
        alerts_of(sqlite, Told("webhook")).send(AT)
        prefect.fault = None
        alerts_of(sqlite, prefect).send(AT)

        assert prefect.causes == [DRIFT.cause]

    def test_who_was_killed_while_sending_leaves_it_to_the_next(self, database: Engine) -> None:
        killed = Told()
        killed.fault = KeyboardInterrupt()  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            alerts_of(database, killed).raise_alert(DRIFT, AT)

        alerts = alerts_of(database, told := Told())
        alerts.send(AT + module.GIVEN_UP - 1)
        assert told.heard == []
        alerts.send(AT + module.GIVEN_UP)
        assert told.causes == [DRIFT.cause]

    def test_what_becomes_graver_while_it_is_being_sent_is_sent_again(self, sqlite: Engine) -> None:
        heard: list[str] = []

        def tell(message: Message) -> None:
            heard.append(message.severity)
            if message.severity == "retrain":
                alerts.raise_alert(replace(DRIFT, severity="error"), AT + 1)

        alerts = Alerts(sqlite, Alerting(), [Channel("webhook", tell)])
        alerts.raise_alert(DRIFT, AT)
        alerts.send(AT + 2)

        assert heard == ["retrain", "error"]

    def test_without_a_database_people_are_told_at_once_and_not_again_before_the_hours_are_over(
        self, sqlite: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with sqlite.begin() as connection:
            module.alerts.drop(connection)
        told, file = Told(), tmp_path / "unrecorded.json"

        def another_process() -> Alerts:
            return Alerts(sqlite, Alerting(repeat_hours=2), [told.channel], unrecorded=file)

        for at in (AT, AT + HOUR, AT + 2 * HOUR):
            another_process().raise_alert(DRIFT, at)
        another_process().raise_alert(replace(DRIFT, cause="another"), AT)
        another_process().raise_alert(replace(DRIFT, cause="a note", severity="note"), AT)
        another_process().send(AT)
        assert another_process().resolve("", AT) == ()

        assert [(message.cause, message.last_at) for message in told.heard] == [
            (DRIFT.cause, AT),
            (DRIFT.cause, AT + 2 * HOUR),
            ("another", AT),
        ]
        assert "is not in the database" in caplog.text

    def test_whom_nobody_could_tell_without_a_database_is_told_the_next_time(
        self, sqlite: Engine, tmp_path: Path
    ) -> None:
        with sqlite.begin() as connection:
            module.alerts.drop(connection)
        told = Told()
        alerts = Alerts(sqlite, Alerting(), [told.channel], unrecorded=tmp_path / "unrecorded.json")
        told.fault = PlatformError("it answered with status 500", remedy="mend it")
        alerts.raise_alert(DRIFT, AT)
        told.fault = None
        alerts.raise_alert(DRIFT, AT + 1)

        assert told.heard[-1].last_at == AT + 1

    def test_a_channel_that_is_broken_has_the_others_told_no_more_often(self, sqlite: Engine, tmp_path: Path) -> None:
        with sqlite.begin() as connection:
            module.alerts.drop(connection)
        sound, broken = Told("e-mail"), Told("webhook")
        broken.fault = PlatformError("it answered with status 500", remedy="mend it")
        alerts = Alerts(sqlite, Alerting(), [sound.channel, broken.channel], unrecorded=tmp_path / "unrecorded.json")
        for hour in range(3):
            alerts.raise_alert(DRIFT, AT + hour * HOUR)

        assert len(sound.heard) == 1

    @pytest.mark.parametrize("content", ["damaged", '{"a cause": 7}', '{"a cause": {"webhook": 7}}'])
    @pytest.mark.parametrize(
        "act", [lambda alerts: alerts.raise_alert(DRIFT, AT), lambda alerts: alerts.resolve("", AT)]
    )
    def test_once_the_database_is_back_what_it_fails_with_next_is_told_again(
        self, sqlite: Engine, tmp_path: Path, content: str, act: Callable[[Alerts], object]
    ) -> None:
        file = tmp_path / "unrecorded.json"
        file.write_text(content)

        act(Alerts(sqlite, Alerting(), [Told().channel], unrecorded=file))

        assert not file.exists()


class TestWhoIsToldOfWhat:
    def test_the_log_is_told_of_everything_the_others_from_a_severity_on(
        self, sqlite: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        told = Told()
        alerts = Alerts(sqlite, Alerting(least="roll back"), [LOG, told.channel])
        with caplog.at_level(logging.INFO, logger="recloop.alerts"):
            for severity in ("note", "warn", "retrain", "roll back", "error"):
                alerts.raise_alert(replace(DRIFT, cause=severity, severity=severity), AT)  # type: ignore[arg-type]

        assert told.causes == ["roll back", "error"]
        assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "WARNING", "ERROR", "ERROR"]
        assert caplog.messages[2] == "retrain: The values have changed: value: 0.500 ≥ 0.25"

    def test_what_is_set_up_is_what_there_is(self, tmp_path: Path) -> None:
        text = (ROOT / "params.yaml").read_text()
        (tmp_path / "params.yaml").write_text(text)
        environment = {"RECLOOP_ALERT_WEBHOOK": "https://hooks.example.org/secret"}
        assert channels_of(Project(tmp_path), {}) == (LOG,)
        assert [channel.name for channel in channels_of(Project(tmp_path), environment)] == ["log", "webhook"]

        email = "email: {host: mail.example.org, from: a@example.org, to: [b@example.org]}"
        (tmp_path / "params.yaml").write_text(text.replace("email: null", email))
        assert [channel.name for channel in channels_of(Project(tmp_path), environment)] == ["log", "webhook", "e-mail"]

    def test_a_fault_in_the_settings_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "params.yaml"
        text = (ROOT / "params.yaml").read_text()
        for email, said in (
            ("{host: h, form: a@b, to: [c@d]}", "alerts.email.form: unknown key; did you mean `from`?"),
            ("{host: h, from: a@b, to: []}", "alerts.email.to: must have at least 1 item"),
            ('{host: h, from: "a@b\\nBcc: x@y", to: [c@d]}', "alerts.email.from: "),
        ):
            path.write_text(text.replace("email: null", f"email: {email}"))
            with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
                load_params(path)

    def test_open_alerts_read_like_notes(self, sqlite: Engine) -> None:
        told = Told()
        told.fault = PlatformError("it answered with status 500")
        alerts = alerts_of(sqlite, told)
        assert describe(alerts.open()) == "no alert is open"
        for at in (AT, AT + HOUR):
            alerts.raise_alert(DRIFT, at)

        assert describe(alerts.open()).splitlines() == [
            "retrain: The values have changed",
            "  value: 0.500 ≥ 0.25",
            "  cause: drift of version 7: value",
            "  found 2 times, 2026-09-21 14:13:20 UTC to 2026-09-21 15:13:20 UTC",
            "  still to be sent to webhook (webhook: it answered with status 500)",
        ]


class Hook:
    """A receiver of webhooks on loopback that answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.requests: list[tuple[str, str, Any]] = []
        self.url = ""


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.requests.append((self.path, self.headers["Content-Type"], body))
            self.send_response(found.status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        found.url = f"http://127.0.0.1:{port}/secret"
        yield found


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class TestWebhook:
    def test_it_is_posted_as_json_with_the_text_that_slack_shows(self, hook: Hook) -> None:
        webhook(hook.url, "shop").tell(MESSAGE)

        assert hook.requests == [
            (
                "/secret",
                "application/json",
                {
                    "title": "The values have changed",
                    "text": "The values have changed\nvalue: 0.500 ≥ 0.25",
                    "severity": "retrain",
                    "cause": "drift of version 7: value",
                    "at": "2026-09-21T14:13:20+00:00",
                    "model": "shop",
                },
            )
        ]

    @pytest.mark.parametrize("status", [302, 404, 500])
    def test_no_other_answer_than_success_is_one(self, hook: Hook, status: int) -> None:
        hook.status = status
        with pytest.raises(PlatformError, match=f"it answered with status {status}\n") as caught:
            webhook(hook.url, "shop").tell(MESSAGE)
        assert "secret" not in str(caught.value)
        assert len(hook.requests) == 1

    def test_one_that_answers_a_byte_at_a_time_is_given_up_all_in_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each of its steps is in time."""
        monkeypatch.setattr(channels, "IN_ALL_SECONDS", 0.3)
        over = threading.Event()

        def drip(listener: socket.socket) -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                while not over.wait(0.05):
                    connection.sendall(b"H")

        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=drip, args=(listener,))
            thread.start()
            try:
                with pytest.raises(PlatformError, match=r"has not taken the message in 0\.3 s"):
                    webhook(f"http://127.0.0.1:{listener.getsockname()[1]}/", "shop").tell(MESSAGE)
            finally:
                over.set()
                thread.join()

    def test_a_receiver_that_is_not_there_or_says_nothing_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(channels, "WEBHOOK_SECONDS", 0.2)
        with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as deaf:
            url = f"http://127.0.0.1:{deaf.server_address[1]}/secret"
            with pytest.raises(PlatformError, match="timed out"):
                webhook(url, "shop").tell(MESSAGE)
        with pytest.raises(PlatformError, match="refused"):
            webhook(url, "shop").tell(MESSAGE)

    @pytest.mark.parametrize(
        "url",
        ["file:///etc/secret", "ftp://host/secret", "secret", "https://", "http://h:secret/", "http://u:secret@h/",
         "https://h/secret\nX: y", "https://h/ secret", "https://[secret/"],
    )  # fmt: skip
    def test_nothing_but_the_web_is_asked_and_the_secret_is_not_told(self, url: str) -> None:
        with pytest.raises(ConfigError, match="RECLOOP_ALERT_WEBHOOK holds no URL of http or https") as caught:
            webhook(url, "shop")
        assert "secret" not in str(caught.value)


class Post:
    """A mail server on loopback: what it got, and how it is to behave."""

    def __init__(self, certificate: Path | None) -> None:
        self.tls = None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certificate)
        self.refused: tuple[str, ...] = ()
        self.mails: list[EmailMessage] = []
        self.to: list[str] = []
        self.said: list[str] = []
        self.port = 0

    def settings(self, **further: Any) -> Email:
        given = {"host": "localhost", "port": self.port, "from": "loop@shop.org", "to": ("a@shop.org", "b@shop.org")}
        return Email(**given | further)


@contextmanager
def post(certificate: Path | None = None) -> Iterator[Post]:
    mail_server = Post(certificate)

    class Session(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.say("220 hello")
            while line := self.rfile.readline().decode().strip():
                verb, _, rest = line.partition(" ")
                mail_server.said.append(verb.upper())
                match verb.upper():
                    case "EHLO":
                        plain = mail_server.tls and not isinstance(self.connection, ssl.SSLSocket)
                        self.say("250-me\r\n250 STARTTLS" if plain else "250-me\r\n250 AUTH PLAIN")
                    case "STARTTLS" if mail_server.tls:
                        self.say("220 go on")
                        try:
                            self.connection = mail_server.tls.wrap_socket(self.request, server_side=True)
                        except ssl.SSLError:
                            return  # the client does not trust us
                        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
                    case "AUTH":
                        right = base64.b64decode(rest.split()[1]) == b"\0loop\0s3cret"
                        self.say("235 welcome" if right else "535 who are you?")
                    case "RCPT":
                        address = rest.partition("<")[2].partition(">")[0]
                        if address in mail_server.refused:
                            self.say("550 nobody here of that name")
                        else:
                            mail_server.to.append(address)
                            self.say("250 fine")
                    case "DATA":
                        self.say("354 go on")
                        lines = iter(self.rfile.readline, b".\r\n")
                        mail_server.mails.append(message_from_bytes(b"".join(lines), policy=policy.default))
                        self.say("250 taken")
                    case "QUIT":
                        self.say("221 bye")
                        return
                    case _:
                        self.say("250 fine")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)
    with serving(server) as port:
        mail_server.port = port
        yield mail_server


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of `localhost`, signed by itself; with its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path / "certificate.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*form))
    return path


class TestEmail:
    def test_a_mail_goes_in_secret_and_with_a_password_to_everybody(
        self, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with post(certificate) as mail_server:
            by_email(mail_server.settings(), "shop", "loop", "s3cret").tell(
                replace(MESSAGE, title="The values\nchanged")
            )

        (mail,) = mail_server.mails
        assert mail_server.said[:4] == ["EHLO", "STARTTLS", "EHLO", "AUTH"]
        assert mail_server.to == ["a@shop.org", "b@shop.org"]
        assert mail["Subject"] == "[shop] retrain: The values changed"
        assert (mail["From"], mail["To"]) == ("loop@shop.org", "a@shop.org, b@shop.org")
        assert mail["Date"].datetime == datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
        assert mail.get_content().replace("\r", "") == "value: 0.500 ≥ 0.25\n\nCause: drift of version 7: value\n"

    def test_no_word_goes_to_a_server_that_cannot_prove_who_it_is(self, certificate: Path) -> None:
        with post(certificate) as mail_server, pytest.raises(ssl.SSLCertVerificationError):
            by_email(mail_server.settings(), "shop", "loop", "s3cret").tell(MESSAGE)
        assert mail_server.said == ["EHLO", "STARTTLS"]

    def test_nor_to_one_that_does_not_speak_in_secret_unless_that_is_meant(self) -> None:
        with post() as mail_server:
            with pytest.raises(Exception, match="STARTTLS extension not supported"):
                by_email(mail_server.settings(), "shop").tell(MESSAGE)
            assert mail_server.mails == []
            by_email(mail_server.settings(starttls=False), "shop").tell(MESSAGE)
            assert len(mail_server.mails) == 1

    def test_a_password_is_never_sent_where_others_can_read_it(self) -> None:
        with post() as mail_server, pytest.raises(ConfigError, match="where others can read it"):
            by_email(mail_server.settings(starttls=False), "shop", "loop", "s3cret")

    def test_where_some_are_refused_the_others_are_not_told_twice(
        self, sqlite: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        with post() as mail_server:
            channel = by_email(mail_server.settings(starttls=False), "shop")
            alerts = Alerts(sqlite, Alerting(), [channel])
            mail_server.refused = ("a@shop.org",)
            alerts.raise_alert(DRIFT, AT)
            alerts.send(AT)
            assert mail_server.to == ["b@shop.org"]
            assert "localhost refuses mail for a@shop.org" in caplog.text

            mail_server.refused = ("a@shop.org", "b@shop.org")
            alerts.raise_alert(replace(DRIFT, cause="another"), AT)
            assert [found.waiting for found in alerts.open()] == [None, ["e-mail"]]


class Prefect:
    """What `notify_blocks` needs of a Prefect server."""

    def __init__(self, *slugs: str) -> None:
        self.blocks = {slug: uuid4() for slug in slugs}
        self.automations: dict[UUID, Any] = {}

    def request(self, _method: str, _path: str, json: Any) -> Any:
        assert json["block_documents"]["name"] == {"any_": ["recloop-alerts"]}
        found = [
            {
                "id": str(id),
                "name": "recloop-alerts",
                "block_schema_id": str(uuid4()),
                "block_type_id": str(uuid4()),
                "block_type": {"name": slug, "slug": slug},
            }
            for slug, id in self.blocks.items()
        ]
        return SimpleNamespace(json=lambda: found)

    def read_automations_by_name(self, name: str) -> list[Any]:
        return [
            SimpleNamespace(id=id, actions=each.actions) for id, each in self.automations.items() if each.name == name
        ]

    def create_automation(self, automation: Any) -> None:
        self.automations[uuid4()] = automation

    def delete_automation(self, id: UUID) -> None:
        del self.automations[id]


class TestPrefect:
    def test_an_alert_is_an_event(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sent: list[Any] = []
        monkeypatch.setattr(flow_alerts, "emit", lambda event, **further: sent.append((event, further)))
        flow_alerts.prefect_channel("shop").tell(MESSAGE)

        payload = {name: getattr(MESSAGE, name) for name in ("title", "text", "severity", "cause")}
        assert sent == [("recloop.alert", {"model_name": "shop", "payload": payload})]

    def test_every_block_of_the_name_is_told_by_one_automation_that_is_made_once(self) -> None:
        server: Any = Prefect("slack-webhook", "custom-webhook")
        assert flow_alerts.notify_blocks(server) == ("custom-webhook", "slack-webhook")
        ((id, automation),) = server.automations.items()
        assert automation.trigger.expect == {"recloop.alert"}
        assert [action.block_document_id for action in automation.actions] == [
            server.blocks["custom-webhook"], server.blocks["slack-webhook"]
        ]  # fmt: skip

        flow_alerts.notify_blocks(server)
        assert list(server.automations) == [id]

    def test_it_follows_the_blocks(self) -> None:
        server: Any = Prefect("slack-webhook")
        flow_alerts.notify_blocks(server)
        server.blocks["slack-webhook"] = new = uuid4()
        flow_alerts.notify_blocks(server)
        (automation,) = server.automations.values()
        assert [action.block_document_id for action in automation.actions] == [new]

        server.blocks.clear()
        assert flow_alerts.notify_blocks(server) == ()
        assert server.automations == {}
