"""One step: in pieces where memory is short, clipped, at the rate of the schedule, and by several processes."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recloop.config import Evaluate, Train
from recloop.models.base import Learner, Predictions
from recloop.models.sasrec import Sasrec
from recloop.training import fit
from recloop.training.averaging import Average
from recloop.training.distribution import Processes
from recloop.training.losses import build_criterion
from recloop.training.schedule import rate_factor
from recloop.training.step import NotFiniteError, Stepper
from tests.histories import prepared_of, walks
from tests.zoo import batch_of, some_model

BATCH = batch_of([1, 2, 3], [4], [5, 6, 7, 8, 9], [0, 1], weights=[1, 2, 0.5, 1, 1, 1, 3, 0, 1, 1, 1])


def stepped(told: list[str] | None = None, *, name: str = "sasrec", **settings: Any) -> tuple[Learner, float]:
    """A small model, without dropout, after one step of plain gradient descent, and the loss."""
    model = some_model(name, max_history=8)
    assert isinstance(model, Learner)
    how = Train(**{"optimizer": "sgd", "lr": 0.1} | settings)
    criterion = build_criterion(how.loss, model, torch.ones(12))
    stepper = Stepper(model, criterion, how, Processes(), warn=(told if told is not None else []).append)
    return model, stepper.step(BATCH, 0.5)


def assert_close(one: Learner, other: Learner) -> None:
    for name, tensor in one.state_dict().items():
        assert torch.allclose(tensor, other.state_dict()[name], atol=1e-5), name


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
@pytest.mark.parametrize("name", ["sasrec", "bert4rec"])
@pytest.mark.parametrize("loss", ["cross_entropy", "sampled_softmax"])
def test_a_batch_that_does_not_fit_is_learnt_from_in_pieces_to_the_same_effect(
    monkeypatch: pytest.MonkeyPatch, error: Exception, name: str, loss: str
) -> None:
    settings = {"name": name, "loss": {"kind": loss, "negatives": 5}}
    whole, value = stepped(**settings)
    predicts, told = type(whole).predictions, []  # type: ignore[attr-defined]

    def predictions(self: Sasrec, batch: Any) -> Predictions:
        if batch.events > 6:
            raise error
        asked: Predictions = predicts(self, batch)
        return asked

    monkeypatch.setattr(type(whole), "predictions", predictions)
    pieces, same_value = stepped(told, **settings)
    assert same_value == pytest.approx(value, rel=1e-6)
    assert_close(pieces, whole)
    assert len(told) == 2  # two pieces, one of them too large: four
    assert f"{name}: out of memory; from here on each batch is learnt from in 4 pieces, to the same effect" in told[1]
    assert "train.batch_tokens" in told[1]


def test_an_attempt_that_ran_out_of_memory_going_back_lets_go_of_all_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, loss = stepped()
    predicts, made, left = Sasrec.predictions, [], []

    def predictions(self: Sasrec, batch: Any) -> Predictions:
        left.append([each for each in made if each() is not None])
        asked = predicts(self, batch)

        def full(_: torch.Tensor) -> None:
            if batch.events > 6:
                raise torch.OutOfMemoryError

        asked.queries.register_hook(full)
        made.append(weakref.ref(asked.queries))
        return asked

    monkeypatch.setattr(Sasrec, "predictions", predictions)
    pieces, same_loss = stepped()
    assert same_loss == pytest.approx(loss, rel=1e-6)
    assert_close(pieces, whole)
    assert len(left) > 3
    assert not any(left)


@pytest.mark.parametrize("loss", ["cross_entropy", "sampled_softmax"])
def test_a_step_leaves_nothing_to_where_a_random_generator_stands(loss: str) -> None:
    def step(already_drawn: int) -> Learner:
        model = some_model("sasrec", max_history=8).train()
        assert isinstance(model, Learner)
        how = Train(loss={"kind": loss, "negatives": 5}, optimizer="sgd", lr=0.1)
        stepper = Stepper(model, build_criterion(how.loss, model, torch.ones(12)), how, Processes(), warn=print)
        torch.rand(already_drawn)
        stepper.step(BATCH, 0.5)
        return model

    assert_close(step(0), step(5))
    assert not torch.equal(step(0).get_parameter("items.weight"), stepped()[0].get_parameter("items.weight"))


def test_where_not_even_one_sequence_fits_the_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def predictions(*_: object) -> Predictions:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Sasrec, "predictions", predictions)
    with pytest.raises(torch.OutOfMemoryError):
        stepped()


def test_a_clipped_step_goes_the_same_way_but_no_farther() -> None:
    start = some_model("sasrec", max_history=8)

    def moved(model: Learner) -> torch.Tensor:
        old = start.state_dict()
        return torch.cat([(tensor - old[name]).flatten() for name, tensor in model.state_dict().items()])

    plain, clipped = moved(stepped()[0]), moved(stepped(clip_norm=0.01)[0])
    assert plain.norm() > 0.1 * 0.01
    assert clipped.norm().item() == pytest.approx(0.1 * 0.01, rel=1e-3)
    assert torch.cosine_similarity(plain, clipped, dim=0).item() == pytest.approx(1, abs=1e-3)


def test_a_gradient_that_is_no_number_stops_before_it_reaches_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    predicts, start = Sasrec.predictions, some_model("sasrec", max_history=8)

    def predictions(self: Sasrec, batch: Any) -> Predictions:
        self.get_parameter("norm.bias").register_hook(lambda gradient: gradient * math.nan)
        models.append(self)
        return predicts(self, batch)

    models: list[Sasrec] = []
    monkeypatch.setattr(Sasrec, "predictions", predictions)
    with pytest.raises(NotFiniteError, match="a gradient became infinite or no number"):
        stepped()
    assert_close(models[0], start)


def test_hidden_events_that_weigh_nothing_teach_nothing() -> None:
    batch = replace(batch_of([1, 2, 3, 4, 5, 6, 7, 8], weights=[1, 1, 1, 1, 1, 1, 1, 0]), chances=torch.zeros(8))
    model = some_model("bert4rec", max_history=8)
    assert isinstance(model, Learner)
    how = Train(optimizer="sgd")
    stepper = Stepper(model, build_criterion(how.loss, model, torch.ones(12)), how, Processes(), warn=print)
    assert stepper.step(batch, 0.5) == 0


def test_the_rate_rises_then_falls_to_nothing() -> None:
    def factors(schedule: Any) -> list[float]:
        return [round(rate_factor(schedule, 0.2, progress), 3) for progress in (0, 0.1, 0.2, 0.6, 1)]

    assert factors("constant") == [0, 0.5, 1, 1, 1]
    assert factors("linear") == [0, 0.5, 1, 0.5, 0]
    assert factors("cosine") == [0, 0.5, 1, 0.5, 0]
    assert rate_factor("cosine", 0.0, 0.25) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert rate_factor("linear", 1.0, 0.5) == 0.5


def test_the_rate_of_the_schedule_is_what_is_stepped_by() -> None:
    half = stepped(lr=0.1, schedule="linear")[0]  # half of the training is done
    assert_close(half, stepped(lr=0.05)[0])


def test_the_average_forgets_the_start_and_then_keeps_its_share() -> None:
    model = some_model("sasrec")
    assert isinstance(model, Learner)
    weight = model.get_parameter("items.weight").data
    average = Average(model, 0.2)
    found = []
    for value in (1.0, 2.0, 3.0, 4.0):
        weight.fill_(value)
        average.update(model)
        found.append(average.model.get_parameter("items.weight")[0, 0].item())
    # Kept at each step: nothing, then 2/11, then a share of 0.2 at most.
    assert found == pytest.approx([1, 2 / 11 + 2 * 9 / 11, 0.2 * 20 / 11 + 0.8 * 3, 0.2 * (0.2 * 20 / 11 + 2.4) + 3.2])
    assert model.get_parameter("items.weight")[0, 0].item() == 4


# Several processes.


def learnt(out: Path, *, dropout: float = 0.0, epochs: int = 12, kill_at: int = 0) -> None:
    """What each of the processes does; the first one writes what came of it."""
    from recloop.training import is_first

    def on_epoch(number: int, _: Mapping[str, float]) -> None:
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    how = {"lr": 0.01, "patience": epochs, "batch_tokens": 64, "max_history": 8, "threads": 1}
    result = fit(
        "sasrec",
        prepared_of(walks(users=31, items=10, length=9), items=10),
        Train(**how, epochs=epochs, loss={"kind": "sampled_softmax", "negatives": 8} if dropout else {}),
        Evaluate(exclude_seen=False),
        {"dim": 16, "dropout": dropout},
        progress=False,
        on_epoch=on_epoch,
        checkpoint=out.with_suffix(".checkpoint"),
    )
    if is_first():
        result.model.save(out)
        (out / "curve.json").write_text(json.dumps([[epoch.loss, epoch.ndcg_at_10] for epoch in result.curve]))


def by_two(out: Path, **how: Any) -> int:
    """`learnt`, by two processes. Returns the exit status."""
    script = out.with_suffix(".py")
    call = f"learnt(Path({str(out)!r}), **{how!r})"
    script.write_text(f"from pathlib import Path\nfrom tests.unit.test_step import learnt\n{call}\n")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--local-addr=127.0.0.1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *torchrun, str(script)]
    return subprocess.run(command, env=environment, check=False, timeout=120, capture_output=True).returncode


def test_two_processes_give_the_quality_of_one(tmp_path: Path) -> None:
    assert by_two(tmp_path / "two") == 0
    learnt(tmp_path / "one")
    one, two = (json.loads((tmp_path / name / "curve.json").read_text()) for name in ("one", "two"))
    assert len(two) == len(one) == 12
    # The same steps but for the order of sums, which later epochs make more of.
    for (loss, ndcg), (other_loss, other_ndcg) in zip(one[:3], two[:3], strict=True):
        assert other_loss == pytest.approx(loss, rel=1e-3)
        assert other_ndcg == pytest.approx(ndcg, abs=0.02)
    assert max(ndcg for _, ndcg in two) > 0.95
    assert max(ndcg for _, ndcg in one) > 0.95


def test_two_processes_that_were_killed_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    assert by_two(tmp_path / "whole", dropout=0.3, epochs=4) == 0
    assert by_two(tmp_path / "again", dropout=0.3, epochs=4, kill_at=3) != 0
    assert (tmp_path / "again.checkpoint").exists()
    assert by_two(tmp_path / "again", dropout=0.3, epochs=4) == 0
    for file in ("model.safetensors", "curve.json"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
