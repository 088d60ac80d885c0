"""What a person sees while the demo runs: one line a step, and a moving bar on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

FINAL = ("Completed", "Cached", "Up to date", "Failed", "Crashed")


@dataclass(frozen=True)
class Bar:
    """The bar of the step that runs."""

    progress: Progress
    task: Any

    def advance(self, by: int) -> None:
        """So many more are done."""
        self.progress.advance(self.task, by)

    def on_task(self, name: str, state: str) -> None:
        """A task of a flow run has a new state."""
        self.progress.update(self.task, status=f"{name}: {state}", advance=1 if state in FINAL else 0)


class Steps:
    """Tells which step runs, and how long each took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.monotonic()

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Bar]:
        """A step of the demo; without `total` the bar only shows that something goes on."""
        begun = time.monotonic()
        if not self.console.is_terminal:
            self.console.print(f"… {title}")
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[status]}"),
        )
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            yield Bar(progress, progress.add_task(title, total=total, status=""))
        self.console.print(f"[green]✓[/] {title}  [dim]{time.monotonic() - begun:.0f} s[/]", highlight=False)

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._started
