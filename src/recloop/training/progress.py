"""What a person sees while a model trains: a bar on a terminal, else a line an epoch. Both on stderr."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from recloop.training.result import Epoch


def say(console: Console | None, name: str, text: str) -> None:
    """A line about the training of the model `name`, where it is shown at all."""
    if console is not None:
        console.print(f"{name}: {text}", highlight=False, markup=False, soft_wrap=True)


class TrainingProgress:
    """The progress of one training; a context."""

    def __init__(self, name: str, *, epochs: int, events: int, console: Console | None) -> None:
        """
        Args:
            name: of the model.
            epochs: at most.
            events: of an epoch.
            console: where it is shown; None for nowhere.
        """
        self._name, self._epochs, self._events = name, epochs, events
        self._console = console
        self._lines = console if console is not None and not console.is_terminal else None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            disable=console is None or not console.is_terminal,
        )
        self._quality = ""
        self._started = time.perf_counter()
        self._done = self._skipped = 0
        self._task = self._bar.add_task(self._title(1), total=epochs * events, figures="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, events: int, loss: float) -> None:
        """A batch of `events` was learnt from."""
        self._done += events
        speed = self._done / (time.perf_counter() - self._started)
        figures = f"loss {loss:.3f}  {self._quality}{speed:,.0f} events/s"
        self._bar.update(self._task, advance=events, figures=figures)

    def resume(self, curve: Sequence[Epoch], *, last: bool, source: Path) -> None:
        """The epochs of `curve` were trained before, as `source` says; after the `last` one no more are to come."""
        self._skipped = len(curve)
        here = Path.cwd()
        path = source.relative_to(here) if source.is_relative_to(here) else source
        self.say(f"going on after epoch {curve[-1].number} (from {path})")
        self._bar.update(self._task, advance=sum(epoch.events for epoch in curve))
        self._advance(curve[-1], last)

    def say(self, text: str) -> None:
        """A line about the training, where it is shown at all."""
        say(self._console, self._name, text)

    def epoch(self, epoch: Epoch, *, last: bool) -> None:
        """An epoch ended; after the `last` one no more are to come."""
        self._advance(epoch, last)
        if self._lines is not None:
            done = epoch.number - self._skipped
            left = (self._epochs - epoch.number) * (time.perf_counter() - self._started) / max(done, 1)
            self._lines.print(
                f"{self._title(epoch.number)}: {epoch}" + (f", at most {left:.0f} s left" if done and not last else ""),
                highlight=False,
                soft_wrap=True,
            )

    def _advance(self, epoch: Epoch, last: bool) -> None:
        self._quality = f"NDCG@10 {epoch.ndcg_at_10:.4f}  "
        self._bar.update(self._task, description=self._title(epoch.number if last else epoch.number + 1))
        if last:
            self._bar.update(self._task, total=self._bar.tasks[self._task].completed)

    def _title(self, number: int) -> str:
        return f"{self._name} epoch {number}/{self._epochs}"
