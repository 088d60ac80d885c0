"""The tables through the versions of recloop: nothing in them is lost, and nobody finds them half changed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, func, inspect, make_url, select, text

from monitoring.alerts import alerts
from monitoring.verdicts import verdicts
from recloop.errors import DatabaseError
from recloop.migrations import upgrade as module
from recloop.migrations.revision import NEWEST, VERSION_TABLE, revision_of
from recloop.registry.history import championships
from recloop.serving.events import events
from recloop.serving.impressions import impressions
from recloop.serving.keys import api_keys
from recloop.serving.refusals import refusals
from recloop.serving.tables import audit, forgotten, traffic
from recloop.storage import connect, metadata
from tests.conftest import ROOT

TABLES = (alerts, api_keys, audit, championships, events, forgotten, impressions, refusals, traffic, verdicts)
BEFORE = """
CREATE TABLE events (
    seq {long_key}, event_id TEXT NOT NULL, user_id TEXT NOT NULL, item_id TEXT NOT NULL, event TEXT NOT NULL,
    value {double} NOT NULL, timestamp BIGINT NOT NULL, received_at BIGINT NOT NULL, request_id TEXT, UNIQUE (event_id)
);
CREATE INDEX ix_events_received_at ON events (received_at);
CREATE TABLE impressions (
    seq {long_key}, request_id TEXT NOT NULL, user_id TEXT, served_at BIGINT NOT NULL, version INTEGER NOT NULL,
    variant TEXT NOT NULL, strategy TEXT NOT NULL, items JSON NOT NULL, scores JSON NOT NULL,
    history_length INTEGER NOT NULL
);
CREATE INDEX ix_impressions_served_at ON impressions (served_at);
CREATE TABLE championships (
    seq {key}, at BIGINT NOT NULL, name VARCHAR NOT NULL, version INTEGER NOT NULL, package_sha256 VARCHAR NOT NULL,
    model VARCHAR NOT NULL, previous INTEGER, action VARCHAR(16) NOT NULL, reason VARCHAR NOT NULL,
    numbers JSON NOT NULL
);
CREATE TABLE verdicts (
    id {key}, at BIGINT NOT NULL, window_from BIGINT NOT NULL, window_to BIGINT NOT NULL, version INTEGER NOT NULL,
    events INTEGER NOT NULL, verdict TEXT NOT NULL, signals JSON NOT NULL, reasons JSON NOT NULL, report TEXT,
    acted TEXT
);
INSERT INTO events (event_id, user_id, item_id, event, value, timestamp, received_at, request_id)
    VALUES ('1', 'ann', 'a', 'click', 4.5, 1700000000123456, 1700000000123457, 'r1'),
           ('2', 'bob', 'b', 'view', 1.0, 1700000000123458, 1700000000123459, NULL);
INSERT INTO impressions (request_id, user_id, served_at, version, variant, strategy, items, scores, history_length)
    VALUES ('r1', 'ann', 1700000000123455, 3, 'champion', 'model', '["a"]', '[0.5]', 7);
INSERT INTO championships (at, name, version, package_sha256, model, previous, action, reason, numbers)
    VALUES (1700000000000000, 'shop', 3, 'abc', 'sasrec', 2, 'promote', 'it was better', '{{"ndcg": 0.5}}');
INSERT INTO verdicts (at, window_from, window_to, version, events, verdict, signals, reasons)
    VALUES (1700000000000000, 1, 2, 3, 4, 'calm', '[]', '["all well"]')
"""
"""What the code before revisions made of an empty database, and something in each table."""

KINDS = {
    "sqlite": {"long_key": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "key": "INTEGER NOT NULL PRIMARY KEY",
               "double": "FLOAT"},
    "postgresql": {"long_key": "BIGSERIAL NOT NULL PRIMARY KEY", "key": "SERIAL NOT NULL PRIMARY KEY",
                   "double": "FLOAT(53)"},
}  # fmt: skip

CONNECT = "import sys; from recloop.storage import connect; connect(sys.argv[1])"
FORK_AND_CONNECT = """
import os, sys
import recloop.migrations.upgrade
from recloop.storage import connect
children = []
for _ in range(8):
    if (child := os.fork()) == 0:
        connect(sys.argv[1])
        os._exit(0)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""
"""They begin within a millisecond, since nothing is left to be imported."""
STOP_HALF_WAY = """
import time
from sqlalchemy import Engine, event
@event.listens_for(Engine, "before_cursor_execute")
def stop(_connection, _cursor, statement, *_more):
    if "CREATE TABLE audit" in statement:
        print("half way", flush=True)
        time.sleep(60)
"""


@contextmanager
def plain(url: str) -> Iterator[Engine]:
    """An engine that changes no tables by itself."""
    engine = create_engine(url)
    yield engine
    engine.dispose()


@contextmanager
def migrated(url: str) -> Iterator[Engine]:
    """What every command does first."""
    engine = connect(url)
    yield engine
    engine.dispose()


@pytest.fixture
def old_url(database_url: str) -> str:
    """A database as the code before revisions left it."""
    statements = BEFORE.format(**KINDS[make_url(database_url).get_backend_name()]).split(";")
    if database_url.startswith("sqlite"):
        statements.insert(0, "PRAGMA journal_mode=WAL")
    with plain(database_url) as database, database.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    return database_url


def described(database: Engine) -> dict[str, object]:
    """All that makes a table what it is."""
    inspector = inspect(database)
    found: dict[str, object] = {
        name: (
            [
                (each["name"], str(each["type"]), each["nullable"], each["default"])
                for each in inspector.get_columns(name)
            ],
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted((str(each["name"]), each["column_names"], each["unique"]) for each in inspector.get_indexes(name)),
            [each["column_names"] for each in inspector.get_unique_constraints(name)],
        )
        for name in inspector.get_table_names()
    }
    if database.dialect.name == "sqlite":
        with database.connect() as connection:
            never_again = "select name from sqlite_master where sql like '%AUTOINCREMENT%' order by name"
            found["AUTOINCREMENT"] = connection.exec_driver_sql(never_again).scalars().all()
    return found


def contents(database: Engine) -> dict[str, list[tuple[object, ...]]]:
    tables = ("events", "impressions", "championships", "verdicts")
    with database.connect() as connection:
        return {name: [tuple(row) for row in connection.execute(text(f"select * from {name}"))] for name in tables}  # noqa: S608


def test_the_migrations_make_the_tables_that_the_code_declares(database_url: str) -> None:
    with migrated(database_url) as database, database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    assert set(metadata.tables) == {table.name for table in TABLES}


def test_the_newest_revision_is_the_last_file() -> None:
    assert ScriptDirectory(ROOT / "src/recloop/migrations").get_current_head() == NEWEST


def test_what_an_old_database_holds_is_kept(old_url: str) -> None:
    with plain(old_url) as old:
        before = contents(old)
    with migrated(old_url) as database:
        after = contents(database)
        with database.connect() as connection:
            assert revision_of(connection) == NEWEST
    for name, rows in before.items():
        assert [row[: len(rows[0])] for row in after[name]] == rows
        assert not any(any(row[len(rows[0]) :]) for row in after[name])  # new columns are empty


def test_an_old_database_becomes_what_a_new_one_is(old_url: str) -> None:
    with migrated(old_url) as database:
        tables = described(database)
    with plain(old_url) as database, database.begin() as connection:
        for name in inspect(database).get_table_names():
            connection.exec_driver_sql(f"DROP TABLE {name}")
    with migrated(old_url) as database:
        assert described(database) == tables


def test_a_database_of_the_revision_before_gets_the_table_of_refusals_and_keeps_the_rest(old_url: str) -> None:
    with migrated(old_url) as database:
        tables, rows = described(database), contents(database)
        with database.begin() as connection:
            connection.exec_driver_sql("DROP TABLE refusals")
            connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '0006'")  # noqa: S608
    with migrated(old_url) as database:
        assert described(database) == tables
        assert contents(database) == rows


def test_an_old_database_may_lack_the_tables_of_what_was_never_used(old_url: str) -> None:
    with plain(old_url) as old, old.begin() as connection:
        for name in ("championships", "verdicts"):
            connection.exec_driver_sql(f"DROP TABLE {name}")
    with migrated(old_url) as database:
        assert {table.name for table in TABLES} < set(inspect(database).get_table_names())
        assert len(contents(database)["events"]) == 2


def test_the_revision_that_optuna_keeps_in_the_same_database_is_left_alone(database_url: str) -> None:
    with plain(database_url) as database, database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('v3.2.0.a')")
    with migrated(database_url) as database, database.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == "v3.2.0.a"
        assert revision_of(connection) == NEWEST


def test_a_database_of_a_newer_recloop_is_refused(database_url: str) -> None:
    with migrated(database_url) as database, database.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")  # noqa: S608
    with pytest.raises(DatabaseError, match=f"of revision 9999, and .* knows them up to {NEWEST}\n") as caught:
        connect(database_url)
    assert "update recloop; or put the backup" in (caught.value.remedy or "")
    assert not caught.value.transient


def test_who_is_killed_half_way_leaves_the_old_tables_to_the_next(old_url: str) -> None:
    with plain(old_url) as old:
        tables, rows = described(old), contents(old)
        with subprocess.Popen(
            [sys.executable, "-c", STOP_HALF_WAY + CONNECT, old_url], stdout=subprocess.PIPE, text=True
        ) as half_way:
            assert half_way.stdout is not None
            assert half_way.stdout.readline() == "half way\n"
            os.kill(half_way.pid, signal.SIGKILL)
        assert described(old) == tables
        assert contents(old) == rows
    started = time.monotonic()
    with migrated(old_url) as database:
        assert time.monotonic() - started < 10
        assert len(contents(database)["events"]) == 2


def test_processes_that_start_at_once_do_not_collide(old_url: str) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", CONNECT, old_url], stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [(process.communicate()[1], process.returncode) for process in started] == [("", 0)] * 4
    with migrated(old_url) as database:
        assert len(contents(database)["events"]) == 2


def test_an_empty_database_is_opened_by_many_at_once(database_url: str) -> None:
    done = subprocess.run([sys.executable, "-c", FORK_AND_CONNECT, database_url], capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("", 0)


def test_who_finds_all_up_to_date_waits_for_nobody_and_does_without_alembic(database_url: str) -> None:
    script = f"{CONNECT}; assert 'alembic' not in sys.modules"
    with migrated(database_url) as database, database.connect() as connection:
        if database.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(select(func.pg_advisory_xact_lock(module.TURN_KEY)))
        done = subprocess.run([sys.executable, "-c", script, database_url], capture_output=True, text=True, timeout=20)
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_table_that_somebody_does_not_let_go_of_is_not_waited_for_for_ever(
    old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN_SECONDS", 1)
    monkeypatch.setattr(module, "TABLE_SECONDS", 1)
    with plain(old_url) as old, old.begin() as connection:
        connection.exec_driver_sql("UPDATE events SET value = 2")
        with pytest.raises(DatabaseError, match="another process has locked it") as caught:
            connect(old_url)
    assert caught.value.transient
    with migrated(old_url) as database:
        assert len(contents(database)["events"]) == 2
