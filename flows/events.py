"""Prefect events that are known to have arrived.

Prefect's own `emit_event` hands the event to a thread and swallows what goes wrong there. A drift that nobody
hears of must not look like a success: ours is sent by a request of its own, and it is an error if the server
does not take it.
"""

from __future__ import annotations

from collections.abc import Mapping

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.events import Event, RelatedResource, Resource

from recloop.errors import PlatformError


def emit(event: str, *, model_name: str, payload: Mapping[str, str]) -> str:
    """Send an event about a model; the server has it when this returns.

    Args:
        event: e.g. `recloop.drift`.
        model_name: the registered model it is about; the event's resource is `recloop.<model_name>`.
        payload: strings only: a template of a trigger sees nothing else.

    Returns:
        the event's id.

    Raises:
        PlatformError: the server did not take it.
    """
    message = Event(
        event=event,
        resource=Resource({"prefect.resource.id": f"recloop.{model_name}", "prefect.resource.name": model_name}),
        related=_this_run(),
        payload=dict(payload),
    )
    try:
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=[message.model_dump(mode="json")])
    except Exception as error:
        raise PlatformError(
            f"the Prefect server did not take the event {event}: {error}",
            remedy="see that it runs, and that PREFECT_API_URL points to it",
        ) from error
    return str(message.id)


def _this_run() -> list[RelatedResource]:
    """The flow run that emits, so that the event stands beside it in the UI."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return []
    run = context.flow_run
    return [
        RelatedResource(
            {
                "prefect.resource.id": f"prefect.flow-run.{run.id}",
                "prefect.resource.role": "flow-run",
                "prefect.resource.name": run.name,
            }
        )
    ]
