"""The token bucket: what a key may send at once and for long, and what is remembered of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recloop.serving.rate import NS, ROOM, RateLimit


class Clock:
    """A clock to turn, in nanoseconds."""

    def __init__(self, now: int = 0) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def test_a_quiet_key_may_send_its_burst_at_once_and_then_waits_for_a_token() -> None:
    clock = Clock()
    limit = RateLimit(4.0, 3, clock)
    assert [limit.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.25]
    clock.now = NS // 4 - 1
    assert limit.take("a") == 1e-9
    clock.now = NS // 4
    assert [limit.take("a"), limit.take("a")] == [0.0, 0.25]


def test_what_is_refused_takes_nothing() -> None:
    clock = Clock()
    limit = RateLimit(1.0, 1, clock)
    limit.take("a")
    assert [limit.take("a") for _ in range(100)] == [1.0] * 100
    clock.now = NS
    assert limit.take("a") == 0.0


def test_every_key_has_its_own_bucket() -> None:
    limit = RateLimit(1.0, 1, Clock())
    assert [limit.take("a"), limit.take("b"), limit.take("a"), limit.take("b")] == [0.0, 0.0, 1.0, 1.0]


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    clock = Clock()
    limit = RateLimit(1.0, 2, clock)
    limit.take("a")
    clock.now = 1000 * NS
    assert [limit.take("a") for _ in range(3)] == [0.0, 0.0, 1.0]


def test_what_costs_more_takes_more() -> None:
    clock = Clock()
    limit = RateLimit(1.0, 10, clock)
    assert limit.take("a", cost=8) == 0.0
    assert limit.take("a", cost=5) == 3.0
    assert limit.take("a", cost=2) == 0.0


def test_what_costs_more_than_a_bucket_needs_a_full_one_and_is_paid_for_afterwards() -> None:
    clock = Clock()
    limit = RateLimit(1.0, 10, clock)
    assert limit.take("a", cost=25) == 0.0
    assert limit.take("a") == 16.0
    assert limit.take("a", cost=25) == 25.0
    clock.now = 25 * NS
    assert limit.take("a", cost=25) == 0.0


def test_what_a_request_has_paid_already_does_not_stand_in_its_own_way() -> None:
    clock = Clock()
    limit = RateLimit(1.0, 10, clock)
    limit.take("a")
    assert limit.take("a", cost=24, paid=1) == 0.0
    clock.now = 24 * NS  # one is missing
    limit.take("a")
    wait = limit.take("a", cost=24, paid=1)
    assert wait == 2.0
    clock.now += round(wait * NS)
    limit.take("a")
    assert limit.take("a", cost=24, paid=1) == 0.0, "after the wait that it named"


def test_buckets_that_are_full_again_are_forgotten() -> None:
    clock = Clock()
    limit = RateLimit(1.0, 5, clock)
    for number in range(ROOM):
        limit.take(f"quiet-{number}")
    limit.take("busy", cost=5)
    clock.now = NS
    for number in range(ROOM):
        limit.take(f"new-{number}")
    assert len(limit._full_at) <= ROOM + 1
    assert limit.take("busy", cost=5) == 4.0


def test_a_flood_of_keys_holds_no_more_than_twice_those_that_are_busy() -> None:
    clock = Clock()
    limit = RateLimit(1.0, 1, clock)
    most = 0
    for number in range(50 * ROOM):
        clock.now = number * NS // (2 * ROOM)  # 2 × ROOM keys are busy at any time
        limit.take(str(number))
        most = max(most, len(limit._full_at))
    assert 2 * ROOM <= most <= 4 * ROOM + 1


@settings(deadline=None)
@given(
    per_second=st.floats(1e-3, 1e6),
    burst=st.integers(1, 50),
    start=st.integers(0, 2**60),
    steps=st.lists(st.tuples(st.integers(0, 3 * NS), st.integers(1, 60)), max_size=60),
)
def test_it_never_lets_through_more_than_a_burst_and_the_rate(
    per_second: float, burst: int, start: int, steps: list[tuple[int, int]]
) -> None:
    clock = Clock(start)
    limit = RateLimit(per_second, burst, clock)
    tokens, since = float(burst), start  # the same, counted in tokens
    for pause, cost in steps:
        clock.now += pause
        tokens = min(burst, tokens + (clock.now - since) / NS * per_second)
        since = clock.now
        if limit.take("a", cost) == 0.0:
            assert tokens >= min(cost, burst) - 1e-3
            tokens -= cost


@given(per_second=st.floats(1e-3, 1e6), burst=st.integers(1, 50), cost=st.integers(1, 60), early=st.integers(1, 10))
def test_after_the_wait_that_it_names_and_no_sooner_it_lets_through(
    per_second: float, burst: int, cost: int, early: int
) -> None:
    clock = Clock()
    limit = RateLimit(per_second, burst, clock)
    limit.take("a", burst)
    wait = limit.take("a", cost)
    clock.now = round(wait * NS) - min(early, round(wait * NS))
    assert limit.take("a", cost) > 0.0
    clock.now = round(wait * NS)
    assert limit.take("a", cost) == 0.0


@pytest.mark.parametrize("per_second", [1e-6, 3.0, 1e9])
def test_the_ends_of_what_may_be_set_work(per_second: float) -> None:
    limit = RateLimit(per_second, 1, Clock())
    assert limit.take("a") == 0.0
    assert limit.take("a") == pytest.approx(1 / per_second)
