"""What became of trainings that never said so: of a worker that dies with its run Prefect hears nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from recloop.errors import BusyError
from recloop.exclusive import Lock
from recloop.project import Project

if TYPE_CHECKING:
    from monitoring.run import CameTo

TRAINING = "training"
ENDED = [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]


@contextmanager
def alive(project: Project, run: str) -> Iterator[None]:
    """While the training inside goes on, and its process lives, `_gone` is false."""
    with _lock(project, run):
        try:
            yield
        finally:
            _file(project, run).unlink()


def came_to(run: str) -> CameTo | None:
    """What a training run came to that never said so; None: it goes on, or has just ended and will say it.

    `nothing`: its process was killed, it failed, or the server does not know it any more; `cancelled`: by a person. One
    that the gate stopped has said so in the verdict, which is closed then.
    """
    with get_client(sync_client=True) as client:
        try:
            found = client.read_flow_run(UUID(run))
        except (ObjectNotFound, ValueError):
            return "nothing"
        state = found.state
        if state is None:
            return None
        if state.is_running() and _gone(Project.find(), run):
            _end(client, found)
            return "nothing"
    return "cancelled" if state.is_cancelled() else "nothing" if state.is_crashed() or state.is_failed() else None


def killed(project: Project) -> str | None:
    """What is known of the newest training, if it was killed. One whose process is gone is marked as crashed."""
    with get_client(sync_client=True) as client:
        for run in _trainings(client, [StateType.RUNNING]):
            if _gone(project, str(run.id)):
                _end(client, run)
        newest = next(iter(_trainings(client, ENDED, limit=1)), None)
    if newest is None or newest.state is None or not newest.state.is_crashed():
        return None
    return f"training {newest.name}: {newest.state.message}"


def _trainings(client: SyncPrefectClient, states: list[StateType], limit: int = 100) -> list[FlowRun]:
    """Those in such a state, the last to end first."""
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[TRAINING])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states))),
        sort=FlowRunSort.END_TIME_DESC,
        limit=limit,
    )


def _gone(project: Project, run: str) -> bool:
    """Whether a training has begun in this project, and its process lives no more."""
    if not _file(project, run).exists():
        return False
    try:
        with _lock(project, run):
            return True
    except BusyError:
        return False


def _end(client: SyncPrefectClient, run: FlowRun) -> None:
    """Mark as crashed what was killed."""
    crashed: State[Any] = Crashed(message="its process was killed, and the worker that watched it, too")
    client.set_flow_run_state(run.id, crashed, force=True)


def _lock(project: Project, run: str) -> Lock:
    return Lock(_file(project, run), f"training {run}")


def _file(project: Project, run: str) -> Path:
    return project.var / "runs" / f"{run}.lock"
