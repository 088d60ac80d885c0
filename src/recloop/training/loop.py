"""Training a model on the training period, and keeping the epoch that does best on the validation period."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from recloop.config import Augment, Evaluate, Train
from recloop.data.augmentation import Augmentation
from recloop.data.batches import TrainingBatches
from recloop.data.prepared import Prepared
from recloop.errors import ModelError, ShortOfMemory, StageError
from recloop.evaluation import Examination
from recloop.evaluation.ranking import NotFiniteScoresError
from recloop.models.base import ClosedForm, Learner, Recommender
from recloop.models.catalogue import build, model_class
from recloop.training.averaging import Average
from recloop.training.checkpoint import Checkpoint
from recloop.training.determinism import choose_device, deterministic
from recloop.training.distribution import Processes, processes
from recloop.training.losses import build_criterion
from recloop.training.progress import TrainingProgress, say
from recloop.training.result import Epoch, FitResult
from recloop.training.settings import effective
from recloop.training.step import NotFiniteError, Stepper, out_of_memory
from recloop.training.warm_start import FromNothing, WarmStart

OnEpoch = Callable[[int, Mapping[str, float]], None]
Warn = Callable[[str], None]


def warn(text: str) -> None:
    """Say it where a person sees it."""
    print(f"recloop: warning: {text}", file=sys.stderr, flush=True)


def fit(
    name: str,
    prepared: Prepared,
    train: Train,
    evaluate: Evaluate,
    model_params: Mapping[str, Any],
    *,
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
    checkpoint: Path | None = None,
    champion: Path | None = None,
    warn: Warn = warn,
) -> FitResult:
    """Train the model `name`. The same arguments on the same machine give the same model, bit for bit.

    Under `torchrun` its processes train one model together; each of them gets the result.

    Args:
        name: of the catalogue.
        prepared: the data; learnt from in its training period, and chosen on in its validation period.
        train: how it is trained.
        evaluate: how it is judged after each epoch.
        model_params: its section under `models`; what it sets under `train` there wins over `train`.
        on_epoch: is told the number and the metrics of each epoch as it ends.
        progress: whether it is shown on stderr how training goes.
        checkpoint: where the state is kept after each epoch. A training that finds its own there goes on from it, and
            ends as if it had never been stopped; another one's is not used. To be removed when the result is kept.
        champion: `data/warm`, to begin from the weights of the champion in there, where they fit.
        warn: is told what a person should know.

    Raises:
        ConfigError: the model or a setting of it is wrong, or the device is not there.
        StageError: there is nothing to learn from, or nothing to choose on; or the champion is damaged.
        ModelError: training diverged, or ran out of memory.
    """
    if not prepared.weights[prepared.periods == 0].sum() > 0:
        raise StageError(
            "the training period holds no event of any weight",
            remedy="give prepare.events weights above 0, lower split.valid_share and test_share, or give more data",
        )
    device = choose_device(train.device)
    with (
        deterministic(seed=train.seed, threads=train.threads),
        _out_of_memory_explained(name, model_class(name)),
        processes(device) as group,
    ):
        examination = Examination(prepared, "valid", evaluate, train.max_history, share=(group.rank, group.world))
        model = build(
            name,
            model_params,
            catalogue_size=prepared.item_count,
            user_count=prepared.user_count,
            max_history=train.max_history,
        ).to(device)
        console = Console(stderr=True) if progress and group.first else None
        warm = None if champion is None else _warm_start(model, prepared, champion, console)
        if isinstance(model, ClosedForm):
            return _compute(model, prepared, examination, group, on_epoch)
        assert isinstance(model, Learner)  # noqa: S101 – the two ways there are
        training = Training(
            model,
            prepared,
            effective(name, train, model.config),
            evaluate,
            examination,
            group,
            on_epoch=on_epoch if group.first else None,
            console=console,
            checkpoint=checkpoint,
            warm=warm,
            warn=warn if group.first else lambda _: None,
        )
        return training.run()


def _warm_start(model: Recommender, prepared: Prepared, champion: Path, console: Console | None) -> WarmStart | None:
    """How the model begins from the champion; None where it cannot, which is said."""
    try:
        return WarmStart.plan(model, prepared, champion)
    except FromNothing as why:
        say(console, model.name, f"begins from nothing: {why}")
        return None


def _compute(
    model: ClosedForm, prepared: Prepared, examination: Examination, group: Processes, on_epoch: OnEpoch | None
) -> FitResult:
    started = time.perf_counter()
    try:
        model.fit(prepared)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise ModelError(
            f"{model.name}: its equations have no solution in 32 bits: {error}",
            remedy=f"raise models.{model.name}.ridge",
        ) from error
    seconds = time.perf_counter() - started
    events = int(prepared.train_counts.sum())
    only = Epoch(0, None, _judged(model, examination, group), seconds, events)
    if on_epoch is not None and group.first:
        on_epoch(only.number, only.metrics)
    device = model.device.type
    return FitResult(model.cpu(), only, (only,), 0.0, device)


def _judged(model: Recommender, examination: Examination, group: Processes) -> dict[str, float]:
    """How the model does on the validation period, each process asking its share of the users."""
    sums = examination.sums(model) | {"users": float(examination.user_count)}
    whole = torch.tensor(list(sums.values()), dtype=torch.float64, device=group.device)
    group.add_up([whole])
    *totals, users = whole.tolist()
    return {name: total / users for name, total in zip(sums, totals, strict=False)}


class Training:
    """One training by gradients, epoch by epoch."""

    def __init__(
        self,
        model: Learner,
        prepared: Prepared,
        settings: Train,
        evaluate: Evaluate,
        examination: Examination,
        group: Processes,
        *,
        on_epoch: OnEpoch | None,
        console: Console | None,
        checkpoint: Path | None,
        warm: WarmStart | None,
        warn: Warn,
    ) -> None:
        self._model, self._prepared, self._settings = model, prepared, settings
        self._examination, self._group = examination, group
        self._on_epoch = on_epoch
        self._warn = warn
        self._checkpoint = checkpoint
        self._warm = warm
        self._identity = _identity(model, prepared, settings, evaluate, group, warm)
        self._batches = TrainingBatches(
            prepared,
            batch_tokens=settings.batch_tokens,
            window=settings.max_history + 1,
            seed=settings.seed,
            device=model.device,
            augmentation=Augmentation(settings.augment, prepared) if settings.augment.active else None,
        )
        criterion = build_criterion(settings.loss, model, torch.tensor(prepared.train_counts))
        self._stepper = Stepper(model, criterion, settings, group, warn=warn)
        if not model.reads_shown and settings.augment != Augment(crop=settings.augment.crop):
            warn(f"{model.name} learns from no histories: of augment.* only crop changes what it learns from")
        self._average = Average(model, settings.average) if settings.average else None
        self._progress = TrainingProgress(
            model.name, epochs=settings.epochs, events=self._batches.events, console=console
        )
        self._curve: list[Epoch] = []
        self._kept = 0
        """The last epoch after which the state is in the checkpoint"""
        self._best: dict[str, Tensor] = {}

    def run(self) -> FitResult:
        """Train to the end, from the checkpoint where there is one of this training."""
        try:
            with self._progress:
                begun = 0.0 if self._resume() else self._begin()
                while not self._ended:
                    self._epoch(begun if not self._curve else 0.0)
                    self._save()
        except KeyboardInterrupt:
            kept = f"; the state after epoch {self._kept} is kept, and the same command goes on with it"
            self._progress.say("interrupted" + (kept if self._kept else ""))
            raise
        self._model.load_state_dict(self._best)
        device = self._model.device.type
        model = self._model.cpu().eval()
        carried = None if self._warm is None else self._warm.carried
        return FitResult(model, self._best_epoch, tuple(self._curve), self._batches.padding, device, carried)

    @property
    def _best_epoch(self) -> Epoch:
        """The first of those with the highest validation NDCG@10."""
        return max(self._curve, key=lambda epoch: epoch.ndcg_at_10)

    @property
    def _ended(self) -> bool:
        done = len(self._curve)
        return done > 0 and (done >= self._settings.epochs or done - self._best_epoch.number >= self._settings.patience)

    def _begin(self) -> float:
        """Take from the data, and from the champion, what the model begins with. Returns the seconds it took."""
        started = time.perf_counter()
        self._model.begin(self._prepared)
        if self._warm is not None:
            self._warm.carry(self._model)
            self._progress.say(f"begins from {self._warm.carried}")
        self._group.agree(self._model.state_dict().values())
        return time.perf_counter() - started

    def _epoch(self, begun: float) -> None:
        """
        Args:
            begun: seconds that count as this epoch's, too.
        """
        number = len(self._curve) + 1
        started = time.perf_counter()
        loss = self._learn(number)
        seconds = begun + time.perf_counter() - started
        judged = self._model if self._average is None else self._average.model
        try:
            found = _judged(judged, self._examination, self._group)
        except NotFiniteScoresError as error:
            raise self._diverged(number, "the model's scores became infinite or no numbers") from error
        epoch = Epoch(number, loss, found, seconds, self._batches.events)
        self._curve.append(epoch)
        if self._best_epoch is epoch:
            self._best = {key: tensor.detach().clone() for key, tensor in judged.state_dict().items()}
        self._progress.epoch(epoch, last=self._ended)
        self._tell(epoch)

    def _learn(self, number: int) -> float:
        """One pass over the training period. Returns the mean loss of its events."""
        self._model.train()
        total, done = 0.0, 0
        for batch in self._batches.epoch(number):
            progress = (number - 1 + done / self._batches.events) / self._settings.epochs
            try:
                value = self._stepper.step(batch, progress)
            except NotFiniteError as error:
                raise self._diverged(number, str(error)) from error
            if self._average is not None:
                self._average.update(self._model)
            total += value * batch.events
            done += batch.events
            self._progress.step(batch.events, value)
        return total / done

    def _diverged(self, number: int, what: str) -> ModelError:
        name = self._model.name
        kept = f"; how it stood after epoch {number - 1} is kept in {self._checkpoint}" if self._saved else ""
        return ModelError(
            f"{name}: {what} in epoch {number}, at a learning rate of {self._settings.lr:g}{kept}",
            remedy=f"lower the learning rate: train.lr, or models.{name}.train.lr where that is set; or set "
            "train.clip_norm, e.g. to 1.0",
        )

    def _tell(self, epoch: Epoch) -> None:
        if self._on_epoch is not None:
            self._on_epoch(epoch.number, epoch.metrics)

    @property
    def _saved(self) -> bool:
        return self._checkpoint is not None and self._checkpoint.exists()

    def _save(self) -> None:
        if self._checkpoint is not None and self._group.first:
            mean = {} if self._average is None else self._average.averaged.state_dict()
            state = Checkpoint.of(self._identity, self._curve, self._best, self._model, mean, self._stepper)
            state.save(self._checkpoint)
            self._kept = len(self._curve)

    def _found(self) -> Checkpoint | None:
        if self._checkpoint is None or not self._saved:
            return None
        try:
            return Checkpoint.load(self._checkpoint, self._identity)
        except ModelError as error:
            self._warn(f"{error.message}. It is not used: the training begins anew")
            return None

    def _resume(self) -> bool:
        """Go back to where this training was stopped. Returns whether there was such a place."""
        found = self._found()
        if not self._group.all(found is not None) or found is None or self._checkpoint is None:
            return False
        found.restore(self._model, self._stepper)
        if self._average is not None:
            self._average.averaged.load_state_dict(dict(found.average))
        self._best = dict(found.best)
        self._curve = list(found.curve)
        self._kept = len(self._curve)
        self._progress.resume(self._curve, last=self._ended, source=self._checkpoint)
        for epoch in self._curve:
            self._tell(epoch)
        return True


def _identity(
    model: Learner,
    prepared: Prepared,
    settings: Train,
    evaluate: Evaluate,
    group: Processes,
    warm: WarmStart | None,
) -> dict[str, Any]:
    """What a training is told apart by, under the names a person knows."""
    data = hashlib.sha256()
    asked = prepared.cases["valid"]
    arrays = (prepared.items, prepared.weights, prepared.periods, prepared.timestamps, prepared.starts, prepared.ends)
    for array in (*arrays, asked.users, asked.positions):
        data.update(array.tobytes())
    own = {f"models.{model.name}.{key}": value for key, value in model.config.model_dump(mode="json").items()}
    own.pop(f"models.{model.name}.train")
    shared = {f"train.{key}": value for key, value in settings.model_dump(mode="json").items()}
    shared["train.warm_start"] = None if warm is None else warm.carried.model_sha256
    judged = evaluate.model_dump(mode="json", include={"k", "targets", "exclude_seen"})
    shared |= {f"evaluate.{key}": value for key, value in judged.items()} | {"device": model.device.type}
    rest = {"model": model.name, "data": data.hexdigest()[:16], "processes": group.world, "torch": torch.__version__}
    return own | shared | rest


@contextmanager
def _out_of_memory_explained(name: str, kind: type[Recommender]) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        lower = "train.batch_tokens, train.max_history or " if issubclass(kind, Learner) else ""
        raise ShortOfMemory(
            f"{name}: out of memory",
            remedy=f"lower {lower}the sizes under models.{name}, or drop rare items with prepare.min_item_events",
        ) from error
