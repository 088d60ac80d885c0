"""What the demo found: one typed record, written as JSON and shown as a table."""

from __future__ import annotations

from pydantic import Field
from rich import box
from rich.table import Table

from recloop.config import Section


class GateFacts(Section):
    rows: int
    quarantined: int
    rules: dict[str, int]


class ModelFacts(Section):
    ndcg_at_10: float
    ndcg_at_10_ci: tuple[float, float]
    recall_at_10: float
    recall_at_10_ci: tuple[float, float]


class ChampionFacts(Section):
    model: str
    version: int
    reason: str


class ServingFacts(Section):
    requests: int
    failed: int
    p50_ms: float
    p99_ms: float


class SignalFacts(Section):
    figure: float
    threshold: float | None
    drifted: bool
    moved: str


class DriftFacts(Section):
    verdict: str
    signals: dict[str, SignalFacts]
    reasons: list[str]


class RetrainingFacts(Section):
    reason: str
    run: str
    """Name of the flow run, in Prefect's UI."""
    seconds: float


class SwapFacts(Section):
    """Requests are those that came at a steady pace from the monitor's run until after the swap."""

    from_: int = Field(alias="from")
    to: int
    requests: int
    failed: int


class DemoReport(Section):
    """`reports/demo.json`."""

    gate: GateFacts
    models: dict[str, ModelFacts]
    champion: ChampionFacts
    serving: ServingFacts
    drift: DriftFacts
    retraining: RetrainingFacts
    swap: SwapFacts
    places: dict[str, str]
    seconds: float


def show(report: DemoReport) -> Table:
    """The report as a table a person can read."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, title="What the loop did", title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    gate, serving, swap = report.gate, report.serving, report.swap
    rules = ", ".join(f"{rule} {count}" for rule, count in gate.rules.items())
    table.add_row("gate", f"{gate.rows:,} rows, {gate.quarantined} quarantined ({rules or 'none broke a rule'})")
    table.add_section()
    table.add_row("models", "test NDCG@10 [95%]         Recall@10 [95%]")
    for name, model in report.models.items():
        chosen = "  ← champion" if name == report.champion.model else ""
        table.add_row(
            f"  {name}",
            f"{_interval(model.ndcg_at_10, model.ndcg_at_10_ci)}   "
            f"{_interval(model.recall_at_10, model.recall_at_10_ci)}{chosen}",
        )
    table.add_section()
    why = report.champion.reason.removeprefix(f"{report.retraining.reason}; ")
    table.add_row("champion", f"v{report.champion.version} ({report.champion.model}): {why}")
    table.add_row(
        "served",
        f"{serving.requests:,} requests, {serving.failed} failed, "
        f"p50 {serving.p50_ms:.1f} ms, p99 {serving.p99_ms:.1f} ms",
    )
    table.add_row("drift", "\n".join([f"verdict: {report.drift.verdict}", *report.drift.reasons]))
    table.add_row(
        "retraining",
        f"flow run {report.retraining.run}, {report.retraining.seconds:.0f} s, started by the verdict's event",
    )
    table.add_row("swap", f"v{swap.from_} → v{swap.to}, {swap.requests:,} requests meanwhile, {swap.failed} failed")
    table.add_section()
    for name, place in report.places.items():
        table.add_row(name, place)
    table.add_section()
    table.add_row("time", f"{report.seconds:.0f} s")
    return table


def _interval(mean: float, ends: tuple[float, float]) -> str:
    return f"{mean:.4f} [{ends[0]:.4f}, {ends[1]:.4f}]"
