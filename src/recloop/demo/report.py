"""What the demo found: one typed record, written as JSON and shown as a table."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

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


class DriftFacts(Section):
    verdict: str
    signals: dict[str, Any]
    reasons: list[str]


class RetrainingFacts(Section):
    reason: str
    run: str
    seconds: float
    gate: GateFacts
    verdict: str


class SwapFacts(Section):
    """`from` is a Python keyword; the JSON has it."""

    model_config = {**Section.model_config, "populate_by_name": True, "serialize_by_alias": True}

    from_: int
    to: int
    requests: int
    failed: int


class DemoReport(BaseModel):
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
