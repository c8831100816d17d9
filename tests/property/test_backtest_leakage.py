"""No strategy looks ahead: what was not known yet is shuffled or blanked, and its strikes stay as they were, bit by bit."""

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pytest

from hcp_pipelines.forecasting.hours import instant
from hcp_pipelines.markets.central import CENTRAL
from hcp_pipelines.optimizer.backtest.case import Known, build_case
from hcp_pipelines.optimizer.backtest.mpc import Mpc
from hcp_pipelines.optimizer.backtest.series import prices_of
from hcp_pipelines.optimizer.backtest.strategies import AlwaysOn, BreakEven, Hysteresis, Oracle
from hcp_pipelines.optimizer.waiting import WaitingModel
from tests.support.recorded import price_frame, random_prices

DRAWS = 50
DAYS = 11
STARTS = (datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 10, 28, tzinfo=UTC))  # the clocks change on the seventh day
PUBLISHED = time(13, 30)  # local time of the day before: when a day's day-ahead prices are known


class EveryColumn:
    """A regressor that notices each column of each row, and whether it is there."""

    def predict(self, rows):
        weights = np.sin(np.arange(rows.shape[1]) + 1.0)
        noticed = (np.nan_to_num(rows.astype(np.float64), nan=0.37) * weights).sum(axis=1)
        return noticed % 1.0  # between the limits of what a wake is worth, which would hide it


STRATEGIES = (
    AlwaysOn(), BreakEven(), Hysteresis(), Mpc(WaitingModel(EveryColumn(), STARTS[0]))
)  # fmt: skip


def known_from(starts, delay):
    """The first decision, by row, that may use each row's price, and its day-ahead price."""
    rows = np.arange(len(starts))
    published = [day_ahead_known_at(instant(int(us))) for us in starts]
    day_ahead = np.searchsorted(starts, [round(at.timestamp() * 1e6) for at in published])
    return rows + delay, day_ahead


def day_ahead_known_at(at):
    day = at.astimezone(CENTRAL).date() - timedelta(days=1)
    return datetime.combine(day, PUBLISHED, tzinfo=CENTRAL)


def case_from(starts_at, prices, day_ahead, hashprice, model):
    known = np.r_[np.full(96, hashprice[0]), hashprice[:-96]]  # the day before's
    series = prices_of(price_frame(prices, start=starts_at), "HB_TEST", "made up")
    return build_case(series, day_ahead, (known, hashprice), 17.5, model)


def changed(values, unknown, how, random):
    """Shuffled among themselves, or absurdly different, where they are not known yet."""
    out = values.copy()
    out[unknown] = random.permutation(values[unknown]) if how == "shuffle" else np.nan
    return out


def draws(model, how):
    random = np.random.default_rng(1)
    for n in range(DRAWS):
        start = STARTS[n % 2]
        prices = random_prices(96 * DAYS, seed=n)
        day_ahead = np.repeat(prices.reshape(-1, 4).mean(axis=1), 4) + random.normal(0, 5, 96 * DAYS)
        hashprice = np.repeat(random.uniform(40, 60, DAYS), 96)
        whole = case_from(start, prices, day_ahead, hashprice, model)
        t = int(random.integers(96, 96 * DAYS - 1))
        price_known, day_ahead_known = known_from(whole.starts_us, whole.delay)
        day_over = (np.arange(96 * DAYS) // 96 + 1) * 96 > t
        # a price that can't be read would be refused: the blank of a settled price is one that no decision could survive
        future = changed(prices, price_known > t, how, random)
        future = np.where(np.isnan(future), -999.0, future)
        other = case_from(
            start, future, changed(day_ahead, day_ahead_known > t, how, random),
            np.where(day_over, hashprice * 3, hashprice), model,
        )  # fmt: skip
        yield t, whole, other


@pytest.mark.parametrize("how", ["shuffle", "blank"])
@pytest.mark.parametrize("model", list(Known))
def test_what_was_not_known_yet_changes_no_strike(model, how):
    for t, whole, other in draws(model, how):
        for strategy in STRATEGIES:
            before, after = strategy.strikes(whole), strategy.strikes(other)
            for one, two in ((before.on, after.on), (before.off, after.off)):
                assert one[: t + 1].tobytes() == two[: t + 1].tobytes(), strategy.name


def test_the_oracle_is_caught():
    caught = 0
    for t, whole, other in draws(Known.AT_START, "blank"):
        before, after = Oracle().strikes(whole), Oracle().strikes(other)
        caught += before.off[: t + 1].tobytes() != after.off[: t + 1].tobytes()
    assert caught > 0


def test_day_ahead_prices_are_known_at_half_past_one_also_where_clocks_change():
    for day in (date(2024, 3, 10), date(2024, 11, 3), date(2024, 7, 1)):
        noon = datetime.combine(day, time(12), tzinfo=CENTRAL)
        assert day_ahead_known_at(noon).astimezone(CENTRAL).hour == 13
        assert noon - day_ahead_known_at(noon.astimezone(UTC)) >= timedelta(hours=21)
