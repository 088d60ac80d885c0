"""`params.yaml` as a whole: its sections, and what must hold between them."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from recloop.config.alerts import Alerting
from recloop.config.evaluate import Evaluate, Promotion
from recloop.config.gate import Gate
from recloop.config.monitoring import Monitoring
from recloop.config.platform import Platform, Storage
from recloop.config.prepare import Prepare, Split
from recloop.config.section import Section
from recloop.config.serving import Serving
from recloop.config.source import Source
from recloop.config.train import Train
from recloop.config.tune import Tune
from recloop.errors import did_you_mean


class Params(Section):
    """The whole of `params.yaml`."""

    source: Source
    gate: Gate = Gate()
    prepare: Prepare = Prepare()
    split: Split = Split()
    zoo: tuple[str, ...] = Field(min_length=1)
    """The models that are trained and compete: names from the catalogue, each with a section in `models`."""
    train: Train = Train()
    models: dict[str, dict[str, Any]]
    tune: Tune = Tune()
    evaluate: Evaluate = Evaluate()
    promotion: Promotion = Promotion()
    serving: Serving = Serving()
    monitoring: Monitoring = Monitoring()
    alerts: Alerting = Alerting()
    storage: Storage = Storage()
    platform: Platform = Platform()

    @model_validator(mode="after")
    def _fits_together(self) -> Params:
        for name in self.zoo:
            if name not in self.models:
                hint = did_you_mean(name, self.models)
                raise ValueError(f"zoo names {name!r}, but models has no section {name!r}{hint}")
            if self.zoo.count(name) > 1:
                raise ValueError(f"zoo names {name!r} more than once")
        if not self.gate.events.keys() & self.prepare.events.keys():
            raise ValueError(
                f"none of the events that may occur (gate.events: {', '.join(self.gate.events)}) is one that models "
                f"learn from (prepare.events: {', '.join(self.prepare.events)})"
            )
        ports = [self.serving.port, self.platform.prefect_port, self.platform.mlflow_port]
        if twice := next((port for port in ports if port and ports.count(port) > 1), None):
            raise ValueError(f"port {twice} is given to two of serving.port, platform.prefect_port and mlflow_port")
        if self.source.kind == "sequences" and self.split.kind == "temporal":
            raise ValueError("a sequences file has an order but no times: set split.kind to leave_one_out")
        return self
