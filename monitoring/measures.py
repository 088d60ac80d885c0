"""How far counts of categories are from others: the tests that a signal may go by, each as Evidently computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.spatial.distance import jensenshannon  # type: ignore[import-untyped]

from recloop.config import DriftTest

FEW = 1e-4
"""What PSI takes for a share of nothing, unless the least share there is, is as small"""


@dataclass(frozen=True)
class Measure:
    """One of them."""

    spoken: str
    """Its name, for people"""
    far: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Counts, float [..., categories], and others → how far they are apart: float [...]"""
    power: int
    """Where nothing has changed, its so manieth power is distributed much as a chi-squared variable is"""


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Between 0 and 0.83; 0 where one side has nothing."""
    with np.errstate(invalid="ignore"):
        found: np.ndarray = np.nan_to_num(jensenshannon(one, other, axis=-1))
    return found


def hellinger(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Between 0 and 1."""
    alike = np.sqrt(_shares(one) * _shares(other)).sum(-1)
    found: np.ndarray = np.sqrt(1 - np.clip(alike, 0, 1))
    return found


def psi(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The population stability index: from 0 on, without end."""
    first, second = _filled(_shares(one)), _filled(_shares(other))
    found: np.ndarray = ((first - second) * np.log(first / second)).sum(-1)
    return found


def _shares(counts: np.ndarray) -> np.ndarray:
    shares: np.ndarray = counts / np.maximum(counts.sum(-1, keepdims=True), 1e-300)
    return shares


def _filled(shares: np.ndarray) -> np.ndarray:
    least = np.where(shares > 0, shares, np.inf).min(-1, keepdims=True)
    filled: np.ndarray = np.where(shares > 0, shares, np.where(least <= FEW, least / 10**6, FEW))
    return filled


MEASURES: Mapping[DriftTest, Measure] = MappingProxyType(
    {
        "jensenshannon": Measure("Jensen-Shannon distance", jensen_shannon, 2),
        "hellinger": Measure("Hellinger distance", hellinger, 2),
        "psi": Measure("PSI", psi, 1),
    }
)
