"""Alerts in Prefect: an event for each, and a notification for each event where a block says who gets it.

A notification block holds secrets, and so is made on the server and not here. Whoever makes one, of any type, and names
it `recloop-alerts`, gets the alerts from the next deployment on: that makes the automation which joins the two.
"""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument
from prefect.events import AutomationCore, EventTrigger
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import Posture

from flows.events import emit
from monitoring.channels import Channel, Message, channels_of
from recloop.project import Project

ALERT = "recloop.alert"
BLOCK = "recloop-alerts"
"""A name as blocks may have: letters, digits and dashes"""
AUTOMATION = "recloop alerts"


def channels(project: Project) -> tuple[Channel, ...]:
    """Who is told of an alert that a flow raises.

    Raises:
        ConfigError: a channel is configured wrongly.
    """
    return (*channels_of(project), prefect_channel(project.params.promotion.model_name))


def prefect_channel(model_name: str) -> Channel:
    """A channel that emits the event `recloop.alert`; its payload says what a webhook is told.

    Args:
        model_name: the registered model; the event's resource is `recloop.<model_name>`.
    """

    def tell(message: Message) -> None:
        payload = {
            "title": message.title,
            "text": message.body,
            "severity": message.severity,
            "cause": message.cause,
        }
        emit(ALERT, model_name=model_name, payload=payload)

    return Channel("prefect", tell)


def notify_blocks(client: SyncPrefectClient) -> tuple[str, ...]:
    """Let every block named `recloop-alerts` that can notify be told of alerts; without one, let nobody be told.

    An automation that is right already is left alone: somebody may have paused it.

    Returns:
        The types of the blocks.
    """
    blocks = _blocks(client)
    wanted = _automation(blocks)
    right = False
    for present in client.read_automations_by_name(AUTOMATION):
        if blocks and not right and present.actions == wanted.actions:
            right = True
        else:
            client.delete_automation(present.id)
    if blocks and not right:
        client.create_automation(wanted)
    return tuple(block.block_type.slug for block in blocks if block.block_type)


def _blocks(client: SyncPrefectClient) -> list[BlockDocument]:
    """In the order of their types."""
    which = {
        "block_documents": {"name": {"any_": [BLOCK]}, "is_anonymous": {"eq_": False}},
        "block_schemas": {"block_capabilities": {"all_": ["notify"]}},
    }
    answer = client.request("POST", "/block_documents/filter", json=which)
    found = BlockDocument.model_validate_list(answer.json())
    return sorted(found, key=lambda block: block.block_type.slug if block.block_type else "")


def _automation(blocks: list[BlockDocument]) -> AutomationCore:
    return AutomationCore(
        name=AUTOMATION,
        description=f"Alerts of recloop go to the blocks named {BLOCK}.",
        trigger=EventTrigger(
            match={"prefect.resource.id": "recloop.*"},
            expect={ALERT},
            posture=Posture.Reactive,
            threshold=1,
            within=0,
        ),
        actions=[
            SendNotification(
                block_document_id=block.id,
                subject="{{ event.payload.severity }}: {{ event.payload.title }}",
                body="{{ event.payload.text }}",
            )
            for block in blocks
        ],
    )
