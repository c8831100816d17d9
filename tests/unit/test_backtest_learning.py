"""What a live model is learnt from and scored on: a platform's record, cut where it has gaps, with hashprice as it was known."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.economics.mining import break_even_usd_per_mwh
from hcp_pipelines.forecasting.known_prices import PRICES
from hcp_pipelines.optimizer.backtest.learning import held_out, learn_and_score, market_of

START = datetime(2024, 3, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
NO_HASHPRICE = pl.DataFrame(schema={"start": INSTANT, "hashprice": pl.Float64()})


def rows(values, point="HB_TEST", start=START, stream="power.rt_spp", step=QUARTER):
    starts = [start + n * step for n in range(len(values))]
    columns = {
        "stream": stream,
        "settlement_point": point,
        "start_at": starts,
        "price_usd_per_mwh": values,
        "known_at": starts,
    }
    return pl.DataFrame(columns, schema_overrides=dict(PRICES))


def prices(days):
    return np.full(96 * days, 40.0)


def test_a_record_is_cut_at_long_gaps_and_points_stand_apart():
    later = START + timedelta(days=21, hours=3)  # three hours after the first stretch
    both = pl.concat([rows(prices(21)), rows(prices(10), start=later), rows(prices(2), "HB_OTHER")])
    hours = rows([50.0, 60.0], stream="power.da_spp", step=timedelta(hours=1))
    market = market_of(pl.concat([both, hours]), NO_HASHPRICE)
    assert [(p.point, len(p.starts_us)) for p, _ in market.stretches] == [
        ("HB_TEST", 21 * 96), ("HB_TEST", 10 * 96), ("HB_OTHER", 2 * 96),
    ]  # fmt: skip
    day_ahead = market.stretches[0][1]
    assert day_ahead[:8].tolist() == [50.0] * 4 + [60.0] * 4
    assert np.isnan(day_ahead[8:]).all()
    assert market.days == 33
    assert len(list(market.cases((20.0,)))) == 1, "two weeks at least"


def test_hashprice_is_what_was_known_as_an_interval_began_and_a_plain_one_without_any():
    known = pl.DataFrame({"start": [START + timedelta(hours=1)], "hashprice": [60.0]}).cast({"start": INSTANT})
    known = pl.concat([known, known.with_columns(start=pl.col("start") + timedelta(hours=1), hashprice=pl.lit(70.0))])
    [case] = market_of(rows(prices(14)), known).cases((20.0,))
    per_hashprice = break_even_usd_per_mwh(1.0, 20.0)
    assert (case.known.revenue_usd_per_mwh[:9] / per_hashprice).round(9).tolist() == [60.0] * 8 + [70.0]
    [plain] = market_of(rows(prices(14)), NO_HASHPRICE).cases((20.0,))
    assert (plain.known.revenue_usd_per_mwh / per_hashprice).round(9).tolist() == [50.0] * len(plain)


@pytest.mark.parametrize(("days", "weeks"), [(30, 4), (200, 50 / 7), (400, 13)])
def test_a_quarter_of_the_record_is_held_out_four_to_thirteen_weeks(days, weeks):
    assert held_out(market_of(rows(prices(days)), NO_HASHPRICE)) == timedelta(weeks=weeks)


@pytest.mark.parametrize(("days", "gap_days", "known"), [(55, 0, 27), (90, 40, 90)])
def test_too_little_before_or_nothing_that_goes_on_into_the_weeks_held_out_is_refused(days, gap_days, known):
    now = START + timedelta(days=days + gap_days)
    with pytest.raises(ConfigError, match=f"^{known} days of real-time prices .*materialize raw_ercot__rt_spp"):
        learn_and_score(market_of(rows(prices(days)), NO_HASHPRICE), now)
