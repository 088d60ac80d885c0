"""`params.yaml` as typed, validated, immutable models. The only reader of that file.

Every section is a frozen pydantic model that refuses unknown keys. Hyper-parameters of a model are declared in
the model's own file, `models/<name>.py`; `training.settings.check_models` validates those too, at the price of
importing torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from ipaddress import ip_address
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from recloop.errors import ConfigError, did_you_mean

S = TypeVar("S", bound=BaseModel)
REMEDY = "mend it, or `git checkout params.yaml` to have the last committed one back"
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Limit = Annotated[float, Field(allow_inf_nan=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]

BATCH_RULES = ("quarantine_share", "volume", "freshness", "duplicates", "unknown_items", "event_mix")
"""The rules of the gate that judge a whole table; `gate.severity` says what each does."""


def _as_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_as_utc)]


def _as_within(path: Path) -> Path:
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("must be below source.folder, which DVC watches for changes")
    return path


Within = Annotated[Path, AfterValidator(_as_within)]


class Section(BaseModel):
    """A section of `params.yaml`: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class MovieLens100K(Section):
    """GroupLens's MovieLens-100K: 943 users, 1,682 films, 100,000 ratings, 1997-09 to 1998-04."""

    kind: Literal["movielens-100k"]
    folder: Path = Path("src/recloop/data/sources")
    """It comes from the network, and does not change: what DVC watches is what reads it."""
    until: Moment | None = None
    """Take only events before this time (UTC): for a backtest, or to play the rest as live traffic."""


class Sequences(Section):
    """A text file with one line a user: `user item item …`, in time order; the order is all the time there is."""

    kind: Literal["sequences"]
    folder: Path
    """Where it lies: when anything in this folder changes, `dvc repro` takes the data in again."""
    path: Within
    """The file, below `folder`."""
    until: None = None
    """Null, as the file we ship has it for other kinds."""

    @field_validator("until", mode="before")
    @classmethod
    def _has_no_times(cls, until: Any) -> Any:
        if until is not None:
            raise ValueError("a `sequences` source has an order but no times to cut at: set it to null")
        return until


class Synthetic(Section):
    """Purchases that are made up, by users with tastes: to try things out, and to see a model learn."""

    kind: Literal["synthetic"]
    folder: Path = Path("src/recloop/data/sources")
    """It comes from nowhere, and does not change: what DVC watches is what makes it."""
    users: Positive = 1000
    items: Positive = 1000
    events: Positive = 50_000
    tastes: Positive = 10
    """Users and items are to one taste each, in equal parts. With one there is only popularity to learn."""
    skew: float = Field(default=1.0, ge=0, le=10)
    """How much more popular some items of a taste are: the n-th in proportion to 1 / n^skew."""
    seed: Seed = 42
    until: Moment | None = None
    """Take only events before this time (UTC); they are of the year 2024."""

    @model_validator(mode="after")
    def _can_be_made(self) -> Synthetic:
        if self.tastes > self.items:
            raise ValueError(f"tastes must not exceed items: {self.tastes} tastes cannot share {self.items} items")
        pairs = self.users * self.items
        if pairs > 10**9:
            raise ValueError(f"users × items must not exceed a thousand million (got {pairs:,})")
        if self.events > pairs:
            raise ValueError(
                f"events must not exceed users × items, which is {pairs:,}: nobody buys anything twice "
                f"(got {self.events:,})"
            )
        return self


class TableFile(Section):
    """One of the user's own tables: a CSV or Parquet file, and which of its columns is which of ours."""

    path: Within
    """Below `source.folder`: a file, a folder of parts, or a pattern such as `log/*.parquet`."""
    columns: dict[str, str]
    """Canonical column → column of the file, e.g. `user_id: customer`."""
    constants: dict[str, str | float] = {}
    """Canonical column → one value for every row, e.g. `event: purchase`."""

    @model_validator(mode="after")
    def _says_each_once(self) -> TableFile:
        for name in self.columns.keys() & self.constants.keys():
            raise ValueError(f"{name} is both in columns and in constants")
        if isinstance(self.constants.get("value"), str):
            raise ValueError(f"constants.value is to be a number, not {self.constants['value']!r}")
        return self


class Table(Section):
    """The user's own interaction log, with items and users if there are tables of them."""

    kind: Literal["table"]
    folder: Path
    """Where the files lie: when anything in this folder changes, `dvc repro` takes the data in again."""
    interactions: TableFile
    items: TableFile | None = None
    users: TableFile | None = None
    timestamp_unit: Literal["s", "ms", "us", "iso"] = "s"
    """How times are written. Columns that hold times or dates by type (Parquet) need no unit."""
    until: Moment | None = None
    """Take only events before this time (UTC)."""

    @model_validator(mode="after")
    def _maps_what_is_needed(self) -> Table:
        needed = {
            "interactions": ("user_id", "item_id", "timestamp"),
            "items": ("item_id",),
            "users": ("user_id",),
        }
        for section, names in needed.items():
            file: TableFile | None = getattr(self, section)
            for name in names if file else ():
                if file and name not in file.columns:
                    raise ValueError(f"{section}.columns does not say which column is {name}")
        if "event" not in self.interactions.columns | self.interactions.constants:
            raise ValueError(
                "interactions does not say what happened: map `event` in columns, "
                "or give one for all rows, e.g. `constants: {event: purchase}`"
            )
        return self


Source = Annotated[MovieLens100K | Synthetic | Sequences | Table, Field(discriminator="kind")]


class Gate(Section):
    """What data may be learnt from. A row rule sends rows to quarantine; a batch rule judges the whole."""

    max_quarantine_share: Share = 0.02
    """More than this share of a table's rows in quarantine stops the run."""
    min_feedback_rows: Positive = 100
    """From this many rows on, events taken at the endpoint must keep that share on their own too."""
    events: dict[str, tuple[Limit, Limit]] = {
        "view": (0.0, 1e6),
        "click": (0.0, 1e6),
        "purchase": (0.0, 1e6),
        "rating": (0.5, 5.0),
        "dismiss": (0, 1_000_000),
    }
    """The events that may occur, and the values each may take (lowest, highest); .inf: no limit."""
    earliest: Moment = datetime(1990, 1, 1, tzinfo=UTC)
    """A time before this is a fault. Not asked of a `sequences` source, which has an order but no times."""
    min_rows: Positive = 1000
    max_age_days: float | None = Field(default=None, gt=0, le=36_500)
    """The newest event may be at most this old; null for a historic data set."""
    max_duplicate_share: Share = 0.05
    """Share of rows that have user, item, event and time in common with another."""
    max_unknown_item_share: Share = 0.05
    """Share of rows whose item is not in the items table, where there is one."""
    max_event_mix_shift: Share = 0.2
    """Largest change of an event's share against the last good data."""
    severity: dict[str, Literal["stop", "warn"]] = {"freshness": "warn", "event_mix": "warn"}
    """Batch rules that only warn, or stop, other than by default (stop)."""

    @field_validator("events")
    @classmethod
    def _are_ranges(cls, events: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        if not events:
            raise ValueError("name at least one event, e.g. {rating: [0.5, 5.0]}")
        for event, (lowest, highest) in events.items():
            if not lowest <= highest:
                raise ValueError(f"{event}: the range goes from {lowest} to {highest}; the lowest value comes first")
        return events

    @field_validator("severity")
    @classmethod
    def _names_batch_rules(cls, severity: dict[str, str]) -> dict[str, str]:
        for rule in severity:
            if rule not in BATCH_RULES:
                hint = did_you_mean(rule, BATCH_RULES) or f"; there are: {', '.join(BATCH_RULES)}"
                raise ValueError(f"unknown rule `{rule}`{hint}")
        return severity


TimeTies = Literal["forward", "reversed"]


class Prepare(Section):
    """From gated tables to what models learn from."""

    events: dict[str, Annotated[float, Field(ge=0)]] = {"view": 0.2, "click": 0.5, "purchase": 1.0, "rating": 1.0}
    """The events that models learn from, and how much each weighs."""
    min_value: float | None = None
    """Drop events whose value is below this (e.g. ratings under 4); null keeps all."""
    min_user_events: Positive = 2
    min_item_events: Positive = 1
    keep_repeats: bool = True
    """Whether a user's later events on the same item count; if not, only the first is kept."""
    time_ties: TimeTies = "forward"
    """The order of a user's events at one time: by item code, then event, or the other way round. Figures that differ
    between the two rest on an order that nobody observed."""

    @field_validator("events")
    @classmethod
    def _weigh_something(cls, events: dict[str, float]) -> dict[str, float]:
        if not any(events.values()):
            raise ValueError("at least one event is to weigh more than 0, e.g. {purchase: 1.0}")
        return events


class Split(Section):
    """Which events are learnt from, chosen on and judged on."""

    kind: Literal["temporal", "leave_one_out"] = "temporal"
    valid_share: Share = 0.1
    test_share: Share = 0.1
    """`temporal`: the last shares of all events by time."""
    targets_per_user: Positive = 5
    """`temporal`: at most this many of a user's last events in a period are predicted."""

    @model_validator(mode="after")
    def _leaves_something(self) -> Split:
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share + test_share must be below 1: something must be left to learn from")
        return self


LossName = Literal["cross_entropy", "sampled_softmax", "bce", "gbce", "bpr"]
OptimizerName = Literal["adamw", "adam", "sgd"]
ScheduleName = Literal["constant", "linear", "cosine"]


class Loss(Section):
    """What is made small in training."""

    kind: LossName = "cross_entropy"
    """`cross_entropy` is exact, over the whole catalogue; the others are over `negatives`."""
    negatives: Positive = 256
    """How many items a batch is shown that are wrong; all its events share them."""
    popularity: float = Field(default=0.0, ge=0, le=1)
    """What negatives are drawn by: their events in training to this power. 0: all items alike."""
    calibration: float = Field(default=0.75, ge=0, le=1)
    """`gbce`: 0 is bce; 1 gives scores that are probabilities."""


class Augment(Section):
    """What is done to histories before they are learnt from: for sparse data. Each is a probability, 0 is off."""

    crop: float = Field(default=0.0, ge=0, le=1)
    """That a history is cut down to a stretch of it, at least half as long."""
    mask: float = Field(default=0.0, ge=0, lt=1)
    """That an event is not shown to the model (it is still to be predicted)."""
    reorder: float = Field(default=0.0, ge=0, le=1)
    """That a stretch of a history, a quarter as long, is put into another order."""
    substitute: float = Field(default=0.0, ge=0, lt=1)
    """That an event is shown as a similar item: one of those that most often occur near it."""

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return any((self.crop, self.mask, self.reorder, self.substitute))


class Train(Section):
    """How models are trained. What a model is lies in its own section under `models`."""

    loss: Loss = Loss()
    optimizer: OptimizerName = "adamw"
    lr: float = Field(default=2e-3, gt=0)
    schedule: ScheduleName = "constant"
    """What becomes of the learning rate after the warm-up: it stays, or falls to 0 over `epochs`."""
    warmup: Share = 0.0
    """The first share of all steps, in which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    """The longest a step's gradient may be; null: as long as it is."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Judge and keep a running mean of the weights, of which so much stays at each step; 0: the weights as they are."""
    augment: Augment = Augment()
    epochs: Positive = 20
    patience: Positive = 4
    """Stop after this many epochs without a better validation NDCG@10, and keep the best epoch."""
    batch_tokens: Positive = 2048
    """Events in a batch: histories of any length, packed without padding between batches."""
    max_history: Positive = 50
    """A user's last events that a model looks at, in training and in serving."""
    seed: Seed = 42
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32"] = "auto"
    """`auto`: on a GPU that has bf16 a model's layers compute in it; weights and the loss stay float32."""
    threads: int = Field(default=2, ge=1, le=1024)
    """Threads on a CPU. Fixed, because the order of a sum, and so its last bits, depends on it."""

    @model_validator(mode="after")
    def _a_history_fits(self) -> Train:
        if self.batch_tokens <= self.max_history:
            raise ValueError(
                f"batch_tokens must be above max_history ({self.max_history}): a batch holds the longest history "
                f"and what follows it (got {self.batch_tokens})"
            )
        return self


TargetKind = Literal["each", "together"]


class Evaluate(Section):
    """How models are judged: over the whole catalogue, never over sampled items."""

    k: tuple[Positive, ...] = (5, 10, 20)
    targets: TargetKind = "each"
    """`each`: every event to predict by itself, from all before it; `together`: a user's events of the period are one
    set to be found, from those before the first of them."""
    exclude_seen: bool = True
    """Items of a user's history are not recommended again; false where repeats count."""
    warm_from: Positive = 10
    """A user with so many events before the first to predict is warm; with fewer, cold."""
    head_share: float = Field(default=0.5, gt=0, lt=1)
    """The most popular items that make up this share of the training events are the head."""
    group_by: str | None = None
    """A column of the users' table: every group of users in it is judged by itself, too."""
    bootstrap: int = Field(default=2000, ge=1, le=100_000)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    seed: Seed = 7

    @model_validator(mode="after")
    def _judges_at_ten(self) -> Evaluate:
        if 10 not in self.k:
            raise ValueError("k must include 10: models are chosen and promoted by NDCG@10")
        return self


class Range(Section):
    """Numbers to search: whole ones where both ends are."""

    low: int | float
    high: int | float
    log: bool = False
    """Whether a factor counts, not a difference: for learning rates and the like."""

    @model_validator(mode="after")
    def _goes_up(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"goes from {self.low} to {self.high}; low is to be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low is to be above 0 where log is true (got {self.low})")
        return self

    @property
    def whole(self) -> bool:
        """Whether it is searched in whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


def _each_once(values: tuple[JsonValue, ...]) -> tuple[JsonValue, ...]:
    if len({json.dumps(value, sort_keys=True) for value in values}) < max(2, len(values)):
        raise ValueError("name at least two values, each once")
    return values


Choice = Annotated[tuple[JsonValue, ...], AfterValidator(_each_once)]
"""Values to choose among."""
Dimension = Annotated[
    Annotated[Choice, Tag("list")] | Annotated[Range, Tag("range")],
    Discriminator(lambda given: "list" if isinstance(given, list | tuple) else "range"),
]
"""What is searched of one setting."""


class Tune(Section):
    """The search for better settings of a model (`recloop tune`)."""

    trials: Positive = 30
    """Trainings of a study in all, the pruned ones included."""
    startup_trials: Positive = 8
    """So many are drawn at random, and none is pruned before so many were trained to their end."""
    min_epochs: Positive = 3
    """No training is pruned before it has had so many epochs."""
    models: dict[str, dict[str, Dimension]] = {}
    """Model → path inside its section under `models` → what is searched: a list to choose from, or a range."""


class Promotion(Section):
    """When a challenger becomes champion: a paired bootstrap on the same users, and guardrails."""

    model_name: str = Field(default="recloop", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name in the registry, and of MLflow's experiment."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    min_gain: float = 0.0
    """The lower end of the interval of (challenger - champion) in NDCG@10 must exceed this. Below 0 it lets a
    challenger through that is surely not worse than by so much, and brings newer data along."""
    min_users: Positive = 30
    max_coverage_loss: Share = 0.5
    """Share that the challenger may lose of the items which the champion shows, of those there are now."""
    max_latency_ms: float = Field(default=50.0, gt=0)
    """Median time to score one user."""


def _as_address(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        raise ValueError("must be an IP address, such as 127.0.0.1 or 0.0.0.0") from None


def _as_value(value: Any) -> Any:
    if isinstance(value, date):  # YAML reads 2026-01-31 as one
        return value.isoformat()
    if not isinstance(value, str | int | float) or (isinstance(value, float) and not isfinite(value)):
        raise ValueError("must be text, a number, a time, true or false")
    return value


Value = Annotated[bool | int | float | str, BeforeValidator(_as_value)]
Condition = Annotated[
    Annotated[Annotated[tuple[Value, ...], Field(min_length=1)], Tag("list")]
    | Annotated[Annotated[dict[Literal["min", "max"], Value], Field(min_length=1)], Tag("range")]
    | Annotated[Value, Tag("value")],
    Discriminator(
        lambda given: "list" if isinstance(given, list | tuple) else "range" if isinstance(given, dict) else "value"
    ),
]
"""What an attribute of items is to be: a value, a list of which it is to be one, or a range."""


class Rerank(Section):
    """What is done to the model's list before it is shown. The attributes are columns of the items' table."""

    keep: dict[str, Condition] = {}
    """What every shown item is like, e.g. `{in_stock: true, price: {max: 100}}`."""
    age_limit: str | None = None
    """The attribute that holds the least age an item is for. Who does not say their age sees nothing that has one."""
    at_most: dict[str, Positive] = {}
    """Attribute → how many items of one value a list holds; an item counts for each of its values."""
    diversity: float = Field(default=0.0, ge=0, lt=1)
    """How much an item's unlikeness to those above it counts, against its score. 0: not at all."""
    explore: float = Field(default=0.0, ge=0, lt=1)
    """With which probability each place of a list is given to another candidate, so that more is learnt than what the
    model believes already."""
    pool: Positive = 100
    """Candidates that the model gives for a list, where anything of this is done."""

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return any((self.keep, self.age_limit is not None, self.at_most, self.diversity, self.explore))


class Serving(Section):
    """The endpoint."""

    host: Annotated[str, AfterValidator(_as_address)] = "127.0.0.1"
    port: int = Field(default=3000, ge=0, le=65535)
    default_k: Positive = 10
    """Items in a list, where a request does not say how many."""
    max_k: Positive = 100
    max_history: Positive = 1000
    """Longest history, and most events, in one request."""
    max_batch: Positive = 100
    """Most lists that one request may ask for."""
    workers: Positive = 1
    """Processes that answer."""
    max_waiting: Positive = 256
    """Requests of a worker that wait to be computed; those that come on top are refused at once (503)."""
    max_requests: Positive = 2048
    """Requests of a worker that are under way, of any kind; likewise."""
    kept_answers: Positive = 20_000
    """Answers that a worker keeps to send again while nothing has changed; about 2 KB each."""
    popular_half_life_hours: float = Field(default=24.0, gt=0)
    """After so long an event counts half for what is popular now."""
    poll_seconds: float = Field(default=2.0, gt=0)
    """How often the live service looks which model is champion."""
    impression_queue: Positive = 10_000
    """Served lists that wait to be stored; beyond it they are dropped and counted."""
    rerank: Rerank = Rerank()
    auth: Literal["required", "off"] = "off"
    """Whether a request needs a key (`recloop keys create`); `off` only where `host` is a loopback address."""
    requests_per_second: float = Field(default=1000.0, ge=1e-6, le=1e9)
    """What a key may send for long, to each worker."""
    burst: Positive = 2000
    """What a key may send at once, to each worker, when it has been quiet."""

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Serving:
        if self.default_k > self.max_k:
            raise ValueError(f"default_k must not exceed max_k, and {self.default_k} is above {self.max_k}")
        return self

    @model_validator(mode="after")
    def _is_open_to_this_machine_alone(self) -> Serving:
        if self.auth == "off" and not ip_address(self.host).is_loopback:
            raise ValueError(
                f"serving.auth is off, and serving.host ({self.host}) is not a loopback address: whoever reaches it "
                "could ask for recommendations and send events. Set auth to required and make a key with `recloop keys "
                "create`, or set host to 127.0.0.1"
            )
        return self


Figure = Annotated[float, Field(gt=0)]


class Thresholds(Section):
    """The figure from which on a signal counts as drifted; null only reports it.

    Jensen-Shannon distances, between 0 and 0.83, except where another figure is named. The defaults are above what
    stretches of one period show against each other, as measured on MovieLens-100K (`monitoring/signals.py`).
    """

    unknown_items: Figure | None = 0.1
    """Share of events on items that the live model never learnt."""
    item_popularity: Figure | None = 0.15
    """How popular the items are: deciles of what the live model learnt."""
    category: Figure | None = 0.15
    """The items' first categories."""
    user_activity: Figure | None = 0.3
    """How many events the user had before."""
    event: Figure | None = 0.15
    """The mix of events."""
    value: Figure | None = 0.25
    """The events' values."""
    strategy: Figure | None = 0.25
    """Who answered: the model, or a fallback."""
    list_popularity: Figure | None = None
    """How popular the recommended items are. Wasserstein distance in standard deviations."""
    top_score: Figure | None = None
    """The score of the first item of a list. Wasserstein distance in standard deviations."""


class Monitoring(Section):
    """The drift policy. What each signal is made of is in `monitoring/`."""

    window_hours: float = Field(default=24.0, gt=0, le=876_000)
    """Traffic received in the last hours, by the live model, is compared with the training reference."""
    min_events: Positive = 1000
    """Fewer events than this are no ground for a verdict."""
    reference_share: float = Field(default=0.2, gt=0, lt=1)
    """The reference: this last share of the events the live model knows. The events before them are what was known."""
    thresholds: Thresholds = Thresholds()
    min_drifted_signals: Positive = 1
    """So many drifted signals make the verdict `drift`."""
    cooldown_hours: float = Field(default=6.0, ge=0, le=876_000)
    """After a verdict that asked for retraining, the next one waits this long."""
    keep_reports: Positive = 20
    """Older report folders are removed."""


class Storage(Section):
    """Databases. Relative SQLite paths are relative to the project; the environment wins (README)."""

    database_url: str = "sqlite:///var/recloop.db"
    mlflow_url: str = "sqlite:///var/mlflow.db"


class Platform(Section):
    """Ports of the servers beside the endpoint, all on loopback."""

    prefect_port: int = Field(default=4200, ge=0, le=65535)
    mlflow_port: int = Field(default=5000, ge=0, le=65535)


class Params(Section):
    """The whole of `params.yaml`."""

    source: Source
    gate: Gate = Gate()
    prepare: Prepare = Prepare()
    split: Split = Split()
    zoo: tuple[str, ...] = Field(min_length=1)
    """The models that are trained and compete: names from the catalogue, each with a section in `models`."""
    train: Train = Train()
    models: dict[str, dict[str, Any]]
    tune: Tune = Tune()
    evaluate: Evaluate = Evaluate()
    promotion: Promotion = Promotion()
    serving: Serving = Serving()
    monitoring: Monitoring = Monitoring()
    storage: Storage = Storage()
    platform: Platform = Platform()

    @model_validator(mode="after")
    def _fits_together(self) -> Params:
        for name in self.zoo:
            if name not in self.models:
                hint = did_you_mean(name, self.models)
                raise ValueError(f"zoo names {name!r}, but models has no section {name!r}{hint}")
            if self.zoo.count(name) > 1:
                raise ValueError(f"zoo names {name!r} more than once")
        if not self.gate.events.keys() & self.prepare.events.keys():
            raise ValueError(
                f"none of the events that may occur (gate.events: {', '.join(self.gate.events)}) is one that models "
                f"learn from (prepare.events: {', '.join(self.prepare.events)})"
            )
        ports = [self.serving.port, self.platform.prefect_port, self.platform.mlflow_port]
        if twice := next((port for port in ports if port and ports.count(port) > 1), None):
            raise ValueError(f"port {twice} is given to two of serving.port, platform.prefect_port and mlflow_port")
        if self.source.kind == "sequences" and self.split.kind == "temporal":
            raise ValueError("a sequences file has an order but no times: set split.kind to leave_one_out")
        return self


def load_params(path: Path) -> Params:
    """Read and validate `params.yaml`.

    Raises:
        ConfigError: the file is missing, is not YAML, or a key or value is wrong; every fault is named.
    """
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing", remedy=REMEDY) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}", remedy=REMEDY) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no mapping of sections", remedy=REMEDY)
    return validated(Params, content, where=path.name)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `over` has in its place, section by section down to single values."""
    both = {
        key: merged(base[key], value) if isinstance(value, Mapping) and isinstance(base.get(key), Mapping) else value
        for key, value in over.items()
    }
    return dict(base) | both


def validated(model: type[S], content: Any, *, where: str) -> S:
    """`content` as a `model`; faults become one ConfigError that names every key and the nearest right one."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [describe_fault(model, fault) for fault in error.errors(include_url=False)]
        raise ConfigError(f"{where}: " + f"\n{where}: ".join(lines), remedy="correct the key or the value") from None


def describe_fault(model: type[BaseModel], fault: Any) -> str:
    """One of pydantic's `errors()` for `model` as a line: the key, what is wrong, and the nearest right key."""
    place, sections, kind = _located(model, fault["loc"])
    key = ".".join(place)
    if fault["type"] == "extra_forbidden":
        what = f"a `{kind}` {place[-2]} has no such key" if kind else "unknown key"
        return f"{key}: {what}{did_you_mean(place[-1], _keys(sections))}"
    if fault["type"] == "missing":
        return f"{key}: is missing"
    if fault["type"] == "union_tag_not_found":
        return f"{key}.kind: is missing; there are: {', '.join(_kinds(sections))}"
    if fault["type"] == "union_tag_invalid":
        given, known = fault["ctx"]["tag"], _kinds(sections)
        hint = did_you_mean(given, known) or f"; there are: {', '.join(known)}"
        return f"{key}.kind: there is no {given!r}{hint}"
    message: str = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "too_short":
        message = f"must have at least {fault['ctx']['min_length']} item"
    if not key:
        return message
    shown = repr(fault["input"])
    return f"{key}: {message} (got {shown if len(shown) < 60 else shown[:57] + '…'})"


def _located(model: type[BaseModel], loc: Iterable[str | int]) -> tuple[list[str], list[type[BaseModel]], str]:
    """The place of a fault as it stands in the file, the sections that may stand there, and which kind of section it
    is where there are several: pydantic puts that into the place."""
    place, sections, kind = [], [model], ""
    for part in loc:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        chosen = [section for section in sections if part in _kinds([section])]
        if not fields and chosen and len(sections) > 1:
            sections, kind = chosen, str(part)
            continue
        place.append(str(part))
        if fields:
            sections, kind = [inner for field in fields for inner in _sections(field.annotation)], ""
    return place, sections, kind


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field of this type may hold, in a list or by name as well as by itself."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _keys(sections: Iterable[type[BaseModel]]) -> list[str]:
    return [name for section in sections for name in section.model_fields]


def _kinds(sections: Iterable[type[BaseModel]]) -> list[str]:
    """What `kind` may be in sections that are told apart by it."""
    fields = [section.model_fields["kind"] for section in sections if "kind" in section.model_fields]
    return [kind for field in fields for kind in get_args(field.annotation)]
