"""`python -m flows.deploy [--idle]`: make a Prefect server hold what `prefect.yaml` says, no less and no more.

`prefect deploy --all` does most of it. It needs the work pool to be there, it leaves deployments that are no
longer in the file, and it calls a file that it cannot read a success: this sees to the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import MissingFlowError, ObjectAlreadyExists
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.states import Crashed
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flows.alerts import BLOCK, notify_blocks
from recloop import telemetry
from recloop.errors import PlatformError, RecloopError
from recloop.project import Project

UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


@dataclass(frozen=True)
class Declared:
    """A deployment in `prefect.yaml`."""

    name: str
    """`flow/deployment`"""
    pool: str


@dataclass(frozen=True)
class Deployed:
    """What came of it."""

    deployments: tuple[str, ...]
    removed: tuple[str, ...]
    cut_off: tuple[str, ...]
    """Runs that were under way when their workers were stopped or killed."""
    missed: int
    """Scheduled runs whose time passed while nothing ran."""
    blocks: tuple[str, ...] = ()
    """The types of the blocks that alerts go to"""

    def __str__(self) -> str:
        lines = [f"deployed {', '.join(self.deployments)}"]
        if self.removed:
            lines.append(f"removed {', '.join(self.removed)}: no longer in prefect.yaml")
        if self.cut_off:
            lines.append(f"marked as crashed {', '.join(self.cut_off)}: cut off when their workers stopped")
        if self.missed:
            lines.append(f"dropped {self.missed} scheduled runs whose time passed meanwhile")
        if self.blocks:
            lines.append(f"alerts go to the block {BLOCK}: {', '.join(self.blocks)}")
        return "\n".join(lines)


def deploy(project: Project, *, idle: bool = False) -> Deployed:
    """Deploy `prefect.yaml` to the server that PREFECT_API_URL names.

    Args:
        project: the checkout.
        idle: no worker of our pools runs at present. Then what is under way was cut off, and would hold its
            deployment's only slot for ever; and what was missed would all be made up for at once.

    Raises:
        PlatformError: the file is wrong, or the server does not take it.
    """
    declared = declared_in(project.root / "prefect.yaml")
    with get_client(sync_client=True) as client:
        pools = sorted({deployment.pool for deployment in declared})
        for pool in pools:
            ensure_pool(client, pool)
        cut_off = end_cut_off(client, pools) if idle else ()
        missed = drop_missed(client, pools, datetime.now(UTC)) if idle else 0
        prefect_deploy()
        removed = remove_others(client, declared)
        blocks = notify_blocks(client)
    return Deployed(tuple(deployment.name for deployment in declared), removed, cut_off, missed, blocks)


def declared_in(file: Path) -> tuple[Declared, ...]:
    """The deployments in a `prefect.yaml`.

    Raises:
        PlatformError: it is no YAML, holds none, or one without a name, a flow or a work pool.
    """
    try:
        content = YAML(typ="safe").load(file) if file.exists() else None
    except YAMLError as error:
        raise PlatformError(
            f"{file} is not valid YAML: {error}", remedy="`git checkout prefect.yaml` brings ours back"
        ) from error
    found = []
    for number, entry in enumerate((content or {}).get("deployments") or []):
        try:
            flow: Flow[..., Any] = load_flow_from_entrypoint(entry["entrypoint"])
            found.append(Declared(f"{flow.name}/{entry['name']}", entry["work_pool"]["name"]))
        except (KeyError, TypeError, ImportError, MissingFlowError) as error:
            raise PlatformError(
                f"{file}: deployment {number + 1}: {type(error).__name__}: {error}",
                remedy="each needs name, entrypoint (package.module.flow) and work_pool.name",
            ) from error
    if not found:
        raise PlatformError(f"{file} declares no deployment", remedy="`git checkout prefect.yaml` brings ours back")
    return tuple(found)


def ensure_pool(client: SyncPrefectClient, name: str) -> None:
    """A work pool whose workers start processes on their own machine."""
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
    except ObjectAlreadyExists:
        return


def prefect_deploy() -> None:
    """`prefect deploy --all`, in this process: another one would take seconds to import Prefect again.

    Raises:
        PlatformError: it failed.
    """
    from prefect.cli import app

    with _arguments("prefect", "deploy", "--all", "--no-prompt"):
        try:
            app()
        except SystemExit as end:
            if end.code:
                raise PlatformError(
                    "`prefect deploy --all` failed: its messages above say why",
                    remedy="mend prefect.yaml, or `git checkout prefect.yaml`",
                ) from end


def remove_others(client: SyncPrefectClient, declared: tuple[Declared, ...]) -> tuple[str, ...]:
    """Remove deployments to our pools that are not in the file, with their triggers.

    Raises:
        PlatformError: one that is in the file is not on the server.
    """
    flows = {flow.id: flow.name for flow in client.read_flows()}
    present = {f"{flows[found.flow_id]}/{found.name}": found for found in client.read_deployments()}
    names, pools = {deployment.name for deployment in declared}, {deployment.pool for deployment in declared}
    if lacking := names - present.keys():
        raise PlatformError(
            f"`prefect deploy --all` did not deploy {', '.join(sorted(lacking))}",
            remedy="its messages above say what is wrong with prefect.yaml",
        )
    others = sorted(name for name in present.keys() - names if present[name].work_pool_name in pools)
    for name in others:
        client.delete_resource_owned_automations(f"prefect.deployment.{present[name].id}")
        client.delete_deployment(present[name].id)
    return tuple(others)


def end_cut_off(client: SyncPrefectClient, pools: list[str]) -> tuple[str, ...]:
    """Mark runs as crashed that were under way when their workers ended."""
    runs = client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=pools)),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY))),
    )
    for run in runs:
        crashed: State[Any] = Crashed(message="cut off: the platform was stopped while this ran")
        client.set_flow_run_state(run.id, crashed, force=True)
    return tuple(run.name for run in runs)


def drop_missed(client: SyncPrefectClient, pools: list[str], now: datetime) -> int:
    """Delete runs that a schedule had planned for before `now`."""
    runs = client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=pools)),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=now),
        ),
    )
    planned = [run for run in runs if run.auto_scheduled]
    for run in planned:
        client.delete_flow_run(run.id)
    return len(planned)


@contextmanager
def _arguments(*arguments: str) -> Iterator[None]:
    before, sys.argv = sys.argv, list(arguments)
    try:
        yield
    finally:
        sys.argv = before


if __name__ == "__main__":
    telemetry.silence()
    try:
        deployed = deploy(Project.find(), idle="--idle" in sys.argv[1:])
        print("\n".join(f"recloop: {line}" for line in str(deployed).splitlines()))
    except RecloopError as error:
        sys.exit(f"recloop: {error}")
