"""Whether what a model is asked about still looks like what it learnt from: the population stability of its features. Pure.

Source: the population stability index of credit scoring, Σ (p − q) · ln(p / q) over bins of equal share in the lessons; above 0.1
a shift is usually called small, above 0.25 large.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hcp_pipelines.forecasting.hours import Floats, Ints
from hcp_pipelines.forecasting.learnable.lessons import DAY_US
from hcp_pipelines.forecasting.learnable.protocol import Examples

BINS = 10
LEAST_SHARE = 1e-3  # of a bin: an empty one would be infinitely far off
LEAST_ROWS = 200  # fewer say nothing of tenths
LEAST_DAYS = 14  # on which was asked: hundreds of rows of one midnight are one look at the weather


def profile(examples: Examples, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By feature the edges between tenths of its known values, and each bin's share of the rows; the last is of the unknown.

    `usual` is the largest index of the lessons' own whole fortnights: seasons move so far, and that is no drift.
    """
    found: dict[str, dict[str, Any]] = {}
    fortnights = _fortnights(examples)
    for name in names:
        values = examples.feature(name)
        known = values[np.isfinite(values)]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if len(known) else np.empty(0)
        shares = _shares(values, edges)
        usual = max((_index(_shares(values[rows], edges), shares) for rows in fortnights), default=0.0)
        found[name] = {"edges": edges.tolist(), "shares": shares.round(6).tolist(), "usual": round(usual, 6)}
    return found


def stability(kept: Mapping[str, Mapping[str, Any]], examples: Examples) -> dict[str, float]:
    """The index of each feature of a profile, largest first; empty where rows, or days on which was asked, are too few.

    Raises:
        ConfigError: a feature of the profile is missing.
    """
    if len(examples) < LEAST_ROWS or days_asked(examples) < LEAST_DAYS:
        return {}
    found = {}
    for name, told in kept.items():
        now = _shares(examples.feature(name), np.array(told["edges"], dtype=np.float64))
        found[name] = _index(now, np.array(told["shares"], dtype=np.float64))
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def days_asked(examples: Examples) -> int:
    """On how many days was asked."""
    return len(np.unique(examples.asked_us // DAY_US))


def _fortnights(examples: Examples) -> list[Ints]:
    """The rows of each whole fortnight in which enough was asked, counted back from the newest."""
    if not len(examples):
        return []
    number = (examples.asked_us.max() - examples.asked_us) // (LEAST_DAYS * DAY_US)
    each = (np.flatnonzero(number == n) for n in range(int(number.max())))  # the oldest may be cut short
    return [rows for rows in each if len(rows) >= LEAST_ROWS]


def _index(now: Floats, then: Floats) -> float:
    now, then = np.maximum(now, LEAST_SHARE), np.maximum(then, LEAST_SHARE)
    return float(((now - then) * np.log(now / then)).sum())


def _shares(values: Floats, edges: Floats) -> Floats:
    """The share of values in each bin; what is not known is a bin of its own, the last."""
    bins = np.where(np.isfinite(values), np.searchsorted(edges, values, side="right"), len(edges) + 1)
    shares: Floats = np.bincount(bins, minlength=len(edges) + 2) / max(len(values), 1)
    return shares
