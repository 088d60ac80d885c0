"""Great Expectations asked, and its answers as plain findings. Nothing here knows a rule.

The context lives in memory: suites are code, and results last as long as the run, except for their pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import great_expectations as gx
import numpy as np
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)

from recloop.errors import GateError
from recloop.quality.data_docs import build_site

if TYPE_CHECKING:
    import pandas as pd

COMPLETE = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
"""With every position of an unexpected row: those of the frame's index, which is 0, 1, 2, …"""


@dataclass(frozen=True)
class Finding:
    """What one expectation found."""

    rule: str
    severity: str
    """`quarantine`, `stop` or `warn`"""
    kept: bool
    """Whether the expectation was met."""
    rows: int
    """Rows it looked at; 0 where it does not look at rows."""
    broken: np.ndarray
    """int64: positions of the rows that broke it"""
    observed: Any
    """The figure it looked at, where it is not about rows."""
    batch: str | None
    """Which batch it judged, where a table holds several."""


class Judge:
    """One run of the gate: any number of tables examined, then one set of pages about them."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._context = gx.get_context(
            mode="ephemeral",
            project_config=DataContextConfig(
                store_backend_defaults=InMemoryStoreBackendDefaults(),
                data_docs_sites={},
                analytics_enabled=False,
                progress_bars=ProgressBarsConfig(globally=False),
            ),
        )
        asset = self._context.data_sources.add_pandas("gate").add_dataframe_asset("frame")
        self._whole = asset.add_batch_definition_whole_dataframe("whole")

    def examine(self, suite: gx.ExpectationSuite, frame: pd.DataFrame, *, stage: str) -> list[Finding]:
        """Judge a frame by a suite. `stage` says in the pages what the frame is.

        Returns:
            one finding an expectation, in the order of the suite.

        Raises:
            GateError: an expectation could not be evaluated. That is neither kept nor broken.
        """
        order = [expectation.meta for expectation in suite.expectations]
        suite = self._context.suites.add(suite)
        validation = self._context.validation_definitions.add(
            gx.ValidationDefinition(name=suite.name, data=self._whole, suite=suite)
        )
        result = validation.run(
            batch_parameters={"dataframe": frame},
            result_format=COMPLETE,
            run_id=RunIdentifier(run_name=stage, run_time=self._now.astimezone(UTC)),
        )
        findings = [_finding(answer) for answer in result.results]
        # Great Expectations answers table by table and column by column, not in the order of the suite.
        rank = {meta["rule"]: place for place, meta in reversed(list(enumerate(order)))}
        return sorted(findings, key=lambda finding: rank[finding.rule])

    def write_docs(self, folder: Path, verdict: Iterable[str]) -> None:
        """Write pages about everything examined into `folder`, in place of what was there."""
        build_site(self._context, folder, verdict)


def _finding(answer: Any) -> Finding:
    config, result = answer.expectation_config, answer.result
    meta = config.meta
    for fault in _faults(answer.exception_info):
        raise GateError(
            f"rule {meta['rule']}: Great Expectations could not evaluate {config.type}: {fault}",
            remedy="nothing was changed; a column may hold what its type does not promise",
        )
    return Finding(
        rule=meta["rule"],
        severity=meta["severity"],
        kept=bool(answer.success),
        rows=int(result.get("element_count", 0)),
        broken=np.asarray(result.get("unexpected_index_list", []), dtype=np.int64),
        observed=result.get("observed_value"),
        batch=meta.get("batch"),
    )


def _faults(info: Any) -> list[str]:
    """Messages of what was raised: Great Expectations keeps one, or one a metric, and reports a failure."""
    if not info:
        return []
    entries = [info] if "raised_exception" in info else list(info.values())
    return [str(entry["exception_message"]) for entry in entries if entry["raised_exception"]]
