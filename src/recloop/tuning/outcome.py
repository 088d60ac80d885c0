"""What a search came to: the best trials, the gain over the present values, and the change of params.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from recloop.tuning.space import Settings
from recloop.tuning.study import Tried

SHOWN = 5
"""Trials in the table"""


def best_of(found: Iterable[Tried]) -> Tried | None:
    """The trial with the highest NDCG@10 of those that came to their end; the first of equals."""
    complete = [each for each in found if each.state == "complete" and each.ndcg_at_10 is not None]
    return max(complete, key=lambda each: (each.ndcg_at_10 or 0.0, -each.number), default=None)


def present_of(found: Iterable[Tried], present: Settings) -> Tried | None:
    """The trial of the present values, if it was made."""
    return next((each for each in found if each.settings == present and each.state in ("complete", "failed")), None)


@dataclass(frozen=True)
class Outcome:
    """What a search came to."""

    model: str
    study: str
    trials: Sequence[Tried]
    present: Tried | None
    """That of the values which params.yaml had when this worker began"""
    verdict: str
    """What was done with the best values, and why"""
    diff: Sequence[str] = ()
    """The change of params.yaml; none where nothing is to be changed"""

    @property
    def best(self) -> Tried | None:
        return best_of(self.trials)

    @property
    def gain(self) -> float | None:
        """Of the best trial's NDCG@10 over the present values', as a share of that."""
        best, present = self.best, self.present
        if best is None or best.ndcg_at_10 is None or present is None or not present.ndcg_at_10:
            return None
        return best.ndcg_at_10 / present.ndcg_at_10 - 1

    def show(self, console: Console | None = None) -> None:
        """Print it for a person."""
        console = console or Console(highlight=False, soft_wrap=True)
        counts = {state: sum(each.state == state for each in self.trials) for state in ("pruned", "failed")}
        of_which = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        done = sum(each.done for each in self.trials)
        console.print(f"{self.model}: {done} trials" + (f", {of_which}" if of_which else "") + f" (study {self.study})")
        console.print(self._table())
        if self.gain is not None and self.best is not self.present:
            console.print(f"the best is {self.gain:+.1%} over the present values, on the validation period")
        console.print(self.verdict, markup=False)
        for line in self.diff:
            console.print(line, markup=False, style=_colour(line))

    def _table(self) -> Table:
        complete = sorted(
            (each for each in self.trials if each.state == "complete"),
            key=lambda each: (-(each.ndcg_at_10 or 0.0), each.number),
        )
        rows = complete[:SHOWN]
        if self.present is not None and self.present not in rows:
            rows.append(self.present)
        names = list(rows[0].settings) if rows else []
        table = Table("trial", "NDCG@10", "epochs", *names, box=box.SIMPLE_HEAD)
        for each in rows:
            mark = " (present)" if each is self.present else ""
            quality = "failed" if each.state == "failed" else f"{each.ndcg_at_10:.4f}"
            values = [str(each.settings.get(name)) for name in names]
            table.add_row(f"{each.number}{mark}", quality, str(each.epochs or "–"), *values)
        return table


def _colour(line: str) -> str:
    return {"+": "green", "-": "red"}.get(line[:1], "")
