"""What the monitor looks at. A signal is one column of `features.py`, compared by one method of Evidently.

Inputs, one row an event: `unknown_items`, `item_popularity`, `category`, `user_activity`, `event`, `value`.
Outputs, one row a served list: `strategy`, `list_popularity`, `top_score`.

Where the thresholds in params.yaml come from: MovieLens-100K, a model of every fifth day from 1997-11-20 to
1998-03-30, each with its own reference; stretches of 3,000 successive events. Events come in bursts (a user
rates a hundred films in an hour): 3,000 events are some 70 users, and figures move far more than those of
independent events would. "Same": 216 stretches taken out of a reference and compared with the rest of it.
"Old": the 51 stretches that began more than 90 days after the model's data ended.

                      same: median   99%   highest    old: mean    threshold
    unknown_items           0.021  0.077     0.087        0.123         0.10
    item_popularity         0.032  0.100     0.105        0.078         0.15
    category                0.044  0.078     0.081        0.053         0.15
    user_activity           0.068  0.211     0.235        0.087         0.30
    value                   0.042  0.162     0.164        0.046         0.25

With these, none of the 216 raises an alarm, and none of the 69 stretches of the first fortnight after the
data; 24% of those 45 to 60 days after do, and 82% of the old ones. What ages is the catalogue. The same with
1,000 events: 2% false alarms; with 500: 12%. Hence `min_events: 1000`.

`event` and the outputs could not be measured there (one kind of event; nothing served). `event` is set where
a share moves by 10 to 20 points, `strategy` by 20 to 30; the other outputs are only reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal["jensenshannon", "wasserstein"]

METHOD_NAMES: dict[Method, str] = {
    "jensenshannon": "Jensen-Shannon distance",
    "wasserstein": "Wasserstein distance (in standard deviations)",
}


@dataclass(frozen=True)
class SignalKind:
    """One column, and how its two distributions are compared."""

    name: str
    method: Method

    @property
    def is_numeric(self) -> bool:
        return self.method == "wasserstein"


EVENT_SIGNALS = tuple(
    SignalKind(name, "jensenshannon")
    for name in ("unknown_items", "item_popularity", "category", "user_activity", "event", "value")
)
LIST_SIGNALS = (
    SignalKind("strategy", "jensenshannon"),
    SignalKind("list_popularity", "wasserstein"),
    SignalKind("top_score", "wasserstein"),
)


@dataclass(frozen=True)
class Finding:
    """How far one signal has moved from the reference."""

    signal: str
    method: Method
    figure: float
    moved: str
    """What moved most, for people: e.g. `unknown: 0.3% → 5.5%`."""
