"""Beginning from the champion: its rows follow the ids, it must fit, and a training without it is what it was."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from recloop.config import Evaluate, Train
from recloop.data.prepared import Prepared
from recloop.data.warm import ensure_warm, read_champion, write_champion, write_none
from recloop.errors import StageError
from recloop.files import sha256
from recloop.models.base import Learner, Recommender
from recloop.models.catalogue import CATALOGUE, build, load_model, model_class
from recloop.pipeline.champion import learnt_until
from recloop.pipeline.repro import outdated
from recloop.pipeline.snapshot import snapshot
from recloop.project import Project
from recloop.registry import stages
from recloop.registry.runs import run_of
from recloop.registry.tracking import open_tracking
from recloop.serving.events import Event, EventStore
from recloop.serving.people import People
from recloop.storage import connect
from recloop.training import FitResult, fit, save_fit
from recloop.training.warm_start import Carried, WarmStart
from tests.histories import DAY, prepared_of, walks
from tests.packages import point_at, write_package
from tests.trained import make_project
from tests.zoo import SMALL, ragged, some_model

LEARNERS = [name for name in CATALOGUE if issubclass(model_class(name), Learner)]
TRAIN = Train(lr=0.01, epochs=4, patience=4, batch_tokens=64, max_history=8)
JUDGED = Evaluate(exclude_seen=False)
MODEL = {"dim": 8}


def data(items: list[str] | None = None, users: list[str] | None = None) -> Prepared:
    """Walks over ten items in a circle, by ten users; by default `i0` … and `u0` …. The last two days of nine judge."""
    items, users = items or [f"i{item}" for item in range(10)], users or [f"u{user}" for user in range(10)]
    prepared = prepared_of(walks(users=len(users), items=len(items), length=9), items=len(items))
    table = pa.table({"item_id": items, "train_count": prepared.item_table["train_count"]})
    return replace(prepared, item_table=table, user_ids=users)


def put(folder: Path, model: Recommender, prepared: Prepared, *, until: int | None = 6 * DAY) -> Path:
    """A champion that learnt from `prepared`, by default until its seventh day, as a snapshot takes it."""
    model.save(folder / "saved")
    items, users = (pa.chunked_array([ids]) for ids in (prepared.item_ids, prepared.user_ids))
    write_champion(folder / "warm", folder / "saved", item_ids=items, user_ids=users, learnt_until=until)
    return folder / "warm"


def trained(
    champion: Path | None = None, *, name: str = "sasrec", train: Train = TRAIN, progress: bool = False, **others: Any
) -> FitResult:
    return fit(name, data(), train, JUDGED, MODEL, progress=progress, champion=champion, **others)


def bits(model: Recommender) -> Mapping[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


# What is carried over.


@pytest.mark.parametrize("name", LEARNERS)
def test_a_model_names_the_tensors_that_grow_with_items_and_with_users(name: str) -> None:
    def shapes(items: int, users: int) -> dict[str, torch.Size]:
        model = build(name, SMALL[name], catalogue_size=items, user_count=users, max_history=6)
        return {key: tensor.shape for key, tensor in model.state_dict().items()}

    model = some_model(name)
    assert isinstance(model, Learner)
    base, more_items, more_users = shapes(12, 5), shapes(13, 5), shapes(12, 6)
    assert {key for key in base if base[key] != more_items[key]} == set(model.item_rows)
    assert {key for key in base if base[key] != more_users[key]} == set(model.user_rows)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize(
    ("items", "users"),
    [
        (["i3", "i0", "i1", "i2"], ["u1", "u0", "u2"]),  # in another order
        (["i0", "new", "i1", "i2", "i3", "i10"], ["u0", "u00", "u1", "u2"]),  # more
        (["i3", "i1", "also new"], ["u2", "new"]),  # fewer, and others
    ],
)
def test_rows_follow_their_ids_and_what_is_new_begins_as_ever(
    tmp_path: Path, name: str, items: list[str], users: list[str]
) -> None:
    champion = some_model(name, items=4, users=3)
    folder = put(tmp_path, champion, data([f"i{item}" for item in range(4)], ["u0", "u1", "u2"]), until=0)
    fresh, model = (
        build(name, SMALL[name], catalogue_size=len(items), user_count=len(users), max_history=6) for _ in "ab"
    )
    assert isinstance(model, Learner)
    model.load_state_dict(fresh.state_dict())
    warm = WarmStart.plan(model, data(items, users), folder)
    warm.carry(model)

    then, begun, now = champion.state_dict(), fresh.state_dict(), model.state_dict()
    for key, tensor in now.items():
        ids, prefix = (items, "i") if key in model.item_rows else (users, "u")
        if key not in (*model.item_rows, *model.user_rows):
            assert torch.equal(tensor, then[key])
            continue
        known = {f"{prefix}{code}": code for code in range(4 if prefix == "i" else 3)}
        for code, each in enumerate(ids):
            expected = then[key][known[each]] if each in known else begun[key][code]
            assert torch.equal(tensor[code], expected), (key, each)
        assert torch.equal(tensor[len(ids) :], then[key][len(known) :])  # the start token, where there is one
    kept = len({"i0", "i1", "i2", "i3"} & set(items))
    assert (warm.carried.items_kept, warm.carried.items_new) == (kept, len(items) - kept)
    of_users = len({"u0", "u1", "u2"} & set(users)) if model.user_rows else 0
    assert (warm.carried.users_kept, warm.carried.users_new) == (
        of_users,
        len(users) - of_users if model.user_rows else 0,
    )


@pytest.mark.parametrize("name", LEARNERS)
def test_with_the_same_items_and_users_scores_are_the_champions_bit_for_bit(tmp_path: Path, name: str) -> None:
    champion = some_model(name, items=10, users=10)
    model = build(name, SMALL[name], catalogue_size=10, user_count=10, max_history=6)
    assert isinstance(model, Learner)
    WarmStart.plan(model, data(), put(tmp_path, champion, data())).carry(model)
    histories, users = ragged([1, 2, 3], [], [7]), torch.tensor([0, 4, -1])
    assert torch.equal(model.eval().score(histories, users), champion.score(histories, users))


# What does not fit.


@pytest.mark.parametrize(
    ("name", "model", "until", "why"),
    [
        ("sasrec", some_model("mf"), 0, "the champion is mf"),
        (
            "sasrec",
            build("sasrec", {"dim": 4}, catalogue_size=10, user_count=10, max_history=8),
            0,
            r"of another shape: its items\.weight is 11×4, and 11×8 would be needed",
        ),
        (
            "sasrec",
            build("sasrec", {"dim": 8, "blocks": 1}, catalogue_size=10, user_count=10, max_history=8),
            0,
            r"its layers\.2\.layer\.by_distance is not there, and 1×9 would be needed",
        ),
        (
            "sasrec",
            build("sasrec", MODEL, catalogue_size=10, user_count=10, max_history=8),
            7 * DAY,
            r"has learnt from events until 1970-01-08 .* those from 1970-01-08 .* are to judge",
        ),
        (
            "sasrec",
            build("sasrec", MODEL, catalogue_size=10, user_count=10, max_history=8),
            None,
            r"it was not time that parted",
        ),
        ("popularity", some_model("popularity"), 0, "computed from the data at once"),
        ("sasrec", None, 0, "no champion was taken"),
    ],
)
def test_a_champion_that_cannot_be_begun_from_is_told_of_and_the_training_is_as_without(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    model: Recommender | None,
    until: int | None,
    why: str,
) -> None:
    folder = tmp_path / "warm"
    if model is None:
        write_none(folder)
    else:
        put(tmp_path, model, data(), until=until)
    params = MODEL if name == "sasrec" else {}
    result = fit(name, data(), TRAIN, JUDGED, params, champion=folder)
    assert re.search(f"{name}: begins from nothing: .*{why}", capsys.readouterr().err)
    save_fit(result, tmp_path / "a" / "model", tmp_path / "a", name)
    save_fit(fit(name, data(), TRAIN, JUDGED, params, progress=False), tmp_path / "b" / "model", tmp_path / "b", name)
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")


@pytest.mark.parametrize("part", ["model.safetensors", "model.json", "items.parquet", "users.parquet", "champion.json"])
def test_a_champion_that_is_damaged_is_an_error_that_says_what_mends_it(tmp_path: Path, part: str) -> None:
    folder = put(tmp_path, some_model("sasrec"), data())
    (folder / part).write_bytes(b"half")
    with pytest.raises(StageError, match=r"\n  → `.*`"):
        trained(folder)


def test_a_folder_that_is_not_there_is_made_without_a_champion_and_one_that_is_stays(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="`recloop warm`"):
        trained(tmp_path / "warm")
    assert ensure_warm(tmp_path / "warm").startswith("no champion to begin from")
    before = sha256(put(tmp_path, some_model("sasrec"), data()))
    assert "left as it is" in ensure_warm(tmp_path / "warm")
    assert sha256(tmp_path / "warm") == before


# Training.


def test_what_was_learnt_once_need_not_be_learnt_again(tmp_path: Path) -> None:
    """After i comes i + 1. The champion knows twenty of the twenty-one items that the circle has now."""
    train = TRAIN.model_copy(update={"epochs": 20, "patience": 20})

    def learn(count: int, champion: Path | None = None) -> tuple[FitResult, Prepared]:
        prepared = data([f"i{item:02}" for item in range(count)], [f"u{user:02}" for user in range(count)])
        return fit("sasrec", prepared, train, JUDGED, MODEL, progress=False, champion=champion), prepared

    def epochs_to(result: FitResult, quality: float) -> int:
        return next(epoch.number for epoch in result.curve if epoch.ndcg_at_10 >= quality)

    before, known = learn(20)
    folder = put(tmp_path, before.model, known)
    cold, warm = (learn(21, champion)[0] for champion in (None, folder))
    for quality in (0.85, 0.9):
        assert 3 * epochs_to(warm, quality) < epochs_to(cold, quality)
    assert warm.best.ndcg_at_10 > cold.best.ndcg_at_10


def test_a_warm_training_gives_the_same_bits_again_also_when_it_was_stopped(tmp_path: Path) -> None:
    folder, path = put(tmp_path, trained().model, data()), tmp_path / "state.safetensors"

    def stop(number: int, _: object) -> None:
        if number == 3:
            raise InterruptedError

    whole = trained(folder)
    assert bits(whole.model) != bits(trained().model)
    assert bits(whole.model) == bits(trained(folder).model)
    with pytest.raises(InterruptedError):
        trained(folder, checkpoint=path, on_epoch=stop)
    told: list[str] = []
    resumed = trained(folder, checkpoint=path, warn=told.append)
    assert (bits(resumed.model), resumed.warm_start) == (bits(whole.model), whole.warm_start)
    assert told == []


def test_the_state_of_a_cold_training_is_not_gone_on_with_by_a_warm_one(tmp_path: Path) -> None:
    folder, path = put(tmp_path, trained().model, data()), tmp_path / "state.safetensors"
    trained(checkpoint=path)
    told: list[str] = []
    again = trained(folder, checkpoint=path, warn=told.append)
    assert "train.warm_start was not there and is" in told[0]
    assert bits(again.model) == bits(trained(folder).model)


def test_a_warm_training_says_what_it_began_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    champion = trained().model
    folder = put(tmp_path, champion, data())
    digest = sha256(folder / "model.safetensors")
    result = trained(folder, progress=True)
    said = capsys.readouterr().err.splitlines()[0]
    assert said == f"sasrec: begins from the champion with the sha256 {digest[:12]}…: 10 items kept, 0 new"
    save_fit(result, tmp_path / "model", tmp_path, "sasrec")
    report = json.loads((tmp_path / "training" / "sasrec.json").read_text())
    assert report["warm_start"] == {
        "model_sha256": digest, "items_kept": 10, "items_new": 0, "users_kept": 0, "users_new": 0
    }  # fmt: skip
    assert str(Carried("a" * 64, 1, 2, 0, 3)).endswith("1 items kept, 2 new, 0 users kept, 3 new")


@pytest.mark.parametrize("on", [False, True])
def test_the_stage_looks_at_the_champion_only_where_it_is_told_to_and_the_run_says_so(tmp_path: Path, on: bool) -> None:
    project = make_project(tmp_path / "project")
    settings = f"train: {{epochs: 2, warm_start: {str(on).lower()}}}"
    params = project.root / "params.yaml"
    params.write_text(params.read_text().replace("train: {epochs: 2}", settings))
    prepared = Prepared.load(project.prepared)
    champion = build(
        "mf", MODEL | {"dim": 4}, catalogue_size=prepared.item_count, user_count=prepared.user_count, max_history=50
    )
    shutil.copytree(put(tmp_path, champion, prepared, until=0), project.warm)

    stages.train(project, "mf")

    tracking = open_tracking(project)
    found = run_of(tracking, project, "mf")
    assert found is not None
    run = tracking.client.get_run(found.run_id).data
    expected = sha256(project.warm / "model.safetensors") if on else None
    assert run.tags.get("recloop.warm_start") == expected
    assert run.params["train.warm_start"] == str(on)
    assert run.metrics.get("warm_start.items_kept") == (15 if on else None)


# Taking the champion.

DVC_YAML = """\
stages:
  feedback:
    cmd: recloop feedback
    outs:
      - data/feedback/interactions.parquet: {persist: true}
  warm:
    cmd: recloop warm
    outs:
      - data/warm: {persist: true}
"""
VECTORS = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.5], [0.0, 0.5]]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project under DVC whose champion is `mf`, with `train.warm_start` on."""
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    project = switched(Project(tmp_path), on=True)
    learnt = {"train_count": [1, 1, 0, 0, 0]}  # ann's a and bob's b, at one time; bob's c came later
    write_package(project.live / "v3", vectors=VECTORS, columns=learnt)
    point_at(project.live, 3)
    return project


def switched(project: Project, *, on: bool) -> Project:
    (project.root / "params.yaml").write_text(
        f"source: {{kind: movielens-100k}}\nzoo: [mf]\nmodels: {{mf: {{}}}}\ntrain: {{warm_start: {str(on).lower()}}}\n"
    )
    return Project(project.root)


def lock(project: Project) -> bytes:
    return (project.root / "dvc.lock").read_bytes()


def test_a_snapshot_takes_the_champion_and_dvc_versions_it(project: Project) -> None:
    assert str(snapshot(project)).splitlines()[1] == (
        "the champion, v3, taken into data/warm for trainings to begin from"
    )
    champion = read_champion(project.warm)
    assert champion is not None
    assert (champion.model, champion.item_ids, champion.user_ids) == ("mf", list("abcde"), ["ann", "bob"])
    assert champion.learnt_until == 1_700_000_000_000_000
    assert champion.model_sha256 == sha256(project.live / "v3" / "model.safetensors")
    assert load_model(project.warm).name == "mf"
    assert outdated(project, ["feedback", "warm"]) == ()
    before = lock(project)
    snapshot(project)
    assert lock(project) == before


def test_switched_off_it_takes_the_champion_away_again_and_then_has_nothing_to_do(project: Project) -> None:
    snapshot(project)
    project = switched(project, on=False)
    assert "is taken out of data/warm" in str(snapshot(project))
    assert [path.name for path in project.warm.iterdir()] == ["champion.json"]
    assert read_champion(project.warm) is None
    assert outdated(project, ["feedback", "warm"]) == ()
    before = lock(project)
    assert snapshot(project).champion is None
    assert lock(project) == before


def test_switched_off_from_the_start_it_writes_nothing(project: Project) -> None:
    project = switched(project, on=False)
    assert snapshot(project).champion is None
    assert not project.warm.exists()
    assert b"warm" not in lock(project)


def test_where_none_is_live_or_it_is_computed_at_once_none_is_taken(project: Project) -> None:
    write_package(project.live / "v4")
    point_at(project.live, 4)
    assert "begin from nothing: the champion is popularity, which is computed" in str(snapshot(project))
    assert read_champion(project.warm) is None
    (project.live / "champion.json").unlink()
    assert "begin from nothing: no champion is live" in str(snapshot(project))


def test_a_champion_that_learnt_from_somebody_who_asked_to_be_forgotten_is_not_taken(project: Project) -> None:
    database = connect(project.database_url)
    EventStore(database).add([Event(name, name, "a", "click", 1.0) for name in ("eve", "bob")])
    people = People(database)
    people.forget("eve")  # came after the champion
    people.forget("ann")  # has no events at the endpoint: what is known of her is the source's
    assert "taken into data/warm" in str(snapshot(project))
    people.forget("bob")
    assert "asked to be forgotten" in str(snapshot(project))
    assert read_champion(project.warm) is None


def test_until_when_a_champion_learnt_is_read_off_its_package() -> None:
    histories = pa.table({"items": [[0, 1], [0, 2]], "times": [[10, 30], [20, 40]]})

    def until(*counts: int) -> int | None:
        return learnt_until(pa.table({"train_count": counts}), histories)

    assert until(2, 0, 0) == 20
    assert until(2, 1, 0) == 30
    assert until(1, 1, 0) is None  # not the oldest two
