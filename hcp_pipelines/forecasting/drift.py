"""Whether what a model is asked about still looks like what it learnt from: the population stability of its features. Pure.

Source: the population stability index of credit scoring, Σ (p − q) · ln(p / q) over bins of equal share in the lessons; above 0.1
a shift is usually called small, above 0.25 large.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hcp_pipelines.forecasting.hours import Floats
from hcp_pipelines.forecasting.learnable.protocol import Examples

BINS = 10
LEAST_SHARE = 1e-3  # of a bin: an empty one would be infinitely far off
LEAST_ROWS = 200  # fewer say nothing of tenths


def profile(examples: Examples, names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """By feature the edges between tenths of its known values, and each bin's share of the rows; the last is of the unknown."""
    found = {}
    for name in names:
        values = examples.feature(name)
        known = values[np.isfinite(values)]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if len(known) else np.empty(0)
        found[name] = {"edges": edges.tolist(), "shares": _shares(values, edges).round(6).tolist()}
    return found


def stability(kept: Mapping[str, Mapping[str, Any]], examples: Examples) -> dict[str, float]:
    """The index of each feature of a profile, largest first; empty where the examples are too few.

    Raises:
        ConfigError: a feature of the profile is missing.
    """
    if len(examples) < LEAST_ROWS:
        return {}
    found = {}
    for name, told in kept.items():
        now = np.maximum(_shares(examples.feature(name), np.array(told["edges"], dtype=np.float64)), LEAST_SHARE)
        then = np.maximum(np.array(told["shares"], dtype=np.float64), LEAST_SHARE)
        found[name] = float(((now - then) * np.log(now / then)).sum())
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def _shares(values: Floats, edges: Floats) -> Floats:
    """The share of values in each bin; what is not known is a bin of its own, the last."""
    bins = np.where(np.isfinite(values), np.searchsorted(edges, values, side="right"), len(edges) + 1)
    shares: Floats = np.bincount(bins, minlength=len(edges) + 2) / max(len(values), 1)
    return shares
