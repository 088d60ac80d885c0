"""`recloop …`: every stage of dvc.yaml and every act on what is live, as one command each.

Heavy imports happen inside the commands, so that `recloop --help` is quick. A RecloopError is printed without a
traceback, with its remedy, and decides the exit code.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from recloop import telemetry
from recloop.errors import RecloopError, explained
from recloop.project import Project

app = typer.Typer(
    name="recloop",
    help="A recommender system that keeps itself fresh.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ModelName = Annotated[str, typer.Argument(help="A model of the zoo in params.yaml.")]


@app.command()
def check() -> None:
    """Validate params.yaml, every model's section included, and look at the source's files."""
    from recloop.data import sources
    from recloop.training.settings import check_models

    project = Project.find()
    check_models(project.params)
    sources.check(project.params.source, project.root)
    print("params.yaml is valid, and the source can be read")


@app.command()
def preset(name: Annotated[str | None, typer.Argument(help="Default: say which there are.")] = None) -> None:
    """Set params.yaml up for a known case, such as a textbook's."""
    from recloop.presets import apply_preset, presets

    if name is None:
        print("\n".join(f"{known}: {what}" for known, what in presets().items()))
    else:
        changes = apply_preset(name, Project.find().root / "params.yaml")
        print("\n".join(changes) or f"params.yaml has the settings of {name} already")


# The stages of dvc.yaml.


@app.command()
def ingest() -> None:
    """Stage: read the source into the canonical tables."""
    from recloop.data.sources import check_folder, ingest
    from recloop.training.settings import check_models

    project = Project.find()
    check_folder(project.params.source, project.root)
    check_models(project.params)  # the first stage: a fault in a model's section need not wait for its training
    print(ingest(project.params.source, project.raw, base=project.root))


@app.command()
def feedback() -> None:
    """Stage: make the table of events taken at the endpoint, empty where there is none yet."""
    from recloop.data.feedback import ensure_feedback

    print(ensure_feedback(Project.find().feedback))


@app.command()
def gate() -> None:
    """Stage: judge the data; quarantine bad rows; stop if it is not fit to learn from."""
    from recloop.quality.gate import run_gate

    print(run_gate(Project.find()))


@app.command()
def prepare() -> None:
    """Stage: clean, encode and split the data."""
    from recloop.data.prepare import prepare

    project = Project.find()
    print(prepare(project.gated, project.prepared, project.params.prepare, project.params.split))


@app.command()
def train(model: ModelName) -> None:
    """Stage: train one model. Under `torchrun` its processes do it together."""
    from recloop.registry.stages import train
    from recloop.training import is_first

    result = train(Project.find(), model)
    if is_first():
        print(result)


@app.command()
def evaluate(model: ModelName) -> None:
    """Stage: judge one trained model on the test period."""
    from recloop.registry.stages import evaluate

    print(evaluate(Project.find(), model))


@app.command()
def compare() -> None:
    """Stage: choose the best model by its validation NDCG@10."""
    from recloop.evaluation.compare import compare

    project = Project.find()
    print(compare(project.reports, project.params.zoo, project.params.evaluate))


@app.command()
def tune(
    model: Annotated[str, typer.Argument(help="A model with a search space under `tune` in params.yaml.")],
    trials: Annotated[
        int | None, typer.Option(min=1, help="Of the study in all, every worker's. Default: tune.trials.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Begin no trial after so many seconds.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Leave params.yaml as it is.")] = False,
) -> None:
    """Search for better settings of a model; write the best into params.yaml, for you to review."""
    from recloop.tuning.run import tune

    tune(Project.find(), model, trials=trials, timeout=timeout, dry_run=dry_run).show()


# Acts on what is live.


@app.command()
def snapshot() -> None:
    """Take the events of the endpoint into data/feedback, versioned by DVC, for the next training."""
    from recloop.pipeline.snapshot import snapshot

    print(snapshot(Project.find()))


@app.command()
def promote(
    model: Annotated[str | None, typer.Argument(help="Default: the best one of the comparison.")] = None,
    reason: Annotated[str, typer.Option(help="Why it was trained; kept with the version.")] = "a person asked",
) -> None:
    """Register a trained model; make it champion if it is better on the same users."""
    from recloop.registry.promotion import promote

    print(promote(Project.find(), model, reason=reason))


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Kept in the history.")] = "a person asked",
) -> None:
    """Make the previous champion live again."""
    from recloop.registry.rollback import rollback

    print(rollback(Project.find(), reason=reason))


@app.command()
def history() -> None:
    """Who was champion, from when to when, and why."""
    from recloop.registry.history import show_history

    print(show_history(Project.find()))


@app.command()
def lineage(version: Annotated[int, typer.Argument(help="A version in the registry.")]) -> None:
    """Where a version comes from: run, commit, dvc.lock, data hashes."""
    from recloop.registry.lineage import lineage

    print(lineage(Project.find(), version))


@app.command()
def deploy() -> None:
    """Put the champion where the endpoint serves it from (promote and rollback do this too)."""
    from recloop.registry.deploy import deploy

    print(deploy(Project.find()))


@app.command()
def package() -> None:
    """Build a Bento with the champion inside, which serves on its own."""
    from recloop.serving.package import build_bento

    print(build_bento(Project.find()))


@app.command()
def serve(
    wait: Annotated[bool, typer.Option("--wait", help="Start without a champion too, and wait for one.")] = False,
    port: Annotated[int | None, typer.Option(help="Default: serving.port of params.yaml.")] = None,
) -> None:
    """Run the endpoint, following the champion, until interrupted."""
    from recloop.serving.process import serve

    serve(Project.find(), wait=wait, port=port)


@app.command()
def mlflow(
    port: Annotated[int | None, typer.Option(help="Default: platform.mlflow_port of params.yaml.")] = None,
) -> None:
    """Run MLflow's UI alone, until interrupted."""
    from recloop.registry.server import serve_mlflow

    serve_mlflow(Project.find(), port=port)


@app.command()
def monitor() -> None:
    """Compare served traffic with the training reference; keep the verdict."""
    from monitoring.run import monitor

    print(monitor(Project.find()))


@app.command()
def platform() -> None:
    """Run Prefect, MLflow, monitor, retrainer and endpoint together, until interrupted."""
    from recloop.platform import run_platform

    run_platform(Project.find())


@app.command()
def clean() -> None:
    """Remove what runs left behind: data, models, reports, databases, DVC's cache."""
    from recloop.cleanup import clean

    print(clean(Project.find()))


@app.command()
def demo() -> None:
    """The whole loop once, on MovieLens-100K, in a workspace of its own."""
    from recloop.demo.run import run_demo

    run_demo(Project.find())


def main() -> None:
    """Entry point: run a command, and turn what went wrong into a message and an exit code."""
    telemetry.silence()
    # In a file or a pipe, too, a line is there as soon as it is said.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # `dvc` and `bentoml` are started by name: ours must be found even where the environment is not activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        app()
    except RecloopError as error:
        _fail(error)
    except OSError as error:
        _fail(explained(error))


def _fail(error: RecloopError) -> NoReturn:
    print(f"recloop: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
