"""`recloop …`: every stage of dvc.yaml and every act on what is live, as one command each.

Heavy imports happen inside the commands, so that `recloop --help` is quick. A RecloopError is printed without a
traceback, with its remedy, and decides the exit code.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from recloop import telemetry
from recloop.errors import RecloopError, ShortOfMemory, explained
from recloop.project import Project

if TYPE_CHECKING:  # it imports SQLAlchemy
    from sqlalchemy import Engine

TURN_SECONDS = 10.0
"""How long a process that `torchrun` started waits for another to say what they have both met."""

app = typer.Typer(
    name="recloop",
    help="A recommender system that keeps itself fresh.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

keys = typer.Typer(help="API keys of the endpoint (serving.auth).", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys, name="keys")

ModelName = Annotated[str, typer.Argument(help="A model of the zoo in params.yaml.")]
KeyId = Annotated[str, typer.Argument(help="What stands between a key's first two underscores.")]


@app.command()
def check() -> None:
    """Validate params.yaml, and look at the source's files. Every model's section is validated, too."""
    from recloop.data import sources
    from recloop.training.settings import check_models

    project = Project.find()
    check_models(project.params)
    found = sources.check(project.params.source, project.root)
    print("\n".join(["params.yaml is valid, and the source can be read", *found]))


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
    """Stage: make the table of events taken at the endpoint. It is empty where there are none yet."""
    from recloop.data.feedback import ensure_feedback

    print(ensure_feedback(Project.find().feedback))


@app.command()
def gate() -> None:
    """Stage: judge the data; stop if it is not fit to learn from. Bad rows go to quarantine."""
    from recloop.quality.gate import run_gate

    print(run_gate(Project.find()))


@app.command()
def prepare() -> None:
    """Stage: clean, encode and split the data."""
    from recloop.data.prepare import prepare

    project = Project.find()
    print(prepare(project.gated, project.prepared, project.params.prepare, project.params.split))


@app.command()
def warm() -> None:
    """Stage: make the folder of the champion to begin from. There is none in it before a snapshot takes one."""
    from recloop.data.warm import ensure_warm

    print(ensure_warm(Project.find().warm))


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
    """Search for better settings of a model. The best are written into params.yaml, for you to review."""
    from recloop.tuning.run import tune

    tune(Project.find(), model, trials=trials, timeout=timeout, dry_run=dry_run).show()


# Acts on what is live.


@app.command()
def snapshot() -> None:
    """Take the endpoint's events for the next training. They go into data/feedback, versioned by DVC; with
    train.warm_start the live champion goes into data/warm, too."""
    from recloop.pipeline.snapshot import snapshot

    print(snapshot(Project.find()))


@app.command()
def promote(
    model: Annotated[str | None, typer.Argument(help="Default: the best one of the comparison.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the version. Default: a person asked.")] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="A version in the registry: champion without the test, for a --reason.")
    ] = None,
) -> None:
    """Register a trained model; make it champion if it is better. Both are judged on the same users."""
    from recloop.registry.promotion import promote, promote_version

    if version is None:
        print(promote(Project.find(), model, reason=reason or "a person asked"))
    elif model is not None or not reason:
        raise typer.BadParameter("it goes with a --reason, and without a model", param_hint="--version")
    else:
        print(promote_version(Project.find(), version, reason=reason))


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
    """Put the champion where the endpoint serves it from. `promote` and `rollback` do this, too."""
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


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    scope: Annotated[list[str], typer.Option(help="What it opens: recommend, events, admin. May be given again.")],
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="How long it works. Default: for ever.")] = None,
) -> None:
    """Make a key, and print it: the only time it can be seen."""
    from recloop.serving.keys import KeyStore, id_of
    from recloop.storage import now_us

    database = _database()
    expires_at = None if days is None else now_us() + days * 86_400_000_000
    key = KeyStore(database).create(name, scope, expires_at=expires_at)
    _note(database, "create key", {"id": id_of(key), "name": name, "scopes": scope, "days": days})
    _show_once(key, f"endpoints take it {_soon()}")


@keys.command("list")
def list_keys() -> None:
    """Every key there ever was, and whether it works."""
    from recloop.serving.keys import KeyStore, describe
    from recloop.storage import now_us

    print(describe(KeyStore(_database()).all(), now_us()))


@keys.command("rotate")
def rotate_key(
    id: KeyId,
    grace_hours: Annotated[int, typer.Option(min=0, max=876_000, help="How long the old one goes on working.")] = 24,
) -> None:
    """Make a key in the place of another, and print it: the only time it can be seen."""
    from recloop.serving.keys import KeyStore, id_of

    database = _database()
    new = KeyStore(database).rotate(id, grace_seconds=grace_hours * 3600)
    _note(database, "rotate key", {"id": id, "new_id": id_of(new), "grace_hours": grace_hours})
    _show_once(new, f"endpoints take it {_soon()}, and {id} for {grace_hours} more hours at most")


@keys.command("revoke")
def revoke_key(id: KeyId) -> None:
    """End a key now."""
    from recloop.serving.keys import KeyStore

    database = _database()
    KeyStore(database).revoke(id)
    _note(database, "revoke key", {"id": id})
    print(f"{id} is revoked: endpoints refuse it {_soon()}")


def _database() -> Engine:
    from recloop.storage import connect

    return connect(Project.find().database_url)


def _note(database: Engine, act: str, details: dict[str, object]) -> None:
    """A line in the table of what admins did."""
    import logging

    from recloop.serving.audit import note

    who = "the command line"
    note(database, None, act, details, f"done, at {who}", by=who, told="done", level=logging.INFO)


def _show_once(key: str, what: str) -> None:
    """Print a key, alone on standard output, so that it can go straight to where secrets are kept."""
    print(key)
    print(f"this key is not shown again, and nobody can look it up: keep it now; {what}", file=sys.stderr)


def _soon() -> str:
    return f"within {Project.find().params.serving.poll_seconds:g} s"


@app.command()
def mlflow(
    port: Annotated[int | None, typer.Option(help="Default: platform.mlflow_port of params.yaml.")] = None,
) -> None:
    """Run MLflow's UI alone, until interrupted."""
    from recloop.registry.server import serve_mlflow

    serve_mlflow(Project.find(), port=port)


@app.command()
def monitor() -> None:
    """Compare served traffic with the training reference. The verdict is kept, and who is to know is alerted."""
    from monitoring.channels import channels_of
    from monitoring.run import monitor
    from monitoring.telling import alerting, tell_of

    project = Project.find()
    with alerting(project, channels_of(project)) as alerts:
        verdict = monitor(project, tell=lambda found: tell_of(found, alerts))
    print(verdict)


@app.command()
def alerts() -> None:
    """What is wrong at present, and who could not be told."""
    from monitoring.alerts import Alerts, describe

    print(describe(Alerts(_database(), Project.find().params.alerts).open()))


@app.command()
def replay(
    windows: Annotated[int, typer.Option(min=1, help="Into so many the played half of the events is cut.")] = 20,
    policy: Annotated[
        list[str] | None, typer.Option(help="One to play beside `never` and `every window`. Default: all of them.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Of the zoo. Default: the best one of the comparison.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Play against the endpoint at this URL instead; $RECLOOP_KEY is its key.")
    ] = None,
) -> None:
    """Play the data's second half as live traffic. Says what each policy of retraining keeps, and costs."""
    from recloop.replay.command import against, compare_policies

    project = Project.find()
    if endpoint is not None and (policy or model):
        raise typer.BadParameter("an endpoint has its own model and policy", param_hint="--endpoint")
    if endpoint is None:
        compare_policies(project, windows, policies=policy or (), model=model)
    else:
        against(project, windows, endpoint)


@app.command()
def platform() -> None:
    """Run Prefect, MLflow, monitor, retrainer and endpoint. They run together, until interrupted."""
    from recloop.platform import run_platform

    run_platform(Project.find())


@app.command()
def clean() -> None:
    """Remove what runs left behind. That is data, models, reports, databases and DVC's cache."""
    from recloop.cleanup import clean

    print(clean(Project.find()))


@app.command()
def demo() -> None:
    """The whole loop once, on MovieLens-100K. It has a workspace of its own, var/demo."""
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
    """Say it and end. Of the processes that `torchrun` starts on a machine the first speaks for all: they meet the
    same, but for a want of memory; and when it has ended, `torchrun` ends those that wait here."""
    if int(os.environ.get("LOCAL_RANK", "0")) and not isinstance(error, ShortOfMemory):
        time.sleep(TURN_SECONDS)
    print(f"recloop: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
