"""Starting a deployment from outside, and waiting for runs: what a script or a test does with the flows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from recloop.errors import PlatformError

OnTask = Callable[[str, str], None]
"""Is told a task's name and its state, from its start on, whenever that changes."""


@dataclass(frozen=True)
class Run:
    """A flow run that has ended."""

    id: str
    name: str
    state: str
    """Its name: `Completed`, `Failed`, `Stopped by the gate`, …"""
    message: str
    completed: bool
    parameters: Mapping[str, Any]
    seconds: float
    """From start to end, without the wait for a worker."""
    url: str
    """In Prefect's UI."""

    def __str__(self) -> str:
        return f"{self.name}: {self.state} after {self.seconds:.0f} s\n{self.message}"


class Server:
    """A Prefect server, as a client sees it.

    Args:
        api_url: e.g. `http://127.0.0.1:4200/api`.
    """

    def __init__(self, api_url: str) -> None:
        self._api_url = api_url

    def run(
        self,
        deployment: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        seconds: float,
        on_task: OnTask = lambda _name, _state: None,
    ) -> Run:
        """Start a deployment (`flow/name`) and wait for its end.

        Raises:
            PlatformError: there is no such deployment, or it has not ended in time.
        """
        return self.ended(self.start(deployment, parameters), seconds=seconds, on_task=on_task)

    def start(self, deployment: str, parameters: Mapping[str, Any] | None = None) -> UUID:
        """Start a deployment (`flow/name`). The id of its run.

        Raises:
            PlatformError: there is no such deployment.
        """
        with SyncPrefectClient(self._api_url) as client:
            return client.create_flow_run_from_deployment(
                _deployment(client, deployment), parameters=dict(parameters or {})
            ).id

    def ended(self, run: UUID, *, seconds: float, on_task: OnTask = lambda _name, _state: None) -> Run:
        """Wait for the end of a run.

        Raises:
            PlatformError: it has not ended in time.
        """
        with SyncPrefectClient(self._api_url) as client:
            return self._ended(client, run, seconds, on_task)

    def triggered(
        self,
        deployment: str,
        since: datetime,
        *,
        seconds: float,
        on_task: OnTask = lambda _name, _state: None,
    ) -> Run:
        """Wait for the first run of a deployment that an event has started since then, and for its end.

        Raises:
            PlatformError: there is no such deployment, no such run, or it has not ended in time.
        """
        deadline = time.monotonic() + seconds
        run = self.asked(deployment, since, seconds=seconds)
        return self.ended(run, seconds=deadline - time.monotonic(), on_task=on_task)

    def asked(self, deployment: str, since: datetime, *, seconds: float) -> UUID:
        """Wait for the first run of a deployment that an event has started since then. Its id.

        Raises:
            PlatformError: there is no such deployment, or no such run in time.
        """
        deadline = time.monotonic() + seconds
        with SyncPrefectClient(self._api_url) as client:
            identity = _deployment(client, deployment)
            while time.monotonic() < deadline:
                runs = client.read_flow_runs(
                    deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[identity])),
                    sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                )
                for run in runs:
                    by_event = run.created_by is not None and run.created_by.type == "AUTOMATION"
                    if by_event and run.created is not None and run.created >= since:
                        return run.id
                time.sleep(0.5)
        raise PlatformError(
            f"no event has started {deployment} in {seconds:.0f} s",
            remedy="`prefect automation ls` shows the trigger, the event feed in Prefect's UI the events",
        )

    def _ended(self, client: SyncPrefectClient, run_id: UUID, seconds: float, on_task: OnTask) -> Run:
        deadline = time.monotonic() + seconds
        told: dict[str, str] = {}
        of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
        while True:
            run = client.read_flow_run(run_id)
            for task in client.read_task_runs(flow_run_filter=of_run):
                state = task.state_name or ""
                if state != "Pending" and told.get(task.name) != state:
                    told[task.name] = state
                    on_task(task.name, state)
            if run.state is not None and run.state.is_final():
                return self._report(run)
            if time.monotonic() > deadline:
                raise PlatformError(
                    f"run {run.name} is {run.state_name} after {seconds:.0f} s",
                    remedy=f"see {self._url(run)}, and the worker's log in var/log",
                )
            time.sleep(0.5)

    def _report(self, run: FlowRun) -> Run:
        assert run.state is not None  # noqa: S101 (for the type checker)
        return Run(
            id=str(run.id),
            name=run.name,
            state=run.state.name or str(run.state.type),
            message=run.state.message or "",
            completed=run.state.is_completed(),
            parameters=run.parameters,
            seconds=run.total_run_time.total_seconds(),
            url=self._url(run),
        )

    def _url(self, run: FlowRun) -> str:
        return f"{self._api_url.removesuffix('/api')}/runs/flow-run/{run.id}"


def _deployment(client: SyncPrefectClient, name: str) -> UUID:
    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound as error:
        raise PlatformError(
            f"the Prefect server has no deployment {name}",
            remedy="`prefect deploy --all` deploys prefect.yaml",
        ) from error
