"""DVC's stage graph, for whoever runs the stages one by one: DVC owns it, nobody writes it a second time."""

from __future__ import annotations

from dataclasses import dataclass

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
            stages = [stage.addressing for stage in repo.index.stages]
            # An edge goes from a stage to one that it depends on.
            needs: dict[str, set[str]] = {stage.addressing: set() for stage in repo.index.stages}
            for stage, other in repo.index.graph.edges:
                needs[stage.addressing].add(other.addressing)
    except DvcException as error:
        raise ConfigError(
            f"{project.root / 'dvc.yaml'}: {error}", remedy="`dvc stage list` shows what DVC makes of it"
        ) from error

    def visit(name: str) -> None:
        if name not in nodes:
            for other in (found := tuple(other for other in stages if other in needs[name])):
                visit(other)
            nodes[name] = StageNode(name, found)

    for name in stages:
        visit(name)
    return tuple(nodes.values())
