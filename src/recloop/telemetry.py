"""All telemetry off, in one place.

`silence()` is called at the top of every process we start, before a tool is imported; children inherit it.
A variable that is already set wins, so that a team can turn a tool's telemetry on again.
"""

from __future__ import annotations

import os

QUIET: dict[str, str] = {
    "DO_NOT_TRACK": "1",  # Prefect's client, MLflow, Evidently
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "False",
    "BENTOML_DO_NOT_TRACK": "True",
    "OTEL_SDK_DISABLED": "true",
}


def silence() -> None:
    """Switch off what the tools send home, for this process and its children."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
