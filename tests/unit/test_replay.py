"""The replay: what policies decide, what it counts, and what it finds where taste turns in the middle."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from monitoring.live import live_model
from recloop.config import Params
from recloop.errors import ConfigError, StageError
from recloop.files import write_json
from recloop.project import Project
from recloop.replay.command import compare_policies
from recloop.replay.endpoint import Listed
from recloop.replay.figures import Course, ReplayReport, Retraining, discounted, facts
from recloop.replay.log import Log, read_log
from recloop.replay.monitored import Platform, Reasons
from recloop.replay.over_http import play
from recloop.replay.policies import DEFAULT, EVERY, NEVER, POLICIES, WARM, Evidence, rows
from recloop.replay.run import replay
from recloop.replay.training import Trainer
from recloop.serving.client import Client
from tests.endpoint import Endpoint as RealEndpoint
from tests.endpoint import make_project
from tests.gated import Event, write_gated
from tests.packages import point_at, write_package

PARAMS = Params.model_validate(
    {
        "source": {"kind": "movielens-100k"},
        "zoo": ["item_knn"],
        "models": {"item_knn": {"neighbours": 5, "shrink": 1.0}},
        "prepare": {"min_user_events": 1},
        "split": {"valid_share": 0.05},
        "train": {"device": "cpu", "threads": 1},
        "monitoring": {"min_events": 100, "new_data": 0.125, "cooldown_hours": 1.0},
    }
)


def visits(users: range, first: int) -> Iterator[Event]:
    """New users, one after the other, who each go through a piece of a ring of thirty items from `first` on."""
    for user in users:
        for place in range(6):
            yield f"u{user}", str(first + (user + place) % 30), 100 * user + place


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Three hundred users go through one ring of items, and a hundred after them through another."""
    events = [*visits(range(300), 10), *visits(range(300, 400), 40)]
    items = pa.table({"item_id": [str(item) for item in range(10, 70)], "title": ["film"] * 60})
    items = items.append_column("categories", pa.array([["drama"]] * 60))
    return read_log(write_gated(tmp_path / "gated", events, items=items), 10, 0.5)


def seen(**others: Any) -> Evidence:
    return replace(Evidence(learnt=1000, new=10, enough=0.125, cooling=False), **others)


@pytest.mark.parametrize(
    ("evidence", "trains"),
    [
        (seen(), set()),
        (seen(drifted=("unknown_items: 0.3",)), {"drift", DEFAULT}),
        (seen(fallen=("quality: a fall by 0.3",)), {"quality", DEFAULT}),
        (seen(new=124), set()),
        (seen(new=999, enough=None), set()),
        (seen(new=125), {"new data", DEFAULT}),
        (seen(new=125, fallen=("y",), drifted=("x",), cooling=True), {"drift", "quality", "new data"}),
    ],
)
def test_each_policy_has_its_reason_and_the_default_takes_any_unless_it_cools_down(
    evidence: Evidence, trains: set[str]
) -> None:
    assert {name for name, policy in POLICIES.items() if policy(evidence)} == trains | {EVERY}


def test_a_reason_says_the_figures() -> None:
    why = POLICIES[DEFAULT](seen(fallen=("quality: a fall by 0.500",), new=125))
    assert why == "quality: a fall by 0.500 · new data: 125 events beside 1,000"


def test_the_accounting() -> None:
    def trained(after: int, seconds: float) -> Retraining:
        return Retraining(seed=0, after_window=after, events=10, seconds=seconds, reason="")

    users = np.array([0, 0, 1, 1])
    courses = {
        NEVER: Course(np.zeros(4), np.zeros(4), []),
        EVERY: Course(np.array([1.0, 1, 1, 0]), np.array([1.0, 1, 1, 0]), [trained(1, 3.0), trained(2, 5.0)]),
        "drift": Course(np.array([1.0, 0, 1, 0]), np.array([1.0, 0, 1, 0]), [trained(1, 2.0)]),
    }
    found = facts(courses, users, [0, 2, 4])
    assert [found[name].quality for name in found] == [0.0, 0.75, 0.5]
    assert found["drift"].quality_kept == pytest.approx(2 / 3)
    assert [found[name].training_share for name in found] == [0.0, 1.0, 0.25]
    assert found["drift"].gain_per_training == 0.5
    assert found[NEVER].gain_per_training is None
    assert found["drift"].ndcg_by_window == [0.5, 0.5]
    kept = found["drift"].quality_kept_interval
    assert (kept.low, kept.high) == (0.5, 1.0)  # one user has all of it left, the other half


def test_of_several_seeds_figures_are_means() -> None:
    def course(value: float, *after: int) -> Course:
        trained = [Retraining(seed=0, after_window=each, events=9, seconds=1.0, reason="") for each in after]
        return Course(np.full(4, value), np.full(4, value), trained)

    every = Course.mean([course(0.5, 1, 2), course(1.0, 1, 2)])
    found = facts({NEVER: course(0.0), EVERY: every}, np.array([0, 0, 1, 1]), [0, 2, 4], seeds=2)[EVERY]
    assert (found.quality, found.trainings, found.training_seconds) == (0.75, 2.0, 2.0)
    assert found.gain_per_training == 0.375


def test_places_are_discounted() -> None:
    assert discounted(np.array([0, 1, 3])).tolist() == [0.0, 1.0, 0.5]


def test_windows_follow_the_part_that_is_learnt_and_part_no_moment(tmp_path: Path) -> None:
    log = read_log(write_gated(tmp_path, [(f"u{n}", "9", n // 3) for n in range(24)]), 3, 0.5)
    assert log.bounds == (12, 15, 18, 24)
    assert [event.seq for event in log.window(0)] == [1, 2, 3]
    assert log.feedback_seq(14).to_pylist() == [None] * 12 + [1, 2]
    assert log.end_of(0) == log.window(1)[0].at
    for windows in (20, 100_000):
        with pytest.raises(StageError, match=rf"cannot be cut .* and {windows} windows .* up to 3 of them share"):
            read_log(tmp_path, windows, 0.5)


def test_at_one_moment_the_order_is_that_of_preparation(tmp_path: Path) -> None:
    log = read_log(write_gated(tmp_path, [("u", "10", 1), ("u", "9", 1), ("t", "11", 1), ("s", "1", 0)]), 1, 0.25)
    assert [event.item_id for event in log.window(0)] == ["11", "9", "10"]


def test_where_taste_turns_retraining_pays(log: Log, tmp_path: Path) -> None:
    said: list[str] = []
    report = replay(log, PARAMS, "item_knn", tmp_path / "scratch", policies=["new data"], say=said.append)
    never, every, new_data = (report.policies[name] for name in (NEVER, EVERY, "new data"))
    assert never.trainings == 0 and every.trainings == 9
    assert 0 < new_data.trainings < 9
    before, after = slice(0, 5), slice(7, 10)  # all know the first ring; the second one only who was trained since
    assert np.mean(never.ndcg_by_window[before]) > 0.5
    assert np.mean(never.ndcg_by_window[after]) < 0.5 * np.mean(every.ndcg_by_window[after])
    assert every.over_never.low > 0
    assert never.quality < new_data.quality <= every.quality * 1.02
    assert every.quality_kept == 1.0 and new_data.training_share < 1.0
    assert ReplayReport.model_validate_json(report.model_dump_json()) == report
    assert said[-1].startswith("window 10 of 10")

    again = replay(log, PARAMS, "item_knn", tmp_path / "again", policies=["new data"], say=lambda _: None)
    assert [each.ndcg_by_window for each in again.policies.values()] == [
        each.ndcg_by_window for each in report.policies.values()
    ]


def test_policies_begin_from_what_is_live_where_they_are_told_to_and_the_measures_from_nothing(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = PARAMS.model_copy(
        update={
            "models": {"mf": {"dim": 8, "train": {"epochs": 1, "lr": 0.01}}},
            "train": PARAMS.train.model_copy(update={"warm_start": True}),
        }
    )
    made: list[tuple[int, ...]] = []
    train = Trainer._train
    monkeypatch.setattr(
        Trainer, "_train", lambda self, chain, champion: (made.append(chain), train(self, chain, champion))[1]
    )
    report = replay(log, params, "mf", tmp_path, policies=["new data", EVERY], say=lambda _: None)

    first, *later = log.bounds[:-1]
    asked = [each.events for each in report.policies[f"new data{WARM}"].retrainings]
    assert (
        set(made)
        == {
            (first,),
            *((events,) for events in later),  # every window
            *((first, *later[: count + 1]) for count in range(len(later))),  # every window, warm
            *((first, *asked[: count + 1]) for count in range(len(asked))),
        }
    )
    assert len(made) == len(set(made)), "what was trained once is not trained again"
    assert report.policies[EVERY].quality != report.policies[EVERY + WARM].quality


@pytest.mark.parametrize(
    ("wanted", "warm", "played"),
    [
        ([], False, [NEVER, EVERY, "drift", "quality", "new data", DEFAULT]),
        ([DEFAULT], False, [NEVER, EVERY, DEFAULT]),
        ([DEFAULT], True, [NEVER, EVERY, DEFAULT + WARM]),
        ([DEFAULT, DEFAULT + WARM], False, [NEVER, EVERY, DEFAULT, DEFAULT + WARM]),
        (
            [],
            True,
            [NEVER, EVERY, *(name + WARM for name in (EVERY, "drift", "quality", "new data", DEFAULT))],
        ),
    ],
)
def test_what_is_played_are_the_measures_and_what_is_wanted(wanted: list[str], warm: bool, played: list[str]) -> None:
    assert rows(wanted, warm=warm) == played


def test_the_default_asks_the_monitor_of_its_own_platform(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECLOOP_DATABASE_URL", "postgresql://nowhere")
    asked: list[tuple[int, int]] = []

    def judged(self: Platform, since: int, until: int) -> Reasons:
        asked.append((since, until))
        return Reasons(drifted=("unknown_items: far off",)) if len(asked) in (1, 2, 3) else Reasons()

    monkeypatch.setattr(Platform, "judged", judged)
    report = replay(log, PARAMS, "item_knn", tmp_path / "scratch", policies=[DEFAULT], say=lambda _: None)
    assert asked == [(log.window(number)[0].at, log.end_of(number)) for number in range(log.windows)]
    trained = [(each.after_window, each.reason) for each in report.policies[DEFAULT].retrainings]
    assert trained[0] == (1, "drift: unknown_items: far off")
    assert trained[1][0] == 3  # a window takes 33 minutes here, and the default cools down for an hour
    assert trained[1][1].startswith("drift: unknown_items: far off")


def test_a_policys_platform_holds_what_the_monitor_reads(log: Log, tmp_path: Path) -> None:
    trained = Trainer(log, PARAMS, "item_knn", tmp_path / "trainings").at(log.bounds[1])
    platform, played = Platform(tmp_path / "platform", PARAMS), log.window(1)
    for version in (1, 2):
        platform.deploy(trained, played[0].at, "it was time")
        live = live_model(tmp_path / "platform" / "var" / "live")
        assert (live.version, live.since, live.feedback_watermark) == (version, played[0].at, log.bounds[1] - 1200)
    shown = Listed((played[0].item_id, "11"), (2.0, 1.0), "model", 3)
    platform.store(played, [shown] * len(played))
    with sqlite3.connect(tmp_path / "platform" / "var" / "recloop.db") as database:
        done = database.execute("SELECT seq, user_id, item_id, received_at, request_id FROM events").fetchall()
        seen = database.execute("SELECT request_id, served_at, version, items FROM impressions").fetchall()
    first = played[0]
    assert done[0] == (first.seq, first.user_id, first.item_id, first.at, seen[0][0])
    assert done[1][4] is None  # another item than those of its list
    assert seen[0][1:] == (first.at, 2, json.dumps([first.item_id, "11"]))
    assert len(done) == len(seen) == len(played)


@pytest.mark.xdist_group("evidently")
def test_the_monitor_finds_that_taste_has_turned(log: Log, tmp_path: Path) -> None:
    """The second window is of the old ring of items, the last one of the new."""
    trained = Trainer(log, PARAMS, "item_knn", tmp_path / "trainings").at(log.bounds[1])
    found = []
    for number in (1, log.windows - 1):
        platform, played = Platform(tmp_path / f"platform {number}", PARAMS), log.window(number)
        platform.deploy(trained, played[0].at, "it was time")
        platform.store(played, [Listed(("11",), (1.0,), "model", 3)] * len(played))
        found.append(platform.judged(played[0].at, log.end_of(number)))

    assert found[0] == Reasons()
    assert any(reason.startswith("unknown_items: ") for reason in found[1].drifted)


@pytest.mark.xdist_group("evidently")
def test_the_monitor_finds_that_users_take_nothing_more(log: Log, tmp_path: Path) -> None:
    """The lists of sixty users hold what is taken next, and those of the sixty after them do not."""
    first, middle, last = log.bounds[0], log.bounds[3], log.bounds[6]
    platform = Platform(tmp_path / "platform", PARAMS)
    platform.deploy(Trainer(log, PARAMS, "item_knn", tmp_path / "trainings").at(first), int(log.times[first]), "new")
    good, bad = list(log.events(first, middle)), list(log.events(middle, last))
    platform.store(good, [Listed((event.item_id,), (1.0,), "model", 3) for event in good])
    assert platform.judged(good[0].at, bad[0].at).fallen == ()
    platform.store(bad, [Listed(("11",), (1.0,), "model", 3)] * len(bad))

    (fallen,) = platform.judged(bad[0].at, int(log.times[last])).fallen

    assert fallen.startswith("quality: a fall by ")


def test_the_command_writes_table_json_and_picture(
    log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(log.gated, tmp_path / "project" / "data" / "gated")
    with (tmp_path / "project" / "params.yaml").open("w") as file:
        YAML().dump(PARAMS.model_dump(mode="json"), file)
    project = Project(tmp_path / "project")
    with pytest.raises(ConfigError, match="--model item_knn"):
        compare_policies(project, 2, policies=[EVERY], model=None)
    write_json(project.reports / "comparison.json", {"best": "item_knn"})
    compare_policies(project, 2, policies=[EVERY], model=None)
    folder = project.reports / "replay"
    report = ReplayReport.model_validate_json((folder / "replay.json").read_text())
    assert (set(report.policies), report.events_by_window) == ({NEVER, EVERY}, [600, 600])
    assert (folder / "replay.png").read_bytes().startswith(b"\x89PNG")
    assert "every window" in (folder / "replay.txt").read_text()
    assert "every window" in capsys.readouterr().out


def test_what_there_is_not_is_said(log: Log, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no policy 'drifts'; did you mean `drift`"):
        replay(log, PARAMS, "item_knn", tmp_path, policies=["drifts"])
    with pytest.raises(ConfigError, match=r"no section models\.item_kn; did you mean `item_knn`"):
        replay(log, PARAMS, "item_kn", tmp_path)


Serve = Callable[[str | None], str]


class Stub(BaseHTTPRequestHandler):
    """Recommends items 40 to 49 to everybody but u399, whom it refuses, and remembers what it was told."""

    newest: str | None
    told: list[dict[str, Any]]

    def do_GET(self) -> None:
        model = {
            "version": 3, "since": "2026-01-01T00:00:00+00:00", "reason": "", "model": "mf", "newest": self.newest,
            "data_sha256": "", "model_sha256": "", "feedback_watermark": 0, "items": 1, "users": 1, "metrics": {},
            "refused": None, "challenger": None, "split": {"challenger": 0.0, "shadow": False},
        }  # fmt: skip
        self._answer(200, model)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/events":
            self.told.extend(body["events"])
            self._answer(200, {"stored": 1, "duplicates": []})
        elif body["user_id"] == "u399":
            self._answer(400, {"error": "no", "remedy": "none"})
        else:
            items = [{"item_id": str(item), "title": None, "score": 1.0} for item in range(40, 50)]
            common = {"request_id": "r1", "model_version": 3, "variant": "champion", "strategy": "model"}
            self._answer(200, {**common, "items": items, "unknown_items": []})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    Stub.newest, Stub.told = None, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_over_http_each_event_is_asked_for_and_sent(log: Log, endpoint: str) -> None:
    Stub.newest = "1970-01-01T10:29:59+00:00"  # second 37,799: just before user 378
    with Client(endpoint) as client:
        report = play(client, endpoint, log)
    events = list(log.events(log.bounds[0], log.bounds[-1]))[-132:]
    assert events[0].user_id == "u378"
    assert (report.events, report.failed, report.versions) == (132, 6, {"3": 126})
    hits = [event for event in events if event.user_id != "u399" and 40 <= int(event.item_id) < 50]
    assert report.hit_rate == pytest.approx(len(hits) / 132)
    assert [each["item_id"] for each in Stub.told] == [event.item_id for event in events]
    assert sum("request_id" in each for each in Stub.told) == len(hits)


def test_a_real_endpoint_is_asked_before_each_event_and_takes_it_in(tmp_path: Path) -> None:
    events = [(f"u{user}", item, user * 10 + place) for user in range(4) for place, item in enumerate("edcba")]
    log = read_log(write_gated(tmp_path / "gated", events), 2, 0.5)
    real = RealEndpoint(make_project(tmp_path / "project"))
    write_package(real.live / "v1")
    point_at(real.live, 1)
    with real.running(), Client(f"http://127.0.0.1:{real.port}") as client:
        report = play(client, "there", log)
        again = play(client, "there", log)

    assert (report.events, report.failed, report.versions) == (10, 0, {"1": 10})
    assert 0 < report.hit_rate <= 1
    assert again.hit_rate == 0, "the second time everybody has seen everything"
    assert real.rows("SELECT user_id, item_id FROM events ORDER BY seq") == [
        (event.user_id, event.item_id) for event in log.events(log.bounds[0], log.bounds[-1])
    ]


def test_what_the_live_version_knows_is_no_test(log: Log, endpoint: str) -> None:
    Stub.newest = "1971-01-01T00:00:00"
    with Client(endpoint) as client, pytest.raises(StageError, match="knows events up to 1971"):
        play(client, endpoint, log)
