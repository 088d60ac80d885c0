"""DVC's stage graph, for whoever runs the stages one by one: DVC owns it, nobody writes it a second time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recloop.errors import ConfigError
from recloop.project import Project


@dataclass(frozen=True)
class StageNode:
    """A stage of dvc.yaml."""

    name: str
    """As `dvc repro` takes it: `prepare`, `train@sasrec`."""
    depends_on: tuple[str, ...]
    """The stages whose outputs it reads, in dvc.yaml's order."""


def stage_graph(project: Project) -> tuple[StageNode, ...]:
    """The stages of the project's dvc.yaml, each after all that it depends on.

    Raises:
        ConfigError: dvc.yaml is missing or wrong, or the folder is not one of DVC's.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    nodes: dict[str, StageNode] = {}
    try:
        with Repo(str(project.root)) as repo:
            # What `dvc add` tracks is in the graph too, but has no command to run.
            names = {stage: _name(stage) for stage in repo.index.stages if stage.cmd}
            needs: dict[str, set[str]] = {name: set() for name in names.values()}
            # An edge goes from a stage to one that it depends on.
            for stage, other in repo.index.graph.edges:
                if stage in names and other in names:
                    needs[names[stage]].add(names[other])
    except DvcException as error:
        raise ConfigError(
            f"{project.root / 'dvc.yaml'}: {error}", remedy="`dvc stage list` shows what DVC makes of it"
        ) from error

    def visit(name: str) -> None:
        if name not in nodes:
            found = tuple(other for other in needs if other in needs[name])
            for other in found:
                visit(other)
            nodes[name] = StageNode(name, found)

    for name in needs:
        visit(name)
    return tuple(nodes.values())


def _name(stage: Any) -> str:
    """How to address a stage from the project's root. DVC's own `addressing` depends on where one stands."""
    return str(stage.name if stage.path_in_repo == "dvc.yaml" else f"{stage.path_in_repo}:{stage.name}")
