"""`storage` and `platform`: the databases, and the servers beside the endpoint."""

from __future__ import annotations

from pydantic import Field

from recloop.config.section import Section


class Storage(Section):
    """Databases. Relative SQLite paths are relative to the project; the environment wins (README)."""

    database_url: str = "sqlite:///var/recloop.db"
    mlflow_url: str = "sqlite:///var/mlflow.db"


class Platform(Section):
    """Ports of the servers beside the endpoint, all on loopback."""

    prefect_port: int = Field(default=4200, ge=0, le=65535)
    mlflow_port: int = Field(default=5000, ge=0, le=65535)
