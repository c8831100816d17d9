"""The decision price: scalar and column forms agree, and it is bounded by what has already happened."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.economics.power import decision_price, decision_price_of, with_decision_price

START = datetime(2025, 3, 9, 7, 45, tzinfo=UTC)
prices = st.floats(-1000, 10_000)


def test_a_first_lmp_of_5000_settles_at_1667_or_more_whatever_follows():
    assert decision_price([5000.0, 20.0, 20.0]) == 1680.0
    assert decision_price([5000.0, 20.0]) == 1680.0
    assert decision_price([5000.0]) == 5000.0
    assert decision_price([5000.0], slope=0.0) == pytest.approx(1666.67, abs=0.01)


@given(st.lists(prices, min_size=1, max_size=3), st.floats(0, 1), st.floats(0, 100))
@settings(max_examples=100, deadline=None)
def test_the_price_is_the_mean_of_elapsed_and_expected(lmps, slope, offset):
    rest = [slope * lmps[-1] + offset] * (3 - len(lmps))
    assert decision_price(lmps, slope, offset) == pytest.approx(sum(lmps + rest) / 3, abs=1e-6)


def test_no_lmp_is_refused():
    with pytest.raises(ValueError, match="0 LMPs"):
        decision_price([])


@given(
    st.dictionaries(st.integers(0, 11), st.tuples(st.integers(0, 299), prices), min_size=1),
    st.floats(0, 1),
    st.floats(-50, 50),
)
@settings(max_examples=100, deadline=None)
def test_columns_equal_scalars_also_with_missing_runs(runs, slope, offset):
    """Runs at any slots of four intervals, at any second of their slot."""
    lmps = [(START + timedelta(minutes=5 * slot, seconds=s), price) for slot, (s, price) in sorted(runs.items())]
    frame = pl.DataFrame(
        [("A", t, p) for t, p in lmps] + [("B", t, -p) for t, p in reversed(lmps)],
        schema={"settlement_point": pl.String, "source_at": pl.Datetime("us", "UTC"), "lmp_usd_per_mwh": pl.Float64},
        orient="row",
    )
    got = with_decision_price(frame, slope, offset)
    expected = [decision_price_of(lmps[: n + 1], slope, offset) for n in range(len(lmps))]
    expected += [decision_price_of([(t, -p) for t, p in lmps[: n + 1]], slope, offset) for n in range(len(lmps))]
    assert got["decision_price_usd_per_mwh"].to_list() == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.floats(0, 10_000), max_size=2), st.floats(0, 1), st.floats(0, 100))
@settings(max_examples=100, deadline=None)
def test_after_a_first_lmp_of_5000_no_later_one_brings_the_interval_below_1667(later, slope, offset):
    assert decision_price([5000.0, *later], slope, offset) >= 5000 / 3 - 1e-9


@given(st.lists(prices, min_size=3, max_size=3), st.floats(0, 1), st.floats(0, 100))
@settings(max_examples=100, deadline=None)
def test_an_interval_that_is_over_has_its_settled_price_whatever_is_expected(lmps, slope, offset):
    assert decision_price(lmps, slope, offset) == pytest.approx(sum(lmps) / 3, abs=1e-9)


def test_an_lmp_that_is_not_a_number_is_refused_by_row():
    frame = pl.DataFrame(
        {
            "settlement_point": ["A", "A"],
            "source_at": [START, START + timedelta(minutes=5)],
            "lmp_usd_per_mwh": [1.0, None],
        }
    )
    with pytest.raises(ValueError, match="row 1: lmp_usd_per_mwh=None"):
        with_decision_price(frame)
