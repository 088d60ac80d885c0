"""The training loop: the best epoch is kept, two runs give the same bytes, and what goes wrong is explained."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from recloop.config import Augment, Evaluate, Loss, Train, validated
from recloop.data.batches import Batch
from recloop.data.prepared import Prepared
from recloop.errors import ConfigError, ModelError, StageError
from recloop.evaluation import Examination
from recloop.models.base import Predictions
from recloop.models.bpr_mf import BprMfConfig
from recloop.models.sasrec import Sasrec
from recloop.training import FitResult, fit, save_fit
from recloop.training.determinism import choose_device, deterministic
from recloop.training.progress import TrainingProgress
from recloop.training.result import Epoch
from tests.histories import prepared_of, walks

QUICK = Train(lr=0.01, epochs=4, patience=4, batch_tokens=64, max_history=8)
JUDGED = Evaluate(exclude_seen=False)


def data() -> Prepared:
    return prepared_of(walks(users=30, items=10, length=9), items=10)


def trained(name: str = "sasrec", train: Train = QUICK, **params: Any) -> FitResult:
    params = {"dim": 8} | params if name != "popularity" else params
    return fit(name, data(), train, JUDGED, params, progress=False)


@pytest.mark.parametrize("name", ["popularity", "mf", "sasrec"])
def test_two_trainings_leave_the_same_bytes(name: str, tmp_path: Path) -> None:
    for run in ("a", "b"):
        save_fit(trained(name), tmp_path / run / "model", tmp_path / run / "reports", name)
        torch.rand(7)  # what was drawn in between does not matter
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert [str(file) for file in files] == [
        "model/model.json",
        "model/model.safetensors",
        f"reports/curves/{name}.csv",
        f"reports/training/{name}.json",
    ]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_another_seed_gives_another_model() -> None:
    one, other = trained(), trained(train=QUICK.model_copy(update={"seed": 1}))
    assert not torch.equal(one.model.item_matrix(), other.model.item_matrix())


def test_the_reports_say_what_was_trained(tmp_path: Path) -> None:
    result = trained()
    save_fit(result, tmp_path / "model", tmp_path / "reports", "sasrec")
    report = json.loads((tmp_path / "reports" / "training" / "sasrec.json").read_text())
    assert set(report) == {"best_epoch", "epochs", "valid", "parameters", "padding_share"}
    assert report["valid"]["ndcg_at_10"] == result.best.ndcg_at_10
    assert report["parameters"] == sum(weight.numel() for weight in result.model.parameters())
    with (tmp_path / "reports" / "curves" / "sasrec.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert float(rows[report["best_epoch"] - 1]["ndcg_at_10"]) == report["valid"]["ndcg_at_10"]


def test_a_model_that_is_computed_at_once_has_a_curve_of_one_point(tmp_path: Path) -> None:
    result = trained("popularity")
    save_fit(result, tmp_path / "model", tmp_path / "reports", "popularity")
    assert (result.best_epoch, result.epochs) == (0, 0)
    assert (tmp_path / "reports" / "curves" / "popularity.csv").read_text().splitlines() == [
        "epoch,loss,ndcg_at_10",
        f"0,,{result.best.ndcg_at_10!r}",
    ]


def test_a_model_that_was_there_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "left over").touch()
    save_fit(trained("popularity"), tmp_path / "model", tmp_path / "reports", "popularity")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]


# Early stopping.


def scripted(monkeypatch: pytest.MonkeyPatch, qualities: list[float]) -> list[Tensor]:
    """Validation finds these NDCG@10 one after another. Returns the item matrices it was shown, in order."""
    shown: list[Tensor] = []

    class Script:
        user_count = 1

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def sums(self, model: Sasrec) -> dict[str, float]:
            shown.append(model.item_matrix().detach().clone())
            return {"ndcg_at_10": qualities[len(shown) - 1], "recall_at_10": qualities[len(shown) - 1]}

    monkeypatch.setattr("recloop.training.loop.Examination", Script)
    return shown


def test_the_weights_of_the_best_epoch_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = scripted(monkeypatch, [0.1, 0.3, 0.2, 0.3])
    result = trained()
    assert (result.best_epoch, result.epochs) == (2, 4)  # the first of equals
    assert torch.equal(result.model.item_matrix(), shown[1])
    assert not torch.equal(result.model.item_matrix(), shown[3])


def test_training_stops_when_nothing_has_been_better_for_patience_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.3, 0.4, 0.2, 0.1, 0.9])
    result = trained(train=QUICK.model_copy(update={"epochs": 5, "patience": 2}))
    assert (result.best_epoch, result.epochs) == (2, 4)


def test_each_epoch_is_told_as_it_ends() -> None:
    told: list[tuple[int, Mapping[str, float]]] = []
    result = fit(
        "sasrec",
        data(),
        QUICK,
        JUDGED,
        {"dim": 8},
        on_epoch=lambda number, metrics: told.append((number, metrics)),
        progress=False,
    )
    assert [number for number, _ in told] == [1, 2, 3, 4]
    assert [metrics["loss"] for _, metrics in told] == [epoch.loss for epoch in result.curve]
    assert all(metrics["events_per_second"] > 0 for _, metrics in told)


# Settings.


def test_what_a_model_sets_for_itself_wins_over_the_common_settings() -> None:
    params = {"dim": 8, "train": {"epochs": 2}}
    assert fit("sasrec", data(), QUICK, JUDGED, params, progress=False).epochs == 2


def test_what_a_model_is_not_told_stays_as_the_model_has_it() -> None:
    told = BprMfConfig.model_validate({"train": {"lr": 0.5, "loss": {"negatives": 7}, "patience": None}})
    assert told.train.loss == Loss(kind="bpr", negatives=7)
    assert (told.train.lr, told.train.epochs, told.train.patience) == (0.5, 60, None)
    saved = BprMfConfig.model_validate(told.model_dump(mode="json"))
    assert saved == told


@pytest.mark.parametrize("name", ["mf", "mlp", "sasrec"])
def test_an_epoch_is_judged_by_the_weights_it_ended_with(name: str) -> None:
    params = {} if name == "mlp" else {"dim": 8}
    train = QUICK.model_copy(update={"lr": 0.02})
    result = fit(name, data(), train, JUDGED, params, progress=False)
    assert result.best_epoch > 1
    assert Examination(data(), "valid", JUDGED, 8).at_a_glance(result.model) == dict(result.valid)


def test_augmentation_that_a_model_does_not_look_at_is_told_of() -> None:
    train = QUICK.model_copy(update={"augment": Augment(mask=0.2), "epochs": 1})
    told: list[str] = []
    fit("mf", data(), train, JUDGED, {"dim": 8, "train": {"epochs": 1}}, progress=False, warn=told.append)
    fit("sasrec", data(), train, JUDGED, {"dim": 8}, progress=False, warn=told.append)
    assert told == ["mf learns from no histories: of augment.* only crop changes what it learns from"]


def test_a_batch_must_hold_a_whole_history() -> None:
    with pytest.raises(ConfigError, match=r"batch_tokens must be above max_history \(8\).*got 8"):
        validated(Train, {"batch_tokens": 8, "max_history": 8}, where="train")
    with pytest.raises(ConfigError, match=r"models\.sasrec\.train: batch_tokens must be above max_history"):
        fit("sasrec", data(), QUICK, JUDGED, {"train": {"batch_tokens": 8}}, progress=False)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_every_optimizer_learns(optimizer: str) -> None:
    lr = 1.0 if optimizer == "sgd" else 0.01
    result = trained(train=QUICK.model_copy(update={"optimizer": optimizer, "lr": lr}))
    first, last = result.curve[0].loss, result.curve[-1].loss
    assert first is not None
    assert last is not None
    assert last < first - 0.05


def test_decay_draws_weights_towards_zero() -> None:
    free, held = trained(), trained(train=QUICK.model_copy(update={"weight_decay": 50.0}))
    assert held.model.item_matrix().norm() < 0.8 * free.model.item_matrix().norm()


def test_a_gpu_that_is_wanted_and_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match=r"train\.device is cuda(?s:.*)set train\.device to auto or cpu"):
        choose_device("cuda")


def test_torch_is_as_it_was_after_a_training() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    with deterministic(seed=1, threads=threads + 1):
        torch.rand(7)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == threads + 1
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(3), wanted)


# What goes wrong.


def test_a_training_that_diverges_names_the_epoch_the_rate_and_the_remedy() -> None:
    with pytest.raises(ModelError, match=r"sasrec: the loss became nan in epoch \d, at a learning rate of 1e\+30") as e:
        trained(train=QUICK.model_copy(update={"lr": 1e30}))
    assert e.value.remedy is not None
    assert "train.lr" in e.value.remedy


def test_scores_that_are_not_finite_at_the_end_of_an_epoch_are_explained_like_a_loss() -> None:
    train = QUICK.model_copy(update={"lr": 1e38, "batch_tokens": 4096, "optimizer": "sgd"})
    with pytest.raises(ModelError, match=r"scores became infinite or no numbers in epoch 1, at.*1e\+38\n.*lower the l"):
        trained(train=train)


def test_an_infinite_loss_in_a_later_epoch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    learns, batches = Sasrec.predictions, []

    def predictions(self: Sasrec, batch: Batch) -> Predictions:
        batches.append(batch)
        asked = learns(self, batch)
        return replace(asked, queries=asked.queries * (math.inf if len(batches) > 4 else 1))

    monkeypatch.setattr(Sasrec, "predictions", predictions)
    with pytest.raises(ModelError, match=r"the loss became nan in epoch 2, at a learning rate of 0\.01"):
        trained()  # 210 events make four batches an epoch


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_is_explained(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def predictions(*_: object) -> Predictions:
        raise error

    monkeypatch.setattr(Sasrec, "predictions", predictions)
    with pytest.raises(ModelError, match=r"out of memory\n.*lower train\.batch_tokens"):
        trained()


def test_another_error_of_torch_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def predictions(*_: object) -> Predictions:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Sasrec, "predictions", predictions)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        trained()


@pytest.mark.parametrize("name", ["popularity", "sasrec"])
def test_nothing_to_learn_from_is_refused(name: str) -> None:
    for nothing in (prepared_of([[0, 1]], items=2), prepared_of([[0, 1, 0]], items=2, weights=[[0, 0, 0]])):
        with pytest.raises(StageError, match="the training period holds no event of any weight"):
            fit(name, nothing, QUICK, JUDGED, {}, progress=False)


def test_nothing_to_choose_on_is_refused() -> None:
    with pytest.raises(StageError, match="the valid period has no cases"):
        fit("popularity", prepared_of([[0, 1]], items=2, held_out=0), QUICK, JUDGED, {}, progress=False)


# What a person sees.


def show(console: Console) -> None:
    with TrainingProgress("sasrec", epochs=3, events=10, console=console) as progress:
        progress.step(10, 2.5)
        progress.epoch(Epoch(1, 2.5, {"ndcg_at_10": 0.125}, 2.0, 10), last=False)
        progress.step(10, 1.5)
        progress.epoch(Epoch(2, 1.5, {"ndcg_at_10": 0.1}, 2.0, 10), last=True)


def test_a_bar_of_a_training_that_goes_on_counts_what_was_learnt_before() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    with TrainingProgress("sasrec", epochs=4, events=10, console=terminal) as progress:
        progress.resume([Epoch(1, 2.5, {"ndcg_at_10": 0.125}, 2.0, 10)], last=False, source=Path("/state"))
        progress.step(10, 2.25)
        assert progress._bar.tasks[0].completed == 20
        progress.epoch(Epoch(2, 2.25, {"ndcg_at_10": 0.25}, 2.0, 10), last=True)
        assert progress._bar.tasks[0].percentage == 100


def test_where_there_is_no_terminal_each_epoch_is_a_line() -> None:
    out = io.StringIO()
    show(Console(file=out, force_terminal=False))
    first, last = out.getvalue().splitlines()
    assert first.startswith("sasrec epoch 1/3: loss 2.5000, NDCG@10 0.1250, 5 events/s, at most ")
    assert last == "sasrec epoch 2/3: loss 1.5000, NDCG@10 0.1000, 5 events/s"


def test_on_a_terminal_there_is_a_bar_that_is_full_at_the_end() -> None:
    out = io.StringIO()
    show(Console(file=out, force_terminal=True, width=120, color_system=None, legacy_windows=False))
    shown = out.getvalue()
    assert "loss 1.500" in shown
    assert "NDCG@10 0.1250" in shown
    assert "0:00:00" in shown.splitlines()[-2]


def test_progress_can_be_switched_off_and_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    trained()
    assert capfd.readouterr() == ("", "")
    fit("sasrec", data(), QUICK, JUDGED, {"dim": 8})
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 4


def test_a_result_reads_as_a_sentence() -> None:
    assert str(trained()).startswith("sasrec: validation NDCG@10 ")
    assert " best of 4 epochs: " in str(trained())
    assert "epochs" not in str(trained("popularity"))
