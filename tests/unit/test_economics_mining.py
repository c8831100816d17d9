"""Golden figures of mining economics: published triples within 1.5 %, identities within 1e-9 (FACTS §1, ER-01, ER-02)."""

import math
import re
from pathlib import Path

import polars as pl
import pytest

from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.economics import mining, switching
from hcp_pipelines.economics.bounds import ImplausibleValueError
from hcp_pipelines.fleet.models import MODELS, asic_states


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


def test_a_column_without_a_difficulty_has_no_hashprice():
    frame = pl.DataFrame({"difficulty": [0.0, -1.0, None, 1e14]})
    columns = (pl.lit(90_000.0), pl.col("difficulty"), pl.lit(0.1), pl.lit(840_000))
    assert frame.select(mining.hashprice_columns(*columns)).to_series().is_null().to_list() == [True, True, True, False]


def test_a_difficulty_of_zero_is_refused_not_infinite():
    with pytest.raises(ValueError, match="difficulty=0"):
        mining.btc_per_day(1.0, 0.0, 840_000, 0.0)


def test_wake_cost_per_device_adds_up_to_the_golden_case_per_megawatt():
    revenue_per_mwh, joules = 119.0, 17.5
    devices_per_mw = 1e6 / (200 * joules)
    wake = switching.switch_cost(ResourceType.ASIC, DeviceState.CURTAILED, DeviceState.MINING_FULL, 200.0)
    per_device = wake.at(revenue_per_mwh / devices_per_mw)
    assert per_device * devices_per_mw == pytest.approx(
        switching.asic_wake_usd_per_mw(revenue_per_mwh, joules), rel=1e-9
    )


def test_break_even_of_each_model_and_profile():
    """FACTS §1's table at $39.53 and $50; eco is worth 1.075 of it, the step from eco to full 0.7 (OPTIMIZER §3)."""
    states = [(m.model, s) for m in MODELS.values() if m.type is ResourceType.ASIC for s in asic_states(m, "stock")]
    rows = [(name, s.state.label, s.hash_rate_th_per_s, s.power_kw) for name, s in states if s.hash_rate_th_per_s]
    schema = ["model", "profile", "hash_rate_th_per_s", "power_kw"]
    table = mining.with_break_evens(pl.DataFrame(rows, schema=schema, orient="row"), 39.53)
    full = {r["model"]: r for r in table.to_dicts() if r["profile"] == "mining_full"}
    eco = {r["model"]: r for r in table.to_dicts() if r["profile"] == "mining_eco"}
    assert {m: round(r["break_even_usd_per_mwh"]) for m, r in full.items()} == {
        "S21": 94, "S21 XP": 122, "S19 XP": 77, "M60S": 89,
    }  # fmt: skip
    for model, row in full.items():
        own = row["break_even_usd_per_mwh"]
        assert eco[model]["break_even_usd_per_mwh"] == eco[model]["step_usd_per_mwh"] == pytest.approx(1.075 * own)
        assert row["step_usd_per_mwh"] == pytest.approx(0.7 * own)


def test_cooling_and_the_pool_lower_the_break_even_in_proportion():
    own = mining.break_even_usd_per_mwh(50.0, 17.5)
    assert mining.break_even_usd_per_mwh(50.0, 17.5, pue=1.25, pool_fee_fraction=0.02) == pytest.approx(
        own * 0.98 / 1.25
    )


def test_a_profile_that_takes_no_more_power_than_the_one_below_is_refused():
    twice = pl.DataFrame({"model": ["a", "a"], "hash_rate_th_per_s": [100.0, 120.0], "power_kw": [3.0, 3.0]})
    with pytest.raises(ImplausibleValueError, match="more than the one below"):
        mining.with_break_evens(twice, 50.0)


@pytest.mark.shared_data
def test_hashprice_meets_each_published_day_of_two_years():
    """Coin Metrics' own hashrate, fees, issuance and price, against difficulty, height and fees here."""
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / "btc" / "bitcoin_network_daily.parquet"
    if not path.is_file():
        pytest.skip("the real series are not beside the project: nothing to check against")
    subsidy = (pl.col("issuance_btc") / pl.col("block_count")).round(3)
    days = pl.read_parquet(path).with_columns(
        fees=pl.col("total_fees_btc") / pl.col("block_count"),
        height=pl.when(subsidy == 6.25).then(800_000).when(subsidy == 3.125).then(860_000),
    )
    whole = days.drop_nulls("height")  # the day of the halving has both subsidies
    assert (len(days), len(whole)) == (792, 791)
    columns = (pl.col(name) for name in ("price_usd", "difficulty", "fees", "height"))
    ours = whole.select(mining.hashprice_columns(*columns)).to_series()
    assert (ours / whole["hashprice_usd_per_ph_per_day_derived"] - 1).abs().max() < 0.015


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: mining.hashprice_usd_per_ph_day(float("nan"), 1e14, 0.1, 840_000), r"btc_usd=nan: must be at least 0"),
        (lambda: mining.hashprice_usd_per_ph_day(9e4, 1e14, -0.1, 840_000), r"fees_btc_per_block=-0\.1"),
        (lambda: mining.hashprice_usd_per_ph_day(9e4, float("inf"), 0.1, 840_000), r"difficulty=inf: .*at most 1e\+20"),
        (lambda: mining.subsidy_btc(-1), "height=-1"),
        (lambda: mining.break_even_usd_per_mwh(50.0, 0.0), "efficiency_j_per_th=0: must be above 0"),
        (lambda: mining.break_even_usd_per_mwh(5e11, 17.5), r"hashprice_usd_per_ph_day=5e\+11"),
        (lambda: mining.power_kw(-1.0, 17.5), "hash_rate_th_per_s=-1"),
        (lambda: mining.revenue_usd_per_hour(200.0, 50.0, 1.5), r"pool_fee_fraction=1\.5"),
    ],
)
def test_bad_input_is_refused_by_value_and_limit(call, told):
    with pytest.raises(ImplausibleValueError, match=told):
        call()


def test_the_page_has_the_break_evens_and_the_costs_of_switches_as_they_are():
    page = (Path(__file__).resolve().parents[2] / "docs" / "economics.md").read_text()
    states = [(m.model, s) for m in MODELS.values() if m.type is ResourceType.ASIC for s in asic_states(m, "stock")]
    rows = [(name, s.hash_rate_th_per_s, s.power_kw) for name, s in states if s.hash_rate_th_per_s]
    frame = pl.DataFrame(rows, schema=["model", "hash_rate_th_per_s", "power_kw"], orient="row")
    tables = [mining.with_break_evens(frame, hashprice) for hashprice in (39.53, 50.0)]
    for model in {name for name, _ in states}:
        (eco, full), (eco_50, full_50) = (table.filter(pl.col("model") == model).to_dicts() for table in tables)
        cells = [
            f"{low[column]:.0f}, {high[column]:.0f}"
            for low, high, column in (
                (full, full_50, "break_even_usd_per_mwh"),
                (eco, eco_50, "break_even_usd_per_mwh"),
                (full, full_50, "step_usd_per_mwh"),
            )
        ]
        row = r" \| ".join([rf"^\| {model} \([^|]*\)", *cells]) + r" \|$"
        assert re.search(row, page, re.MULTILINE), (model, cells)
    for told, kind in (("a miner wakes", "asic_wake"), ("a GPU loads a model", "gpu_load")):
        cost = switching.COSTS[switching.SwitchKind(kind)]
        assert f"| {told} | {cost.minutes:g} | {cost.fixed_usd:g}" in page
    pause, resume = (switching.COSTS[switching.SwitchKind(f"training_{k}")].minutes for k in ("pause", "resume"))
    assert f"| training pauses; resumes | {pause:g}; {resume:g} |" in page
