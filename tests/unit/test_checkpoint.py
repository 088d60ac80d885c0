"""A training that was stopped goes on as if it had not been, and what does not fit is refused by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from recloop.config import Evaluate, Train
from recloop.errors import ModelError
from recloop.models.base import Learner
from recloop.models.catalogue import CATALOGUE, model_class
from recloop.training import FitResult, fit
from recloop.training.checkpoint import Checkpoint
from tests.histories import prepared_of, walks
from tests.zoo import SMALL

TRAIN = Train(lr=0.01, epochs=5, patience=5, batch_tokens=64, max_history=8, schedule="cosine", warmup=0.2)
MODEL = {"dim": 8, "dropout": 0.3}


class Stopped(Exception):
    """The training is broken off."""


def stop() -> None:
    raise Stopped


def trained(
    path: Path | None = None,
    *,
    stop_at: int = 0,
    told: list[str] | None = None,
    progress: bool = False,
    **changes: Any,
) -> FitResult:
    """Train, and break off where the epoch `stop_at` has just been learnt, before its state is written."""

    def on_epoch(number: int, _: Mapping[str, float]) -> None:
        if number == stop_at:
            stop()

    return fit(
        "sasrec",
        prepared_of(walks(users=30, items=10, length=9), items=10),
        TRAIN.model_copy(update=changes),
        Evaluate(exclude_seen=False),
        MODEL,
        progress=progress,
        checkpoint=path,
        on_epoch=on_epoch,
        warn=(told if told is not None else []).append,
    )


def assert_same(one: FitResult, other: FitResult) -> None:
    assert [(epoch.loss, dict(epoch.valid)) for epoch in one.curve] == [
        (epoch.loss, dict(epoch.valid)) for epoch in other.curve
    ]
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name])


@pytest.mark.parametrize("changes", [{"optimizer": "adamw"}, {"optimizer": "sgd"}, {"average": 0.9}])
def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path, changes: dict[str, Any]) -> None:
    path, told = tmp_path / "a.safetensors", []
    with pytest.raises(Stopped):
        trained(path, stop_at=3, **changes)
    assert path.exists()
    whole = trained(**changes)
    assert_same(trained(path, told=told, **changes), whole)
    assert_same(trained(path, told=told, **changes), whole)  # its end is kept until the result is
    assert told == []


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("epoch", "said"),
    [
        (1, "sasrec: interrupted"),
        (3, "sasrec: interrupted; the state after epoch 2 is kept, and the same command goes on with it"),
    ],
)
def test_ctrl_c_is_answered_with_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], epoch: int, said: str
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "stop", interrupt)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "a.safetensors", stop_at=epoch, progress=True)
    assert capsys.readouterr().err.splitlines()[-1] == said


def test_going_on_says_from_where_and_does_not_tell_the_epochs_before_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "var" / "a.safetensors"
    with pytest.raises(Stopped):
        trained(path, stop_at=3)
    trained(path, progress=True)
    first, *epochs = capsys.readouterr().err.splitlines()
    assert first == "sasrec: going on after epoch 2 (from var/a.safetensors)"
    assert [line.partition(":")[0] for line in epochs] == [f"sasrec epoch {number}/5" for number in (3, 4, 5)]


def test_it_does_so_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    code = (
        "import os, signal, sys; from pathlib import Path; import tests.unit.test_checkpoint as t\n"
        "t.stop = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.trained(Path(sys.argv[1]), stop_at=4)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(Checkpoint.load(path, identity_of(path)).curve) == 3
    assert_same(trained(path), trained())


def identity_of(path: Path) -> Mapping[str, Any]:
    """What a checkpoint says it is of."""
    import json

    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        identity: Mapping[str, Any] = json.loads(file.metadata()["recloop"])["identity"]
    return identity


def test_the_epochs_before_are_told_again_so_that_the_curve_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(Stopped):
        trained(path, stop_at=3)
    seen = []
    fit(
        "sasrec",
        prepared_of(walks(users=30, items=10, length=9), items=10),
        TRAIN,
        Evaluate(exclude_seen=False),
        MODEL,
        progress=False,
        checkpoint=path,
        on_epoch=lambda number, _: seen.append(number),
    )
    assert seen == [1, 2, 3, 4, 5]


def test_a_checkpoint_of_another_config_is_not_used_and_what_differs_is_named(tmp_path: Path) -> None:
    path, told = tmp_path / "a.safetensors", []
    with pytest.raises(Stopped):
        trained(path, stop_at=3)
    identity = identity_of(path)
    with pytest.raises(ModelError, match=r"of another training: train\.lr was 0\.01 and is 0\.02\n.*remove"):
        Checkpoint.load(path, dict(identity) | {"train.lr": 0.02})
    assert_same(trained(path, told=told, lr=0.02), trained(lr=0.02))
    assert len(told) == 1
    assert "train.lr was 0.01 and is 0.02" in told[0]
    assert "begins anew" in told[0]


def test_a_checkpoint_whose_epochs_were_judged_otherwise_is_not_used(tmp_path: Path) -> None:
    path, told = tmp_path / "a.safetensors", []
    with pytest.raises(Stopped):
        trained(path, stop_at=3)
    prepared = prepared_of(walks(users=30, items=10, length=9), items=10)
    fit("sasrec", prepared, TRAIN, Evaluate(), MODEL, progress=False, checkpoint=path, warn=told.append)
    assert "evaluate.exclude_seen was False and is True" in told[0]


def test_a_checkpoint_that_is_damaged_is_not_used(tmp_path: Path) -> None:
    path, told = tmp_path / "a.safetensors", []
    with pytest.raises(Stopped):
        trained(path, stop_at=3)
    path.write_bytes(path.read_bytes()[:500])
    assert_same(trained(path, told=told), trained())
    assert "is damaged" in told[0]


def test_a_training_that_diverges_keeps_the_last_good_state_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recloop.training.step import NotFiniteError, Stepper

    path, takes, steps = tmp_path / "a.safetensors", Stepper.step, []

    def step(self: Stepper, *arguments: Any) -> float:
        steps.append(1)
        if len(steps) > 9:  # four batches an epoch
            raise NotFiniteError("the loss became nan")
        return takes(self, *arguments)

    monkeypatch.setattr(Stepper, "step", step)
    with pytest.raises(ModelError, match=r"became nan in epoch 3.*after epoch 2 is kept in .*\n.*lower the learning"):
        trained(path)
    assert len(Checkpoint.load(path, identity_of(path)).curve) == 2


@pytest.mark.parametrize("name", [name for name in CATALOGUE if issubclass(model_class(name), Learner)])
def test_every_model_that_learns_gives_the_same_bits_again_and_when_it_is_stopped(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"

    def learn(checkpoint: Path | None, stop_at: int = 0) -> FitResult:
        def on_epoch(number: int, _: Mapping[str, float]) -> None:
            if number == stop_at:
                stop()

        train = TRAIN.model_copy(update={"epochs": 2, "average": 0.5})
        params = SMALL[name] | {"train": {"epochs": 2}}
        prepared = prepared_of(walks(users=20, items=10, length=9), items=10)
        judged = Evaluate(exclude_seen=False)
        return fit(name, prepared, train, judged, params, progress=False, checkpoint=checkpoint, on_epoch=on_epoch)

    whole = learn(None)
    assert_same(learn(None), whole)
    with pytest.raises(Stopped):
        learn(path, stop_at=2)
    assert path.exists()
    assert_same(learn(path), whole)


@pytest.mark.parametrize("name", [name for name in CATALOGUE if not issubclass(model_class(name), Learner)])
def test_every_model_that_is_computed_gives_the_same_bits_again(name: str) -> None:
    prepared = prepared_of(walks(users=20, items=10, length=9), items=10)
    one, other = (fit(name, prepared, TRAIN, Evaluate(exclude_seen=False), SMALL[name], progress=False) for _ in "ab")
    assert_same(one, other)
