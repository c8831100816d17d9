"""Features that drift away from what was learnt are told; those that stay are not."""

import numpy as np
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.drift import profile, stability
from hcp_pipelines.forecasting.learnable.lessons import DAY_US
from hcp_pipelines.forecasting.learnable.protocol import Examples


def examples(days=20, **features):
    """Asked evenly over so many days."""
    n = len(next(iter(features.values())))
    asked = np.linspace(0, days * DAY_US, n, endpoint=False).astype(np.int64)
    zeros = np.zeros(n, np.int64)
    matrix = np.column_stack(list(features.values())).astype(np.float32)
    return Examples(matrix, tuple(features), zeros * 1.0, zeros, ("a",), asked, asked, asked, zeros * 1.0, zeros + 1.0)


def test_a_shift_is_told_by_feature_the_largest_first():
    random = np.random.default_rng(0)
    kept = profile(examples(same=random.normal(size=2000), moved=random.normal(size=2000)), ("same", "moved"))
    later = examples(moved=random.normal(1.0, 1.0, 2000), same=random.normal(size=2000))
    found = stability(kept, later)
    assert list(found) == ["moved", "same"]
    assert found["moved"] > 0.5
    assert found["same"] < 0.03


def test_what_is_known_no_more_is_a_drift_and_so_is_a_constant_that_moves():
    value = np.random.default_rng(1).normal(size=1000)
    kept = profile(examples(gone=value, fixed=np.full(1000, 3.0)), ("gone", "fixed"))
    found = stability(kept, examples(gone=np.full(1000, np.nan), fixed=np.full(1000, 3.0)))
    assert found["gone"] > 5
    assert found["fixed"] == 0.0
    assert stability(kept, examples(gone=value, fixed=np.full(1000, 2.0)))["fixed"] > 5


def test_many_rows_of_few_days_say_nothing():
    random = np.random.default_rng(2)
    kept = profile(examples(a=random.normal(size=2000)), ("a",))
    moved = random.normal(3.0, 1.0, 720)
    assert stability(kept, examples(days=1, a=moved)) == {}
    assert stability(kept, examples(days=13, a=moved)) == {}
    assert stability(kept, examples(days=14, a=moved))["a"] > 1


def test_a_season_that_the_lessons_had_is_usual():
    random = np.random.default_rng(3)
    season = 3 * np.sin(np.arange(2400) * 2 * np.pi / 2400 * 2)
    kept = profile(examples(days=84, season=season, still=random.normal(size=2400)), ("season", "still"))
    assert kept["still"]["usual"] < 0.1
    assert kept["season"]["usual"] > 0.5


def test_too_few_rows_say_nothing_and_a_missing_feature_is_refused():
    kept = profile(examples(a=np.arange(500.0)), ("a",))
    assert stability(kept, examples(a=np.arange(10.0))) == {}
    with pytest.raises(ConfigError, match="missing: a"):
        stability(kept, examples(b=np.arange(500.0)))
