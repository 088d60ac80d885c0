"""A replay as a picture: quality over time with the trainings marked, and quality by what training cost."""

from __future__ import annotations

from pathlib import Path

from recloop.replay.figures import ReplayReport
from recloop.replay.policies import DEFAULT, EVERY, NEVER, WARM
from recloop.replay.table import spoken


def draw(reports: dict[str, ReplayReport], path: Path) -> None:
    """Two charts a data set, side by side, as a PNG.

    Args:
        reports: by the data's name.
        path: of the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure, rows = pyplot.subplots(
        len(reports), 2, figsize=(12, 4 * len(reports)), width_ratios=(2, 1), layout="constrained", squeeze=False
    )
    for (name, report), (over_time, by_cost) in zip(reports.items(), rows, strict=True):
        for place, (policy, facts) in enumerate(report.policies.items()):
            style = {"color": f"C{place}", "lw": 2 if policy in (NEVER, EVERY, f"{DEFAULT}{WARM}") else 1}
            numbers = range(1, len(facts.ndcg_by_window) + 1)
            over_time.plot(numbers, facts.ndcg_by_window, label=policy, **style)
            if policy not in (NEVER, EVERY):
                marks = [each.after_window for each in facts.retrainings if each.seed == report.seeds[0]]
                values = [facts.ndcg_by_window[after - 1] for after in marks]
                over_time.plot(marks, values, "o", color=f"C{place}", ms=5)
            between = facts.quality_kept_interval
            by_cost.errorbar(
                facts.training_share,
                facts.quality_kept,
                yerr=[[facts.quality_kept - between.low], [between.high - facts.quality_kept]],
                fmt="o",
                color=f"C{place}",
                label=f"{policy}, {facts.trainings:g} trainings",
            )
        over_time.set_title(f"{name}: {report.model}, {report.events:,} events played, {spoken(report)}", fontsize=10)
        over_time.set_xlabel(f"window (dots: trained after it, with seed {report.seeds[0]})")
        over_time.set_ylabel("NDCG@10")
        over_time.set_ylim(0, 1.25 * over_time.get_ylim()[1])  # room for the legend
        over_time.xaxis.set_major_locator(MaxNLocator(integer=True))
        over_time.legend(fontsize=8, ncols=3)
        by_cost.axhline(0.98, color="grey", lw=0.8, ls=":")
        by_cost.axvline(0.3, color="grey", lw=0.8, ls=":")
        by_cost.set_xlabel(f"training seconds, as a share of `{EVERY}`")
        by_cost.set_ylabel(f"NDCG@10, as a share of `{EVERY}`")
        by_cost.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
