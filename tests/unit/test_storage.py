"""The database: what it says reaches a person as one error, and what would be lost is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from recloop.errors import ConfigError, DatabaseError
from recloop.storage import connect


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="names no file, and what is kept in memory is lost"):
        connect(url)


@pytest.mark.parametrize("url", ["nonsense", "nothing://x/y", "mysql://u:secret@localhost/x"])
def test_a_url_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="RECLOOP_DATABASE_URL, cannot be used") as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseError, match=r"postgresql\+psycopg://u:\*\*\*@127.0.0.1:9/x") as caught:
        connect("postgresql+psycopg://u:secret@127.0.0.1:9/x?connect_timeout=2")
    assert "secret" not in str(caught.value)
    assert caught.value.transient


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_server_that_is_gone_is_noticed_as_soon_as_the_url_says_or_in_half_a_minute(database_url: str) -> None:
    def parameters(url: str) -> dict[str, str]:
        engine = connect(url)
        with engine.connect() as connection:
            info = connection.connection.driver_connection.info  # type: ignore[union-attr]
            found: dict[str, str] = info.get_parameters()
        engine.dispose()
        return {name: found[name] for name in ("connect_timeout", "keepalives_idle", "tcp_user_timeout")}

    own = {"connect_timeout": "5", "keepalives_idle": "10", "tcp_user_timeout": "25000"}
    assert parameters(database_url) == own
    assert parameters(f"{database_url}{'&' if '?' in database_url else '?'}connect_timeout=60") == own | {
        "connect_timeout": "60"
    }


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresqls_own_urls_are_taken(database_url: str, scheme: str) -> None:
    engine = connect(database_url.replace("postgresql+psycopg:", f"{scheme}:", 1))
    with engine.connect() as connection:
        assert connection.execute(text("select count(*) from events")).scalar_one() == 0
    engine.dispose()


def test_a_damaged_file_is_said_to_be(tmp_path: Path) -> None:
    file = tmp_path / "recloop.db"
    file.write_bytes(b"no database at all" * 500)
    with pytest.raises(DatabaseError, match="file is not a database\n  → put its last backup in its place") as caught:
        connect(f"sqlite:///{file}")
    assert not caught.value.transient


def test_what_a_statement_meets_is_one_too(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'recloop.db'}")
    with pytest.raises(DatabaseError, match="no such table: nowhere"), engine.connect() as connection:
        connection.execute(text("select * from nowhere"))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_connection_that_the_server_has_closed_is_opened_again(database_url: str) -> None:
    engine, other = connect(database_url), connect(database_url)
    with engine.connect() as connection:
        backend = connection.execute(text("select pg_backend_pid()")).scalar_one()
    with other.begin() as connection:
        connection.execute(text("select pg_terminate_backend(:pid)"), {"pid": backend})
    with engine.connect() as connection:
        assert connection.execute(text("select 1")).scalar_one() == 1
    engine.dispose()
    other.dispose()


@contextmanager
def locked(url: str, seconds: float) -> Iterator[None]:
    """The database, with its events locked by somebody who lets go after `seconds`."""
    engine, taken = connect(url), threading.Event()

    def hold() -> None:
        with engine.connect() as connection:
            sqlite = connection.dialect.name == "sqlite"
            connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else "LOCK TABLE events")
            taken.set()
            time.sleep(seconds)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()
    yield
    holder.join()
    engine.dispose()


def delete_events(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("delete from events"))


def test_a_lock_that_another_holds_is_waited_for(database_url: str) -> None:
    engine = connect(database_url)
    with locked(database_url, seconds=0.5):
        started = time.monotonic()
        delete_events(engine)
        assert time.monotonic() - started > 0.4
    engine.dispose()


def test_a_lock_that_another_keeps_is_given_up_in_time(database_url: str) -> None:
    engine = connect(database_url, lock_seconds=0.3)
    with locked(database_url, seconds=1.5):
        started = time.monotonic()
        with pytest.raises(DatabaseError, match="another process has locked it: try again") as caught:
            delete_events(engine)
        assert 0.3 <= time.monotonic() - started < 1.4
    assert caught.value.transient
    delete_events(engine)
    engine.dispose()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_transaction_that_cannot_be_saved_by_waiting_fails_at_once(database_url: str) -> None:
    """It read, then somebody else wrote: what it would write rests on what is no longer so."""
    engine, other = connect(database_url), connect(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("SELECT * FROM events").all()
        with other.begin() as between:
            between.exec_driver_sql("INSERT INTO forgotten (user_hash, at, events) VALUES ('a', 0, 0)")
        started = time.monotonic()
        with pytest.raises(DatabaseError, match="locked"):
            connection.exec_driver_sql("DELETE FROM events")
        assert time.monotonic() - started < 5
    engine.dispose()
    other.dispose()
