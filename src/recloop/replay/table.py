"""A replay as a table for people."""

from __future__ import annotations

from rich import box
from rich.table import Table

from recloop.replay.figures import ReplayReport


def show(name: str, report: ReplayReport) -> Table:
    """A row a policy; it fits a terminal of 80 columns.

    Args:
        name: of the data.
    """
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    table.title = (
        f"{name}: {report.model}, {spoken(report)}; {report.events:,} events of {report.users:,} users in "
        f"{len(report.events_by_window)} windows after {report.learnt:,} learnt from; {report.new_user_share:.0%} of "
        f"the events by new users, {report.new_item_share:.0%} on new items"
    )
    table.add_column("policy", no_wrap=True)
    for column in ("NDCG@10", "kept [95%]", "trainings", "seconds", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for policy, facts in report.policies.items():
        kept = facts.quality_kept_interval
        table.add_row(
            policy,
            f"{facts.quality:.4f}",
            f"{kept.mean:.1%} [{kept.low:.1%}, {kept.high:.1%}]",
            f"{facts.trainings:g}",
            f"{facts.training_seconds:.0f}",
            f"{facts.training_share:.0%}",
        )
    return table


def spoken(report: ReplayReport) -> str:
    """How many seeds: `1 seed`, `2 seeds`."""
    return f"{len(report.seeds)} seed{'s' * (len(report.seeds) > 1)}"
