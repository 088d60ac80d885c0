"""The stages `train` and `evaluate` as dvc.yaml runs them: the core does the work, MLflow is told of it.

What the stages write depends on nothing but their inputs. Where MLflow is down they warn and go on.
"""

from __future__ import annotations

from functools import partial

from recloop.config import Params
from recloop.data.prepared import Prepared
from recloop.errors import ConfigError, did_you_mean
from recloop.evaluation import Evaluation
from recloop.evaluation import evaluate as judge
from recloop.evaluation.segments import user_groups
from recloop.project import Project
from recloop.registry.journal import Journal, attempt
from recloop.registry.runs import ensure_run, log_evaluation, run_of
from recloop.registry.tracking import open_tracking
from recloop.training import FitResult, fit, is_first, save_fit


def train(project: Project, model: str) -> FitResult:
    """Train `model` on the prepared data; write the model, its report and its curve.

    A training that was stopped goes on from its last epoch. Under `torchrun` the first process writes and logs. With
    `train.warm_start` it begins from the champion in `data/warm`.

    Raises:
        ConfigError: params.yaml has no such model.
        StageError: the prepared data or the champion to begin from is missing or damaged.
        ModelError: the training failed.
    """
    params = project.params
    _require(model, params)
    prepared = Prepared.load(project.prepared)
    learn = partial(
        fit,
        model,
        prepared,
        params.train,
        params.evaluate,
        params.models[model],
        checkpoint=project.checkpoint(model),
        champion=project.warm if params.train.warm_start else None,
    )
    if not is_first():
        return learn()
    with Journal(project, model, prepared.meta) as journal:
        result = learn(on_epoch=journal.epoch)
        save_fit(result, project.model(model), project.reports, model)
        project.checkpoint(model).unlink(missing_ok=True)
        journal.finish()
    return result


def evaluate(project: Project, model: str) -> Evaluation:
    """Judge the trained `model` on the test period; write the report, and a row a user.

    Raises:
        ConfigError: params.yaml has no such model.
        StageError: the prepared data is missing, or the test period has no cases.
        ModelError: the model cannot be loaded.
    """
    from recloop.models.catalogue import load_model

    params = project.params
    _require(model, params)
    remedy = f"`recloop train {model}` trains it, `dvc repro` everything that is not up to date"
    trained = load_model(project.model(model), remedy=remedy)
    prepared = Prepared.load(project.prepared)
    column = params.evaluate.group_by
    groups = None if column is None else user_groups(project.prepared, column)
    evaluation = judge(trained, prepared, "test", params.evaluate, params.train.max_history, groups=groups)
    evaluation.save(project.reports, model, valid=project.reports / "training" / f"{model}.json")

    def log() -> None:
        tracking = open_tracking(project)
        run = run_of(tracking, project, model)
        if run is None:
            ensure_run(tracking, project, model)
        else:
            log_evaluation(run, project, model)

    attempt(log)
    return evaluation


def _require(model: str, params: Params) -> None:
    if model not in params.models:
        raise ConfigError(
            f"params.yaml has no section models.{model}{did_you_mean(model, params.models)}",
            remedy=f"there are: {', '.join(sorted(params.models))}",
        )
