"""Features that drift away from what was learnt are told; those that stay are not."""

import numpy as np
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.drift import profile, stability
from hcp_pipelines.forecasting.learnable.protocol import Examples


def examples(**features):
    n = len(next(iter(features.values())))
    zeros = np.zeros(n, np.int64)
    matrix = np.column_stack(list(features.values())).astype(np.float32)
    return Examples(matrix, tuple(features), zeros * 1.0, zeros, ("a",), zeros, zeros, zeros, zeros * 1.0, zeros + 1.0)


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


def test_too_few_rows_say_nothing_and_a_missing_feature_is_refused():
    kept = profile(examples(a=np.arange(500.0)), ("a",))
    assert stability(kept, examples(a=np.arange(10.0))) == {}
    with pytest.raises(ConfigError, match="missing: a"):
        stability(kept, examples(b=np.arange(500.0)))
