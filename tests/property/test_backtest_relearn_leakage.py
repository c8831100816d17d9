"""Learning anew looks not ahead either: what comes after an instant is shuffled; what was learnt and asked by then stays."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from hcp_pipelines.optimizer import waiting
from hcp_pipelines.optimizer.backtest import request as requests
from hcp_pipelines.optimizer.backtest.case import Known
from hcp_pipelines.optimizer.backtest.folder import Recorded, Sources
from hcp_pipelines.optimizer.backtest.relearning import learnt_anew
from hcp_pipelines.optimizer.backtest.request import Relearn, Request, case_of
from hcp_pipelines.optimizer.backtest.run import strategy_of
from hcp_pipelines.optimizer.backtest.series import prices_of
from tests.support.recorded import price_frame, random_prices

DRAWS = 50
START, DAYS = datetime(2024, 2, 10, tzinfo=UTC), 90  # the clocks change in it
WINDOW = datetime(2024, 3, 2, tzinfo=UTC)
ASKED = Request(Sources(None), WINDOW, START + timedelta(days=DAYS), is_hashprice_same_day=True, relearn=Relearn.MONTH)


def recorded(prices, hashprice):
    series = prices_of(price_frame(prices, start=START), "HB_TEST", "made up")
    days = {date(2024, 2, 9) + timedelta(days=n): value for n, value in enumerate(hashprice)}
    return Recorded(series, np.full(len(prices), np.nan), days, {"network": "made up"})


def strikes(name, prices, hashprice, asked):
    """Of the window, and when each edition had learnt."""
    found = recorded(prices, hashprice)
    (strategy,) = learnt_anew(asked, found, lambda cases, until: [strategy_of(name, cases, until)])
    return strategy.strikes(case_of(asked, found, 17.5))


def draws(name, model, count):
    """(row, what was asked until then, the same with another future)."""
    random = np.random.default_rng(2)
    asked = Request(**(ASKED.__dict__ | {"known": model}))
    for n in range(count):
        prices, hashprice = random_prices(96 * DAYS, seed=n), random.uniform(40, 60, DAYS + 2)
        t = int(random.integers(96 * 22, 96 * DAYS - 1))
        future = prices.copy()
        future[t + 1 - (model is Known.AFTER) :] = random.permutation(future[t + 1 - (model is Known.AFTER) :]) * 1.7
        day = t // 96 + 2  # the day after the row's: the row's own is known, as asked
        other = np.r_[hashprice[:day], hashprice[day:] * 2]
        yield t, strikes(name, prices, hashprice, asked), strikes(name, future, other, asked)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(requests, "TRAINING_EFFICIENCIES_J_PER_TH", (17.5,))
    monkeypatch.setattr(waiting, "BAG", 1)
    monkeypatch.setattr(waiting, "TREES", waiting.TREES | {"max_iter": 10, "min_samples_leaf": 20})


@pytest.mark.parametrize("model", list(Known))
@pytest.mark.parametrize(("name", "count"), [("hysteresis", DRAWS), ("mpc", 2)])
def test_what_was_not_known_yet_changes_nothing_that_was_learnt_or_asked(name, count, model, quick):
    differ = 0
    for t, one, two in draws(name, model, count):
        assert one.on[: t + 1].tobytes() == two.on[: t + 1].tobytes()
        assert one.off[: t + 1].tobytes() == two.off[: t + 1].tobytes()
        differ += one.off.tobytes() != two.off.tobytes()
    assert differ > count / 2


def test_learning_a_month_too_much_would_be_noticed(quick, monkeypatch):
    honest = requests.training_cases

    def early(asked, found):
        month = timedelta(days=31)
        until = min(asked.train_until + month, ASKED.end)
        return honest(Request(**(asked.__dict__ | {"train_until": until})), found)

    monkeypatch.setattr("hcp_pipelines.optimizer.backtest.relearning.training_cases", early)
    caught = sum(
        one.off[: t + 1].tobytes() != two.off[: t + 1].tobytes() for t, one, two in draws("mpc", Known.AT_START, 3)
    )
    assert caught
