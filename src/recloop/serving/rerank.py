"""From the model's candidates to the list that is shown: rules, diversity and exploration, in this order.

    keep, age_limit   leave candidates out
    at_most           fills the list from the best candidate down, with so many items of one value and no more
    diversity         fills it with what is unlike what is in it already instead
    explore           gives each place, with some probability, to another candidate

Each is off by default, and says what it did. What the settings are is in `config.Rerank`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import numpy as np

from recloop.config import Rerank
from recloop.errors import RequestError, ServingError
from recloop.serving.attributes import Attributes

Rule = Literal["keep", "age_limit", "at_most"]
Why = Literal["diversity", "explored"]


@dataclass(frozen=True, slots=True)
class Placed:
    """An item in its place of the list."""

    code: int
    score: float
    rank: int
    """Its place among the candidates, from 1: among all items that may come or, where the model was asked again because
    the rules left too few, among those that meet them"""
    why: tuple[Why, ...] = ()
    """What put it here other than its score: `diversity` where it stands higher than it would without, `explored`"""
    propensity: float | None = None
    """With which probability it came to this place, given the places above; None where nothing was left to chance.
    Weighing what users did by its inverse makes up for the chances (Horvitz & Thompson, JASA 1952)."""


@dataclass(frozen=True)
class Reranked:
    """The list, best first, and what was done to the candidates."""

    items: tuple[Placed, ...]
    left_out: dict[str, int]
    """Rule → how many candidates it left out; `at_most` those that the model ranked above something shown. Of the rules
    that are set."""
    candidates: int
    """How many there were"""
    exhausted: bool
    """Whether the rules left too few: more candidates could fill the list."""

    def after(self, first: Reranked) -> Reranked:
        """The same, made of more candidates once `first` was exhausted: those were all such as `keep` and `age_limit`
        let in, and what the two left out is what they left out of the first ones."""
        own = {rule: count for rule, count in self.left_out.items() if rule == "at_most"}
        return replace(self, left_out=first.left_out | own)


def rerank(
    codes: np.ndarray,
    scores: np.ndarray,
    k: int,
    rules: Rerank,
    attributes: Attributes,
    likeness: Callable[[np.ndarray], np.ndarray | None],
    *,
    age: int | None,
    rng: np.random.Generator,
) -> Reranked:
    """Make a list of `k` items, or fewer where the rules leave no more.

    Args:
        codes: int [candidates], best first, none twice.
        scores: float [candidates]
        likeness: from int [n] codes to float32 [n, width], unit vectors whose products say how alike items are; or to
            None, where nothing tells, and `diversity` does nothing.
        age: the user's, in years; None: not known.
    """
    left_out: dict[str, int] = {}
    rows = np.arange(len(codes))
    for rule, mask in _masks(rules, attributes, age):
        allowed = mask[codes[rows]]
        left_out[rule] = len(rows) - int(np.count_nonzero(allowed))
        rows = rows[allowed]
    keys = _keys(rules.at_most, attributes, codes[rows])
    room = _Room(keys, rules.at_most)
    chosen = plain = _in_order(len(rows), k, room)
    vectors = likeness(codes[rows]) if rules.diversity > 0 else None
    if vectors is not None:
        room = _Room(keys, rules.at_most)
        chosen = _diverse(scores[rows].astype(float), vectors, k, rules.diversity, room)
    if rules.at_most:
        left_out["at_most"] = _passed_over(chosen, len(rows), k, room)
    standing = {row: place for place, row in enumerate(plain)}
    shown: list[Choice] = [
        (row, ("diversity",) if standing.get(row, k) > place else (), None) for place, row in enumerate(chosen)
    ]
    if rules.explore > 0:
        shown = _explored(shown, min(len(rows), rules.candidates(k)), rules.explore, room, rng)
    rows = rows[[row for row, _, _ in shown]]
    columns = codes[rows].tolist(), scores[rows].tolist(), (rows + 1).tolist()
    items = tuple(
        Placed(code, score, rank, why, propensity)
        for code, score, rank, (_, why, propensity) in zip(*columns, shown, strict=True)
    )
    return Reranked(items, left_out, len(codes), exhausted=len(items) < k and any(left_out.values()))


def allowed_items(rules: Rerank, attributes: Attributes, age: int | None) -> np.ndarray | None:
    """bool [items]: which items `keep` and `age_limit` let anybody of that age be shown; None: all.

    For asking the model for nothing else.
    """
    masks = [mask for _, mask in _masks(rules, attributes, age)]
    return np.logical_and(*masks) if len(masks) == 2 else masks[0] if masks else None


def check_rules(rules: Rerank, attributes: Attributes) -> None:
    """Make sure that a package's items have the attributes that the rules go by, so that no rule is passed over.

    Raises:
        ServingError: an attribute is not there, or is not what the rule takes it for.
    """
    with _blamed("keep", attributes):
        attributes.mask(rules.keep)
    if rules.age_limit is not None:
        with _blamed("age_limit", attributes):
            attributes.within(rules.age_limit, 0)
    with _blamed("at_most", attributes):
        for name in rules.at_most:
            attributes.labels(name, [])


@contextmanager
def _blamed(rule: Rule, attributes: Attributes) -> Iterator[None]:
    try:
        yield
    except RequestError as error:
        raise ServingError(
            f"serving.rerank.{rule} does not fit this version's items: {error.message}",
            remedy=f"correct serving.rerank.{rule} in params.yaml, or map the attribute in source.items.columns and "
            f"train a new version; the items of this one have: {', '.join(attributes.names)}",
        ) from error


def _masks(rules: Rerank, attributes: Attributes, age: int | None) -> Iterator[tuple[Rule, np.ndarray]]:
    """bool [items] for each rule that leaves items out by themselves. Of unknown age is as good as new-born."""
    if rules.keep:
        yield "keep", attributes.mask(rules.keep)
    if rules.age_limit is not None:
        yield "age_limit", attributes.within(rules.age_limit, age or 0)


Choice = tuple[int, tuple[Why, ...], float | None]
"""A candidate's row, why it is there, and its propensity"""
Key = tuple[str, int]
"""An attribute and one of its values"""


def _keys(limits: Mapping[str, int], attributes: Attributes, codes: np.ndarray) -> list[list[Key]]:
    """What each candidate counts as under `at_most`."""
    keys: list[list[Key]] = [[] for _ in codes]
    for name in limits:
        for own, labels in zip(keys, attributes.labels(name, codes), strict=True):
            own.extend((name, label) for label in labels)
    return keys


class _Room:
    """How much room a list has left under `at_most`."""

    def __init__(self, keys: Sequence[Sequence[Key]], limits: Mapping[str, int]) -> None:
        self._keys, self._limits = keys, limits
        self._taken: defaultdict[Key, int] = defaultdict(int)

    def fits(self, row: int) -> bool:
        return all(self._taken[key] < self._limits[key[0]] for key in self._keys[row])

    def take(self, row: int, times: int = 1) -> None:
        for key in self._keys[row]:
            self._taken[key] += times


def _in_order(count: int, k: int, room: _Room) -> list[int]:
    """The first `k` of `count` candidates that there is room for."""
    chosen: list[int] = []
    for row in range(count):
        if len(chosen) == k:
            break
        if room.fits(row):
            room.take(row)
            chosen.append(row)
    return chosen


def _diverse(scores: np.ndarray, vectors: np.ndarray, k: int, diversity: float, room: _Room) -> list[int]:
    """Maximal marginal relevance: the candidate next whose score, between 0 and 1, less its likeness to the most alike
    one in the list is highest; (1 - diversity) and diversity say what counts how much.

        @inproceedings{carbonell1998mmr, author = {Jaime Carbonell and Jade Goldstein}, booktitle = {SIGIR},
            title = {The Use of {MMR}, Diversity-Based Reranking for Reordering Documents and Producing Summaries},
            year = 1998}

    Args:
        scores: float64 [candidates], highest first.
        vectors: float32 [candidates, width]
    """
    chosen: list[int] = []
    worth = np.zeros(len(scores))
    if len(scores) and scores[0] > scores[-1]:
        worth = (1 - diversity) * (scores - scores[-1]) / (scores[0] - scores[-1])
    marginal, likeness = worth.copy(), None
    for _ in range(len(scores)):
        if len(chosen) == k:
            break
        best = int(np.argmax(marginal))
        worth[best] = marginal[best] = -np.inf
        if room.fits(best):
            room.take(best)
            chosen.append(best)
            alike = vectors @ vectors[best]
            likeness = alike if likeness is None else np.maximum(likeness, alike)
            marginal = worth - diversity * likeness
    return chosen


def _passed_over(chosen: Sequence[int], count: int, k: int, room: _Room) -> int:
    """Candidates above the last that was chosen (all, where the list is short) that there was no room for."""
    last = max(chosen) if len(chosen) == k else count
    return sum(not room.fits(row) for row in set(range(last)).difference(chosen))


def _explored(shown: list[Choice], count: int, share: float, room: _Room, rng: np.random.Generator) -> list[Choice]:
    """The list with each place given to another of the first `count` candidates with probability `share`.

    Those that fit beside the rest of the list are drawn from with equal chances; where there are none, the place is
    left as it is.
    """
    rest = sorted(set(range(count)).difference(row for row, _, _ in shown))
    after: list[Choice] = []
    for (row, why, _), explores in zip(shown, (rng.random(len(shown)) < share).tolist(), strict=True):
        room.take(row, -1)
        fitting = filter(room.fits, rest)
        options = list(fitting if explores else islice(fitting, 1))  # where chance says no, any is as good as many
        if explores and options:
            row, why = options[int(rng.integers(len(options)))], ("explored",)
            rest.remove(row)
            after.append((row, why, share / len(options)))
        else:
            after.append((row, why, 1 - share if options else 1.0))
        room.take(row)
    return after
