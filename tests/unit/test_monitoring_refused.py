"""`fields`: that more of what is sent is refused than before, where it is neither chance nor usual."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from sqlalchemy import Connection, insert

from monitoring.measures import MEASURES
from monitoring.policy import Judgement, judge
from monitoring.refused import Sent, compare_refused, grown
from monitoring.window import HOUR, Window
from recloop.config import Monitoring
from recloop.serving.events import events
from recloop.serving.refusals import refusals
from recloop.storage import connect

POLICY = Monitoring()
DAY = 24 * HOUR


def sent(accepted: int, refused: int = 0, requests: int | None = None, reason: str = "value: missing") -> Sent:
    return Sent(accepted, Counter({reason: refused}), refused if requests is None else requests)


def found(now: Sent, *before: Sent) -> Judgement:
    finding = grown(now, before, MEASURES["jensenshannon"], POLICY.false_alarms, POLICY.min_events)
    assert finding is not None
    return judge([finding], POLICY.signals)


def test_a_tenth_of_what_is_sent_is_told_with_the_reason() -> None:
    judgement = found(sent(900, 100), sent(995, 5, reason="event: not allowed"), sent(1000))
    assert judgement.outcome == "warn"
    assert "(refused 0.2% → 10.0%; value: missing 0.0% → 10.0%)" in judgement.reasons[0]


@pytest.mark.parametrize(
    ("now", "before"),
    [
        (sent(993, 7), [sent(1000)]),
        (sent(3000, 300, requests=3), [sent(3000)]),  # a hundred in one request, three times
        (sent(1000, 20), [sent(1000, 11)]),
        (sent(1000, 0), [sent(900, 100)]),  # they have become fewer
        (sent(900, 100), [sent(900, 100), sent(1000), sent(1000), sent(900, 100)]),  # on every third day
        (sent(100_000, 500), [sent(100_000)]),  # no chance, and of no account
    ],
)
def test_a_handful_and_what_is_usual_is_not(now: Sent, before: Sequence[Sent]) -> None:
    assert found(now, *before).outcome == "ok"


def test_one_bad_day_makes_the_next_one_no_more_usual() -> None:
    assert found(sent(900, 100), sent(900, 100), sent(1000), sent(1000), sent(1000)).outcome == "warn"


def test_what_there_is_too_little_of_is_not_compared() -> None:
    assert grown(sent(900, 100), [sent(999)], MEASURES["psi"], 0.005, 1000) is None
    assert grown(sent(0), [sent(5000)], MEASURES["psi"], 0.005, 1000) is None


@pytest.mark.parametrize("share", [0.0003, 0.003, 0.03])
def test_chance_is_as_rare_as_it_says(share: float) -> None:
    """Of windows that differ by chance alone, whatever matters."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(2000):
        numbers = rng.binomial(2000, share, 2)
        now, past = (sent(2000 - int(number), 5 * int(number), int(number)) for number in numbers)
        finding = grown(now, [past], MEASURES["jensenshannon"], 0.02, 1000)
        assert finding is not None
        alarms += finding.figure >= finding.chance > 0
    assert alarms <= 60  # 40 and some


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = connect(database_url)
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def come(connection: Connection, at: int, accepted: int, **refused: int) -> None:
    """So many events at a moment, and of each field so many that are refused."""
    event = {"user_id": "u", "item_id": "i", "event": "click", "value": 1.0, "timestamp": at, "received_at": at}
    connection.execute(insert(events), [event | {"event_id": f"{at} {number}"} for number in range(accepted)])
    for name, count in refused.items():
        row = {"hour": at // HOUR * HOUR, "reason": f"{name}: missing", "events": count, "requests": count}
        connection.execute(insert(refusals), row)


def test_whole_hours_that_ended_in_the_window_are_compared_with_the_week_before(connection: Connection) -> None:
    come(connection, 9 * DAY - 1, 1000)  # before the week
    come(connection, 12 * DAY, 1000, item_id=50)
    come(connection, 16 * DAY - 1, 1000, event=200)
    come(connection, 16 * DAY, 1000, value=100)
    come(connection, 17 * DAY - 1, 800, value=100)
    come(connection, 17 * DAY, 1, user_id=5000)  # its hour goes on
    window = Window(16 * DAY + HOUR // 2, 17 * DAY + HOUR // 2)

    finding = compare_refused(connection, window, POLICY)

    assert finding is not None
    assert finding.moved == "refused 11.1% → 10.0%; value: missing 0.0% → 10.0%"
    assert compare_refused(connection, Window(17 * DAY, 17 * DAY + HOUR - 1), POLICY) is None
