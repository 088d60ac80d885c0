"""Where a project keeps its things. Every path that two parts share is named here, once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from recloop.config import Params, load_params
from recloop.errors import ConfigError


@dataclass(frozen=True)
class Project:
    """A checkout: the folder that holds `params.yaml` and `dvc.yaml`."""

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> Project:
        """The project around `start` (default: `$RECLOOP_ROOT`, else the working directory).

        Raises:
            ConfigError: no `params.yaml` there or in any folder above.
        """
        here = (start or Path(os.environ.get("RECLOOP_ROOT", "."))).resolve()
        for folder in (here, *here.parents):
            if (folder / "params.yaml").is_file():
                return cls(folder)
        raise ConfigError(
            f"no params.yaml in {here} or any folder above it",
            remedy="change into a recloop checkout, or set RECLOOP_ROOT to one",
        )

    @cached_property
    def params(self) -> Params:
        """`params.yaml`, validated. Read once."""
        return load_params(self.root / "params.yaml")

    # Outputs of DVC stages.
    @property
    def raw(self) -> Path:
        """Canonical tables as the source gave them: interactions, items, users (Parquet)."""
        return self.root / "data" / "raw"

    @property
    def feedback(self) -> Path:
        """Events taken at the endpoint, as of the last snapshot (one Parquet file)."""
        return self.root / "data" / "feedback" / "interactions.parquet"

    @property
    def warm(self) -> Path:
        """The champion that a training may begin from, as of the last snapshot; or none."""
        return self.root / "data" / "warm"

    @property
    def gated(self) -> Path:
        """Canonical tables that passed the gate."""
        return self.root / "data" / "gated"

    @property
    def quarantine(self) -> Path:
        """Rows that broke a rule, with the rule's name (one Parquet file)."""
        return self.root / "data" / "quarantine.parquet"

    @property
    def prepared(self) -> Path:
        """Encoded, split data that models learn from."""
        return self.root / "data" / "prepared"

    def model(self, name: str) -> Path:
        """The trained model `name`: `model.safetensors` and `model.json`."""
        return self.root / "models" / name

    @property
    def reports(self) -> Path:
        """Metrics, plots and pages for people."""
        return self.root / "reports"

    # State that is not an output of a stage, and belongs to this machine.
    @property
    def var(self) -> Path:
        """Databases, the live model and logs of this machine."""
        return self.root / "var"

    def checkpoint(self, name: str) -> Path:
        """Where a training of the model `name` keeps its state while it runs."""
        return self.var / "training" / f"{name}.safetensors"

    @property
    def live(self) -> Path:
        """What the endpoint serves: `champion.json` and one folder a version."""
        return self.var / "live"

    @property
    def database_url(self) -> str:
        """Events, impressions, verdicts and the champion's history. `$RECLOOP_DATABASE_URL` wins."""
        return self.url("RECLOOP_DATABASE_URL", self.params.storage.database_url)

    @property
    def mlflow_url(self) -> str:
        """MLflow's tracking server and registry. `$RECLOOP_MLFLOW_URL` wins."""
        return self.url("RECLOOP_MLFLOW_URL", self.params.storage.mlflow_url)

    def url(self, variable: str, default: str) -> str:
        """A URL whose relative SQLite path means: relative to the project, wherever one stands."""
        url = os.environ.get(variable, default)
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith(prefix + "/"):
            path = self.root / url.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            return f"{prefix}{path}"
        return url
