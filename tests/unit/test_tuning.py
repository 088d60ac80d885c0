"""The search for better settings: what is tried, what is given up early, who shares it, and what it changes."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from rich.console import Console
from sqlalchemy import DateTime, column, create_engine, func, select, table, text, update

from recloop.config import Loss, Params, Train, load_params, validated
from recloop.errors import ConfigError, DatabaseError, ModelError, RegistryError
from recloop.models.base import LearnerConfig
from recloop.models.catalogue import model_config
from recloop.project import Project
from recloop.registry import trials
from recloop.registry.tracking import open_tracking
from recloop.training.settings import effective
from recloop.tuning import worker
from recloop.tuning.outcome import Outcome
from recloop.tuning.run import tune
from recloop.tuning.space import Space
from recloop.tuning.study import opened, tried
from tests.histories import walks
from tests.trained import ITEMS, make_project, write_prepared

PARAMS = """\
source: {kind: movielens-100k}
zoo: [sasrec] # the zoo
train: {epochs: 6, patience: 6, batch_tokens: 64, max_history: 8, lr: 0.01, threads: 1}
models: # of ours
  sasrec: {dim: 8, blocks: 1, dropout: 0.5} # by hand
tune:
  trials: 6
  startup_trials: 1
  min_epochs: 2
  models:
    sasrec:
      dropout: {low: 0.0, high: 0.5}
evaluate: {exclude_seen: false, bootstrap: 200}
"""


def space_of(**dimensions: Any) -> str:
    """PARAMS with these dimensions; `__` stands for a dot."""
    lines = "".join(f"      {name.replace('__', '.')}: {value}\n" for name, value in dimensions.items())
    return PARAMS.replace("      dropout: {low: 0.0, high: 0.5}\n", lines)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """With data that can be learnt from. MLflow, which costs a second a study, is off in this process."""

    def off(project: Project) -> NoReturn:
        raise RegistryError("MLflow is off")

    monkeypatch.setattr(trials, "open_tracking", off)
    project = make_project(tmp_path / "project")
    (project.root / "params.yaml").write_text(PARAMS)
    users = {f"u{n}": [ITEMS[item] for item in walk] for n, walk in enumerate(walks(users=30, items=15, length=9))}
    write_prepared(project.prepared, users=users)
    return project


Quality = Callable[[dict[str, Any]], float]


class Trainings:
    """In the place of training: the curve of a section of params.yaml rises evenly to its quality."""

    def __init__(self, quality: Quality) -> None:
        self.quality = quality
        self.epochs: list[tuple[dict[str, Any], int]] = []
        """Section → the last epoch that was trained with it"""

    def __call__(
        self, name: str, prepared: Any, train: Any, evaluate: Any, section: dict[str, Any], **told: Any
    ) -> SimpleNamespace:
        quality = self.quality(section)
        self.epochs.append((section, 0))
        for epoch in range(1, train.epochs + 1):
            self.epochs[-1] = (section, epoch)
            told["on_epoch"](epoch, {"ndcg_at_10": quality * epoch / train.epochs, "loss": 1 / epoch})
        return SimpleNamespace(best=SimpleNamespace(ndcg_at_10=quality))


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    """The less dropout, the better: the present 0.5 is the worst there is."""
    made = Trainings(lambda section: 1 - section["dropout"])
    monkeypatch.setattr(worker, "fit", made)
    return made


def tuned(project: Project, said: list[str] | None = None, **options: Any) -> Outcome:
    fresh = Project(project.root)  # params.yaml is read once a project
    return tune(fresh, "sasrec", say=(said if said is not None else []).append, **options)


def shown(outcome: Outcome) -> str:
    console = Console(file=io.StringIO(), width=200)
    outcome.show(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_present_values_are_tried_first_and_the_best_replace_them(project: Project, trainings: Trainings) -> None:
    said: list[str] = []
    outcome = tuned(project, said)

    assert [each.number for each in outcome.trials] == list(range(6))
    assert outcome.trials[0].settings == {"dropout": 0.5}
    assert outcome.present is outcome.trials[0]
    assert outcome.trials[0].ndcg_at_10 == 0.5
    best = outcome.best
    assert best is not None
    dropout = best.settings["dropout"]
    assert dropout == min(each.settings["dropout"] for each in outcome.trials if each.state == "complete")
    assert outcome.gain == pytest.approx((1 - dropout) / 0.5 - 1)
    after = PARAMS.replace("dropout: 0.5}", f"dropout: {dropout}}}")
    assert (project.root / "params.yaml").read_text() == after
    assert [line for line in outcome.diff if line.startswith("+ ")] == [
        f"+  sasrec: {{dim: 8, blocks: 1, dropout: {dropout}}} # by hand"
    ]
    assert said[0].startswith("trial 0 (1 of 6): NDCG@10 0.5000, the best yet; dropout 0.5; ")
    told = shown(outcome)
    assert "sasrec: 6 trials" in told
    assert "0 (present)" in told
    assert f"the best is {outcome.gain:+.1%} over the present values, on the validation period" in told
    assert "look at it with `git diff params.yaml`" in told


def test_a_number_that_is_tried_has_three_digits(project: Project, trainings: Trainings) -> None:
    for each in tuned(project).trials:
        assert re.fullmatch(r"0\.0*\d{1,3}|0\.0", str(each.settings["dropout"]))


def test_where_the_present_values_are_best_nothing_is_changed(project: Project, trainings: Trainings) -> None:
    trainings.quality = lambda section: section["dropout"]
    outcome = tuned(project)
    assert outcome.best is outcome.present
    assert outcome.diff == ()
    assert "the present values are best; nothing is changed" in shown(outcome)
    assert (project.root / "params.yaml").read_text() == PARAMS


def test_equal_is_not_better(project: Project, trainings: Trainings) -> None:
    trainings.quality = lambda section: 0.3
    assert "the present values are best" in tuned(project).verdict
    assert (project.root / "params.yaml").read_text() == PARAMS


def test_a_dry_run_shows_the_change_and_writes_nothing(project: Project, trainings: Trainings) -> None:
    outcome = tuned(project, dry_run=True)
    assert any(line.startswith("+  sasrec: ") for line in outcome.diff)
    assert (project.root / "params.yaml").read_text() == PARAMS


def test_a_training_worse_than_the_median_is_given_up(project: Project, trainings: Trainings) -> None:
    (project.root / "params.yaml").write_text(space_of(dropout="[0.5, 0.9]", blocks="{low: 1, high: 3}"))
    outcome = tuned(project, trials=12)
    bad = [each for each in outcome.trials if each.settings["dropout"] == 0.9]
    assert bad
    assert {(each.state, each.epochs) for each in bad} == {("pruned", 2)}  # min_epochs
    assert {epochs for section, epochs in trainings.epochs if section["dropout"] == 0.9} == {2}
    assert {each.state for each in outcome.trials if each not in bad} == {"complete"}
    assert "pruned" in shown(outcome)


def test_the_present_values_are_never_given_up(project: Project, trainings: Trainings) -> None:
    tuned(project)  # has better ones now
    path = project.root / "params.yaml"
    path.write_text(re.sub(r"dropout: [\d.]+}", "dropout: 0.499}", path.read_text(), count=1))

    outcome = tuned(project)

    assert len(outcome.trials) == 7  # the study was done: only the new present values were missing
    assert outcome.trials[6].settings == {"dropout": 0.499}
    assert outcome.trials[6].state == "complete"
    assert outcome.present is outcome.trials[6]


def test_a_study_goes_on_and_what_was_written_is_its_present(project: Project, trainings: Trainings) -> None:
    first = tuned(project)
    again = tuned(project)
    assert len(again.trials) == 6
    assert again.best == first.best == again.present
    assert "the present values are best" in again.verdict
    more = tuned(project, trials=8)
    assert len(more.trials) == 8
    assert more.study == first.study


def test_a_training_that_diverges_is_a_failed_trial_and_the_study_goes_on(
    project: Project, trainings: Trainings
) -> None:
    def quality(section: dict[str, Any]) -> float:
        if section["dropout"] < 0.3:
            raise ModelError("sasrec: the loss became inf in epoch 1", remedy="lower the learning rate")
        return 1 - section["dropout"]

    trainings.quality = quality
    said: list[str] = []
    outcome = tuned(project, said)

    failed = [each for each in outcome.trials if each.state == "failed"]
    assert failed
    assert all(each.settings["dropout"] < 0.3 for each in failed)
    assert failed[0].why == "sasrec: the loss became inf in epoch 1"
    assert len(outcome.trials) == 6
    assert any("failed: sasrec: the loss became inf in epoch 1" in line for line in said)
    assert outcome.best is not None
    assert outcome.best.settings["dropout"] >= 0.3


def test_where_every_training_fails_it_is_said_why(project: Project, trainings: Trainings) -> None:
    def diverge(section: dict[str, Any]) -> float:
        raise ModelError("sasrec: the loss became nan")

    trainings.quality = diverge
    with pytest.raises(ModelError, match=r"no trial of 6 came to its end; the last said: sasrec: the loss became nan"):
        tuned(project)
    assert (project.root / "params.yaml").read_text() == PARAMS


def test_values_that_do_not_go_together_are_a_failed_trial(project: Project, trainings: Trainings) -> None:
    (project.root / "params.yaml").write_text(space_of(dim="[6, 8]", heads="[1, 2, 3]").replace("dim: 8", "dim: 6"))
    outcome = tuned(project, trials=12)
    refused = [each for each in outcome.trials if each.state == "failed"]
    assert {(each.settings["dim"], each.settings["heads"]) for each in refused} == {(8, 3)}
    assert "dim must be a multiple of heads" in (refused[0].why or "")


def test_the_same_settings_are_trained_once(project: Project, trainings: Trainings) -> None:
    (project.root / "params.yaml").write_text(space_of(dropout="[0.5, 0.4]"))
    outcome = tuned(project, trials=8)
    assert len(outcome.trials) == 8
    assert len(trainings.epochs) == 2


def test_no_trial_is_begun_after_the_time_is_up(project: Project, trainings: Trainings) -> None:
    outcome = tuned(project, timeout=0)
    assert trainings.epochs == []
    assert "no trial came to its end yet" in outcome.verdict


def test_an_interrupted_trial_is_done_again(project: Project, trainings: Trainings) -> None:
    def interrupt(section: dict[str, Any]) -> float:
        raise KeyboardInterrupt

    quality, trainings.quality = trainings.quality, interrupt
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        tuned(project, said)
    assert said == ["recloop: interrupted; the study is kept, and the same command goes on with it"]

    trainings.quality = quality
    outcome = tuned(project)

    assert [each.state for each in outcome.trials[:2]] == ["interrupted", "complete"]
    assert outcome.trials[1].settings == {"dropout": 0.5}
    assert sum(each.done for each in outcome.trials) == 6


def test_one_worker_does_the_same_again(project: Project, tmp_path: Path) -> None:
    """With real trainings."""
    (project.root / "params.yaml").write_text(space_of(dim="[4, 8]", train__lr="{low: 0.001, high: 0.1, log: true}"))
    found = []
    for attempt in ("a", "b"):
        database = f"sqlite:///{tmp_path / attempt}.db"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RECLOOP_DATABASE_URL", database)
            found.append([(each.settings, each.ndcg_at_10) for each in tuned(project, trials=5, dry_run=True).trials])
    assert found[0] == found[1]
    assert len({str(settings) for settings, _ in found[0]}) > 3


def start_worker(project: Project, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "recloop.cli", "tune", "sasrec", *options],
        env=os.environ | {"RECLOOP_ROOT": str(project.root)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(600)  # two starts of everything, which a busy machine takes minutes for
def test_two_workers_share_a_study(project: Project, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.root / "params.yaml").write_text(space_of(train__lr="{low: 0.001, high: 0.1, log: true}"))
    monkeypatch.setenv("RECLOOP_DATABASE_URL", database_url)
    workers = [start_worker(project, "--trials", "16") for _ in range(2)]
    ends = [each.communicate(timeout=500) for each in workers]
    assert [each.returncode for each in workers] == [0, 0], ends

    done = [re.findall(r"^trial (\d+) ", progress, re.M) for _, progress in ends]
    assert all(done), ends  # each of them did some
    outcome = tuned(project, trials=16)
    assert sorted(int(number) for each in done for number in each) == [each.number for each in outcome.trials]
    assert 16 <= len(outcome.trials) <= 17  # the last two may have begun together
    assert all(each.done for each in outcome.trials)
    assert outcome.trials[0].settings == {"train.lr": 0.01}
    assert len({each.settings["train.lr"] for each in outcome.trials}) == len(outcome.trials)  # nothing is done twice
    assert any("16 trials" in told or "17 trials" in told for told, _ in ends)


def until(what: Callable[[], bool], seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_killed_workers_trial_is_done_by_another_one(
    project: Project, trainings: Trainings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECLOOP_DATABASE_URL", database_url)
    long = PARAMS.replace("epochs: 6, patience: 6", "epochs: 1000000, patience: 1000000")
    (project.root / "params.yaml").write_text(long)
    engine = create_engine(database_url)
    schema = "tuning" if engine.dialect.name == "postgresql" else None
    beats = table("trial_heartbeats", column("heartbeat", DateTime), schema=schema)

    def alive() -> bool:
        try:
            with engine.connect() as connection:
                return bool(connection.execute(select(func.count()).select_from(beats)).scalar())
        except Exception:  # not made yet
            return False

    killed = start_worker(project)
    until(alive)
    killed.kill()
    killed.communicate()
    trainings.quality = lambda section: 1 - section["dropout"]
    monkeypatch.setattr(
        worker, "fit", lambda *given, **told: trainings(*given[:2], SimpleNamespace(epochs=2), *given[3:], **told)
    )

    # It may yet be alive: nobody waits for it, and the present values are tried by somebody else.
    outcome = tuned(project, dry_run=True)
    assert [each.state for each in outcome.trials if not each.done] == ["running"]
    assert outcome.present is not None

    # It has not been heard of for long: its trial is done again.
    with engine.begin() as connection:
        connection.execute(update(beats).values(heartbeat=datetime(2000, 1, 1)))
    outcome = tuned(project, trials=8, dry_run=True)
    assert outcome.trials[0].state == "interrupted"
    assert sum(each.done for each in outcome.trials) == 8
    assert sum(each.settings == {"dropout": 0.5} and each.done for each in outcome.trials) == 2
    engine.dispose()


def test_who_was_taken_for_dead_gives_its_trial_up_and_goes_on(project: Project, trainings: Trainings) -> None:
    engine = create_engine(project.database_url)
    lost: list[int] = []

    def quality(section: dict[str, Any]) -> float:
        if not lost:
            lost.append(1)
            with engine.begin() as connection:  # as another worker does
                connection.execute(text("UPDATE trials SET state = 'FAIL' WHERE number = 0"))
        return 1 - section["dropout"]

    trainings.quality = quality
    said: list[str] = []
    outcome = tuned(project, said)
    assert said[0] == "trial 0: given to another worker, since this one gave no sign of life"
    assert [each.state for each in outcome.trials].count("interrupted") == 1
    assert outcome.present is outcome.trials[7]  # nobody else has tried them after all
    engine.dispose()


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_another_worker_draws_other_values(project: Project) -> None:
    space = Space.of(project.params, "sasrec")
    drawn = []
    for _ in range(2):
        with opened(project.database_url, "a study", space, seed=42) as study:
            study.ask()  # the present values, or whatever waits
            drawn.append([study.ask().suggest_float("dropout", 0, 0.5) for _ in range(3)])
    assert not set(drawn[0]) & set(drawn[1])


def test_another_space_or_another_setting_is_another_study_and_other_present_values_are_not() -> None:
    def name(content: str) -> str:
        from ruamel.yaml import YAML

        params = validated(Params, YAML(typ="safe").load(content), where="params.yaml")
        return Space.of(params, "sasrec").study("data")

    assert name(PARAMS) == name(PARAMS.replace("dropout: 0.5}", "dropout: 0.1}", 1))
    assert name(PARAMS) == name(PARAMS.replace("trials: 6", "trials: 60"))
    others = {
        name(PARAMS),
        name(PARAMS.replace("low: 0.0", "low: 0.1")),
        name(PARAMS.replace("dim: 8", "dim: 16")),
        name(PARAMS.replace("lr: 0.01", "lr: 0.02")),
        name(PARAMS.replace("exclude_seen: false", "exclude_seen: true")),
    }
    assert len(others) == 5
    assert all(each.startswith("sasrec-") for each in others)


def test_values_that_came_meanwhile_are_not_overwritten(project: Project, trainings: Trainings) -> None:
    path = project.root / "params.yaml"
    by_hand = PARAMS.replace("dropout: 0.5}", "dropout: 0.444}").replace("dim: 8", "dim: 16")

    def quality(section: dict[str, Any]) -> float:
        path.write_text(by_hand)
        return 1 - section["dropout"]

    trainings.quality = quality
    outcome = tuned(project)
    assert "params.yaml was changed meanwhile, and stays as it is" in outcome.verdict
    assert path.read_text() == by_hand


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "dropout: {low: 0.0",
            "dropuot: {low: 0.0",
            r"models\.sasrec\.dropuot: .*unknown key; did you mean `dropout`\?",
        ),
        ("high: 0.5}", "high: 1.5}", r"tune\.models\.sasrec\.dropout: 1\.5 is refused: .*less than 1"),
        ("low: 0.0", "low: -1", r"tune\.models\.sasrec\.dropout: -1 is refused: .*greater than or equal to 0"),
        ("dropout: {low: 0.0, high: 0.5}", "dim: [8, 0]", r"tune\.models\.sasrec\.dim: 0 is refused"),
        ("dropout: {low: 0.0, high: 0.5}", "dim.x: [8, 9]", r"tune\.models\.sasrec\.dim\.x: 8 is refused"),
        ("dropout: {low: 0.0, high: 0.5}", "train.lr: [0.01, -1]", r"train\.lr: -1 is refused: .*greater than 0"),
        ("dropout: {low: 0.0, high: 0.5}", "train.learn: [0, 1]", r"train\.learn: unknown key"),
        (
            "dropout: {low: 0.0, high: 0.5}",
            "train.batch_tokens: {low: 4, high: 64}",
            r"batch_tokens: 4 is refused: .*must be above max_history",
        ),
        ("dropout: 0.5}", "dropout: 0.7}", r"dropout: the present value, 0\.7, is not in it"),
        ("sasrec:\n      drop", "mf:\n      drop", r"does not say what to search for sasrec\n.*spaces for: mf"),
    ],
)
def test_a_space_that_cannot_be_is_refused_by_name_before_any_trial(
    project: Project, trainings: Trainings, old: str, new: str, message: str
) -> None:
    assert old in PARAMS
    (project.root / "params.yaml").write_text(PARAMS.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        tuned(project)
    assert not trainings.epochs
    assert not (project.var / "recloop.db").exists()


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        ("{low: 3, high: 1}", r"goes from 3 to 1; low is to be below high"),
        ("{low: 0, high: 1, log: true}", r"low is to be above 0 where log is true"),
        ("{low: 0, hihg: 1}", r"hihg: unknown key; did you mean `high`\?"),
        ("[1]", r"name at least two values, each once"),
        ("[1, 1]", r"name at least two values, each once"),
        ("5", r"tune\.models\.sasrec\.dim\.range"),
    ],
)
def test_a_dimension_that_is_none_is_named(tmp_path: Path, dimension: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(space_of(dim=dimension))
    with pytest.raises(ConfigError, match=message):
        load_params(path)


def test_a_model_that_is_not_there_is_named(project: Project) -> None:
    with pytest.raises(ConfigError, match=r"no model is called 'sasrek'; did you mean `sasrec`\?"):
        tune(project, "sasrek")
    with pytest.raises(ConfigError, match=r"no section models\.mf"):
        tune(project, "mf")


def space(models: Mapping[str, Any], dimensions: Mapping[str, Any], name: str, **train: Any) -> Space:
    content = {
        "source": {"kind": "movielens-100k"},
        "zoo": [name],
        "models": models,
        "train": train,
        "tune": {"models": {name: dimensions}},
    }
    return Space.of(validated(Params, content, where="params.yaml"), name)


def trained_with(given: Space, **settings: Any) -> Train:
    """What the model trains with when `settings` are tried."""
    config = model_config(given.name, given.accepted(settings))
    assert isinstance(config, LearnerConfig)
    return effective(given.name, given.params.train, config)


def test_a_setting_of_train_keeps_what_the_model_trains_with_otherwise() -> None:
    given = space({"mf": {"dim": 8}}, {"train.lr": [0.01, 0.02]}, "mf")
    assert given.present == {"train.lr": 0.01}
    assert given.changes({"train.lr": 0.02}) == {"models.mf.train": {"lr": 0.02}}
    assert given.changes({"train.lr": 0.01}) == {}
    found = trained_with(given, **{"train.lr": 0.02})
    assert (found.lr, found.epochs, found.patience) == (0.02, 60, 6)


def test_a_setting_of_the_shared_loss_leaves_the_rest_of_it() -> None:
    given = space(
        {"sasrec": {"train": {"lr": 0.01}}},
        {"train.loss.negatives": {"low": 16, "high": 512, "log": True}},
        "sasrec",
        loss={"kind": "gbce", "calibration": 0.5},
    )
    assert given.present == {"train.loss.negatives": 256}
    assert given.changes({"train.loss.negatives": 64}) == {"models.sasrec.train.loss": {"negatives": 64}}
    found = trained_with(given, **{"train.loss.negatives": 64})
    assert found.loss == Loss(kind="gbce", calibration=0.5, negatives=64)


def test_what_is_searched_changes_nothing_else() -> None:
    models = {"neumf": {"train": {"loss": {"negatives": 512}}}}
    given = space(models, {"train.lr": [0.002, 0.02]}, "neumf", loss={"kind": "bce", "popularity": 0.5})
    assert given.present == {"train.lr": 0.002}
    before, after = trained_with(given), trained_with(given, **{"train.lr": 0.02})
    assert after == before.model_copy(update={"lr": 0.02})
    assert before.loss == Loss(kind="sampled_softmax", popularity=0.5, negatives=512)


def test_a_loss_that_a_model_cannot_have_is_refused_before_any_trial() -> None:
    with pytest.raises(
        ConfigError, match=r'neumf\.train\.loss\.kind: "cross_entropy" is refused: neumf cannot be trained'
    ):
        space({"neumf": {}}, {"train.loss.kind": ["sampled_softmax", "cross_entropy"]}, "neumf")


def test_a_choice_may_be_of_anything_the_model_takes() -> None:
    given = space({"mlp": {"hidden": [8]}}, {"hidden": [[8], [16, 8]]}, "mlp")
    assert given.present == {"hidden": [8]}
    assert given.changes({"hidden": [16, 8]}) == {"models.mlp.hidden": [16, 8]}


def test_mlflow_has_a_run_for_the_study_and_one_below_it_for_each_trial(
    project: Project, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "open_tracking", open_tracking)

    def quality(section: dict[str, Any]) -> float:
        if section["dropout"] == 0.2:
            raise ModelError("it diverged")
        return 1 - section["dropout"]

    trainings.quality = quality
    (project.root / "params.yaml").write_text(space_of(dropout="[0.5, 0.2, 0.3, 0.9]"))
    outcome = tuned(project, trials=8)
    tuned(project, trials=9)  # the same study: the same run

    tracking = open_tracking(project)
    runs = tracking.client.search_runs([tracking.experiment_id], max_results=100)
    (parent,) = [run for run in runs if run.data.tags["recloop.stage"] == "tune"]
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "tune sasrec"
    assert parent.data.tags["recloop.study"] == outcome.study
    assert parent.data.tags["recloop.best.dropout"] == "0.3"
    assert parent.data.metrics["ndcg_at_10"] == pytest.approx(0.7)
    assert parent.data.params["space.dropout"] == "[0.5, 0.2, 0.3, 0.9]"
    children = {run.data.tags["recloop.trial"]: run for run in runs if run is not parent}
    assert len(children) == 9
    for each in outcome.trials:
        run = children[str(each.number)]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["recloop.outcome"] == each.state
        assert run.info.status == ("FAILED" if each.state == "failed" else "FINISHED")
        assert run.data.params == {"dropout": str(each.settings["dropout"])}
    assert {each.state for each in outcome.trials} == {"complete", "pruned", "failed"}
    curve = tracking.client.get_metric_history(children["0"].info.run_id, "ndcg_at_10")
    assert [metric.step for metric in curve] == [1, 2, 3, 4, 5, 6]
    assert [metric.value for metric in curve] == pytest.approx([0.5 * epoch / 6 for epoch in range(1, 7)])


def test_tuning_goes_on_without_mlflow(project: Project, trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "open_tracking", open_tracking)
    monkeypatch.setenv("RECLOOP_MLFLOW_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    warnings: list[str] = []
    outcome = tuned(project, warn=warnings.append)
    assert len(outcome.trials) == 6
    (warning,) = warnings
    assert "nothing is written to MLflow" in warning


def test_a_database_that_is_down_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECLOOP_DATABASE_URL", "postgresql+psycopg://u:secret@127.0.0.1:9/x?connect_timeout=2")
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1:9/x") as caught:
        tuned(project)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresqls_own_url_is_taken_by_optuna_too(project: Project, database_url: str) -> None:
    url = database_url.replace("postgresql+psycopg:", "postgresql:", 1)
    with opened(url, "plain", Space.of(project.params, "sasrec"), seed=1) as study:
        assert [trial.state for trial in tried(study)] == ["waiting"]


def test_the_shipped_spaces_hold_the_shipped_settings() -> None:
    from tests.conftest import ROOT

    params = load_params(ROOT / "params.yaml")
    assert set(params.tune.models) <= set(params.models)
    for name in params.tune.models:
        assert Space.of(params, name).present


def test_trials_are_read_back_as_they_were(project: Project, trainings: Trainings) -> None:
    outcome = tuned(project)
    with opened(project.database_url, outcome.study, Space.of(project.params, "sasrec"), seed=1) as study:
        found = tried(study)
    assert [each for each in found if each.state != "waiting"] == list(outcome.trials)
