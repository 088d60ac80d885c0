"""`recloop tune`: one worker of a study from its beginning to the change of params.yaml.

A trial is judged by its best epoch's NDCG@10 on the validation period; the test period is never looked at. The best of
many looks better on what it was chosen by than it is: whether it is, the gate of `recloop promote` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from recloop.config import load_params
from recloop.data.prepared import Prepared
from recloop.errors import ConfigError, ModelError
from recloop.files import sha256
from recloop.params_file import change_params
from recloop.project import Project
from recloop.registry.journal import Warn, warn
from recloop.registry.trials import StudyJournal, Subject
from recloop.tuning.outcome import Outcome, best_of, present_of
from recloop.tuning.space import Space
from recloop.tuning.study import HEARTBEAT, Tried, opened, tried
from recloop.tuning.worker import Say, Worker, say


def tune(
    project: Project,
    model: str,
    *,
    trials: int | None = None,
    timeout: float | None = None,
    dry_run: bool = False,
    heartbeat: int = HEARTBEAT,
    say: Say = say,
    warn: Warn = warn,
) -> Outcome:
    """Search for better settings of `model`, with whoever else does; write the best into params.yaml.

    Args:
        project: the checkout.
        model: one that has a space under `tune.models`.
        trials: of the study in all; None: `tune.trials`.
        timeout: after so many seconds no other trial is begun.
        dry_run: leave params.yaml as it is.
        heartbeat: seconds between two signs of life.
        say: is told of each trial.
        warn: is told, once, that MLflow does not work.

    Raises:
        ConfigError: the model or its space is wrong.
        StageError: the prepared data is missing or damaged, or there is nothing to learn from it.
        ModelError: no trial came to its end.
        DatabaseError: the database, which holds the study, does not answer.
    """
    params = project.params
    space = Space.of(params, model)
    prepared = Prepared.load(project.prepared)
    data = sha256(project.prepared)
    name = space.study(data)
    settings = params.model_dump(mode="json")
    subject = Subject(
        name,
        model,
        {"space": settings["tune"]["models"][model], "model": params.models[model]}
        | {section: settings[section] for section in ("source", "prepare", "split", "train", "evaluate")},
        data,
        prepared.meta,
    )
    with (
        opened(project.database_url, name, space, seed=params.train.seed, heartbeat=heartbeat) as study,
        StudyJournal(project, subject, warn=warn) as journal,
    ):
        count = trials or params.tune.trials
        try:
            Worker(study, space, prepared, journal, trials=count, timeout=timeout, say=say).run()
        except KeyboardInterrupt:
            say("recloop: interrupted; the study is kept, and the same command goes on with it")
            raise
        found = tried(study)
    outcome = Outcome(model, name, found, present_of(found, space.present), "")
    return _with_change(outcome, project, space, data, dry_run=dry_run)


def _with_change(outcome: Outcome, project: Project, space: Space, data: str, *, dry_run: bool) -> Outcome:
    """`outcome`, with the best values in params.yaml if they are better than those that are there now."""
    best = best_of(outcome.trials)
    if best is None:
        if not any(each.done for each in outcome.trials):
            return replace(outcome, verdict="no trial came to its end yet; params.yaml stays as it is")
        raise ModelError(
            f"{outcome.model}: no trial of {len(outcome.trials)} came to its end; {_last_words(outcome.trials)}",
            remedy=f"mend tune.models.{outcome.model}, e.g. with lower learning rates",
        )
    path = project.root / "params.yaml"
    now = _now(project, space, data)
    if now is None:
        return replace(outcome, verdict="params.yaml was changed meanwhile, and stays as it is; tune again")
    if best.settings == now.present:
        who = "the present values are best" if now.present == space.present else "another worker has written the best"
        return replace(outcome, verdict=f"{who}; nothing is changed")
    beaten = present_of(outcome.trials, now.present)
    if beaten is None:
        return replace(outcome, verdict="the present values are not judged yet; params.yaml stays as it is")
    if beaten.ndcg_at_10 is not None and beaten.state == "complete" and not _better(best, beaten):
        return replace(outcome, verdict="the present values are best; nothing is changed")
    diff = change_params(path, now.changes(best.settings), write=not dry_run)
    if dry_run:
        return replace(outcome, verdict="what would be changed (nothing is, with --dry-run):", diff=diff)
    verdict = "params.yaml is changed; look at it with `git diff params.yaml`, then `dvc repro` trains with it:"
    return replace(outcome, verdict=verdict, diff=diff)


def _better(one: Tried, other: Tried) -> bool:
    return (one.ndcg_at_10 or 0.0) > (other.ndcg_at_10 or 0.0)


def _now(project: Project, space: Space, data: str) -> Space | None:
    """The space of params.yaml as it is now; None where the study is not of it: somebody has changed it meanwhile, be
    it a person or another worker that has written its best values."""
    try:
        now = Space.of(load_params(project.root / "params.yaml"), space.name)
    except ConfigError:
        return None
    return now if now.study(data) == space.study(data) else None


def _last_words(found: Sequence[Tried]) -> str:
    return f"the last said: {[each.why for each in found if each.why][-1]}"
