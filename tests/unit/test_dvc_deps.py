"""The deps of each stage of dvc.yaml are the code that its work runs: no module is missing, and none is idle.

Without a dep, a change of that module leaves the stage's old outputs in place as if they were up to date.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest
from ruamel.yaml import YAML

from recloop.models.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


@dataclass(frozen=True)
class Work:
    """What a stage runs."""

    roots: tuple[str, ...]
    excused: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Who imports what → why that changes nothing of what the stage writes."""


ACT = "recloop.registry.stages"
MODELS = tuple(sorted({place.partition(":")[0] for place in CATALOGUE.values()}))  # imported by name

WORK = {
    "ingest": Work(("recloop.data.sources",)),
    "feedback": Work(()),  # a table that is there is left alone, so that no change of code makes another
    "gate": Work(("recloop.quality.gate",)),
    "prepare": Work(("recloop.data.prepare",)),
    "warm": Work(()),  # likewise
    "train": Work(
        (ACT, *MODELS),
        {
            (ACT, "recloop.evaluation.evaluation"): "for `evaluate`",
            (ACT, "recloop.evaluation.segments"): "for `evaluate`",
            ("recloop.evaluation.examination", "recloop.evaluation.beyond"): "for the test's report",
            ("recloop.evaluation.examination", "recloop.evaluation.evaluation"): "for the test's report",
            ("recloop.evaluation.examination", "recloop.evaluation.segments"): "for the test's report",
        },
    ),
    "evaluate": Work(
        (ACT, *MODELS),
        {
            (ACT, "recloop.training.distribution"): "for `train`",
            (ACT, "recloop.training.loop"): "for `train`",
            (ACT, "recloop.training.result"): "for `train`",
            ("recloop.data.batches", "recloop.data.augmentation"): "for training's batches",
            ("recloop.models.sequence", "recloop.data.cooccurrence"): "what a training begins from",
        },
    ),
    "compare": Work(("recloop.evaluation.compare",)),
}

PLUMBING = {
    "recloop.config": "its settings are in params.yaml, and each stage names those it reads as params",
    "recloop.errors": "messages",
    "recloop.files": "how a file comes to be whole, not what is in it",
    "recloop.project": "where things are: dvc.yaml names the same places",
    "recloop.registry.journal": "tells MLflow; no output of a stage has anything of it",
    "recloop.registry.runs": "tells MLflow",
    "recloop.registry.tracking": "tells MLflow",
    "recloop.telemetry": "keeps libraries from calling home",
}
"""Shared modules and packages whose change changes no output, and why."""


@pytest.mark.parametrize("stage", WORK)
def test_a_stage_depends_on_every_module_that_its_work_runs(stage: str) -> None:
    covering = [PurePosixPath(dep) for dep in code_deps(stage)]
    missing = {
        f"{path} (imported by {importer})"
        for path, importer in needed(stage).items()
        if not any(path.is_relative_to(dep) for dep in covering)
    }
    assert not missing


@pytest.mark.parametrize("stage", WORK)
def test_a_stage_depends_on_no_code_that_its_work_does_not_run(stage: str) -> None:
    paths = needed(stage)
    idle = {dep for dep in code_deps(stage) if not any(path.is_relative_to(dep) for path in paths)}
    assert not idle


def test_every_dep_is_code_that_exists_or_what_a_stage_makes() -> None:
    made = [PurePosixPath(out) for stage in STAGES.values() for out in outs(stage)]
    found = {
        dep: (ROOT / dep).exists() if dep.startswith("src/") else any(out.is_relative_to(dep) for out in made)
        for stage in STAGES
        for dep in deps(stage)
    }
    assert {dep for dep, exists in found.items() if not exists} == {"${source.folder}"}


def test_every_stage_is_judged_and_no_excuse_is_out_of_date() -> None:
    assert list(WORK) == list(STAGES)
    edges = {stage: set(imports_from(stage)) for stage in WORK}
    assert {edge for stage, work in WORK.items() for edge in work.excused if edge not in edges[stage]} == set()
    assert PLUMBING.keys() - {imported for found in edges.values() for _, imported in found} == set()


def test_imports_are_those_that_run_also_inside_functions_and_through_a_package() -> None:
    text = """
from typing import TYPE_CHECKING
import recloop.files
from recloop.data import schema
if TYPE_CHECKING:
    from recloop.data import prepare
def judge():
    from recloop.data.sources import ingest
    from recloop.evaluation import Evaluation
"""
    assert set(imports(ast.parse(text))) == {
        "recloop.files",
        "recloop.data.schema",
        "recloop.data.sources",  # defined there
        "recloop.evaluation.evaluation",  # only passed on there
    }


def deps(stage: str) -> list[str]:
    return STAGES[stage].get("deps", [])


def code_deps(stage: str) -> list[str]:
    return [dep for dep in deps(stage) if dep.startswith("src/")]


def outs(stage: Mapping[str, list[str | dict[str, object]]]) -> Iterator[str]:
    for kind in ("outs", "metrics", "plots"):
        for out in stage.get(kind, []):
            yield from [out] if isinstance(out, str) else out


def needed(stage: str) -> dict[PurePosixPath, str]:
    """The files of the modules that the stage runs, and one module that imports each."""
    work = WORK[stage]
    modules = dict.fromkeys(work.roots, "dvc.yaml's cmd")
    for importer, imported in imports_from(stage):
        if imported not in PLUMBING and (importer, imported) not in work.excused:
            modules.setdefault(imported, importer)
    return {PurePosixPath(file_of(module).relative_to(ROOT).as_posix()): by for module, by in modules.items()}


def imports_from(stage: str) -> Iterator[tuple[str, str]]:
    """Who imports what, from the roots of the stage's work on; not further where it is excused or plumbing."""
    work, seen = WORK[stage], set(WORK[stage].roots)
    queue = list(work.roots)
    while queue:
        importer = queue.pop()
        for imported in imports(ast.parse(file_of(importer).read_text(encoding="utf-8"))):
            yield importer, imported
            if imported not in seen and imported not in PLUMBING and (importer, imported) not in work.excused:
                seen.add(imported)
                queue.append(imported)


def imports(node: ast.AST) -> Iterator[str]:
    """The project's modules that are imported in `node` when it runs."""
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=others):
            for each in others:
                yield from imports(each)
            return
        case ast.Import(names=names):
            yield from (each.name for each in names if is_ours(each.name))
        case ast.ImportFrom(module=str(module), names=names) if is_ours(module):
            yield from (home(module, each.name) for each in names)
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


def home(module: str, name: str) -> str:
    """The module that `from module import name` comes from: a package may only pass it on."""
    if module in PLUMBING:  # which of its modules it comes from makes no difference
        return module
    if file_of(f"{module}.{name}").is_file():
        return f"{module}.{name}"
    if file_of(module).name == "__init__.py":
        for node in ast.parse(file_of(module).read_text(encoding="utf-8")).body:
            match node:
                case ast.ImportFrom(module=str(source), names=names) if is_ours(source):
                    for each in names:
                        if name == (each.asname or each.name):
                            return home(source, each.name)
    return module


def is_ours(module: str) -> bool:
    return module.partition(".")[0] == "recloop"


def file_of(module: str) -> Path:
    path = ROOT.joinpath("src", *module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
