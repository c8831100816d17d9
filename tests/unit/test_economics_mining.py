"""Golden figures of mining economics: published triples within 1.5 %, identities within 1e-9 (FACTS §1, ER-01, ER-02)."""

import math

import polars as pl
import pytest

from hcp_pipelines.economics import mining, switching


@pytest.mark.parametrize(
    ("btc_usd", "difficulty", "fees_btc_per_block", "published"),
    [
        (87_235.0, 101.65e12, 3.125 * 0.0482, 55.97),  # page copy of 2024-11-12
        (39.53 / 0.00043143, 148.26e12, 3.125 * 0.0055, 39.53),  # roundup of 2026-01-12
    ],
)
def test_hashprice_meets_what_was_published(btc_usd, difficulty, fees_btc_per_block, published):
    ours = mining.hashprice_usd_per_ph_day(btc_usd, difficulty, fees_btc_per_block, 870_000)
    assert ours == pytest.approx(published, rel=0.015)


@pytest.mark.parametrize(
    ("model", "joules", "usd"), [("S21", 17.5, 94), ("XP", 13.5, 122), ("M60S", 18.5, 89), ("19", 21.5, 77)]
)
def test_break_even_of_the_model_table(model, joules, usd):
    assert round(mining.break_even_usd_per_mwh(39.53, joules)) == usd, model


def test_at_its_break_even_price_a_machine_earns_nothing():
    price = mining.break_even_usd_per_mwh(50.0, 17.5)
    revenue = mining.revenue_usd_per_hour(200.0, 50.0)
    assert revenue == pytest.approx(mining.power_kw(200.0, 17.5) / 1000 * price, rel=1e-9)


def test_subsidy_halves_at_the_block_of_the_halving():
    assert [mining.subsidy_btc(h) for h in (0, 209_999, 210_000, 839_999, 840_000)] == [50, 50, 25, 6.25, 3.125]


def test_columns_equal_scalars():
    rows = [(20_000.0, 5e13, 0.01, 839_999), (93_500.0, 1.1e14, 0.08, 840_000), (1.0, 1.0, 0.0, 1_050_000)]
    frame = pl.DataFrame(rows, schema=["btc", "d", "fees", "height"], orient="row")
    got = frame.select(mining.hashprice_columns(*(pl.col(c) for c in frame.columns))).to_series()
    for value, row in zip(got, rows, strict=True):
        assert math.isclose(value, mining.hashprice_usd_per_ph_day(*row), rel_tol=1e-12)


def test_a_difficulty_of_zero_is_refused_not_infinite():
    with pytest.raises(ValueError, match="difficulty=0"):
        mining.btc_per_day(1.0, 0.0, 3.125, 0.0)


def test_wake_cost_per_device_adds_up_to_the_golden_case_per_megawatt():
    revenue_per_mwh, joules = 119.0, 17.5
    devices_per_mw = 1e6 / (200 * joules)
    per_device = switching.asic_wake(200.0).at(revenue_per_mwh / devices_per_mw)
    assert per_device * devices_per_mw == pytest.approx(
        switching.asic_wake_usd_per_mw(revenue_per_mwh, joules), rel=1e-9
    )
