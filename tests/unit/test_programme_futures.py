"""What to sell before prices are known: against what follows by hand, and against the programme of one future."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.optimizer.programme import Group, Horizon, InfeasibleError, Mode, SiteProgramme, SiteSpec, Start
from hcp_pipelines.optimizer.programme.futures import Future, best_sale

ALL_ON = Start(np.array([10.0]))
CHANCES = (0.2, 0.5, 0.3)


def site(**more):
    wake_usd = more.pop("wake_usd", 0.0)
    return SiteSpec((Group("a", 10.0, (Mode("full", 1.0, 0.0, 60.0),), wake_usd=wake_usd),), reserves=("x",), **more)


def futures(prices, mcpc, chances=CHANCES, **more):
    """`prices` [future, hour]."""
    paid = np.array([mcpc], dtype=float)
    return [
        Future(Horizon.of(np.array(row, dtype=float), 1.0, mcpc_usd_per_mw_h=paid, **more), chance)
        for row, chance in zip(prices, chances, strict=True)
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-50, 400)] * 3, st.integers(0, 90)), min_size=1, max_size=6))
def test_a_megawatt_is_sold_where_it_pays_more_than_staying_on_forgoes_on_average(hours):
    *prices, mcpc = np.array(hours, dtype=float).T
    forgone = np.array(CHANCES) @ np.maximum(np.array(prices) - 60.0, 0.0)
    sale = best_sale(site(), futures(prices, mcpc), ALL_ON)
    clear = np.abs(mcpc - forgone) > 0.01  # the merit order's epsilon decides the rest
    wanted = np.where(mcpc > forgone, 10.0, 0.0)
    assert sale.reserve_mw[0][clear] == pytest.approx(wanted[clear])
    sold = clear & (wanted > 0)
    assert sale.least_usd_per_mw_h[sold] == pytest.approx(forgone[sold], abs=0.01)
    assert sale.cost_usd[sold] == pytest.approx(10 * forgone[sold], abs=0.1)


def test_the_mean_price_would_sell_what_loses():
    """One chance in ten of $1,000: at the mean of $127 all would sleep, at the median nobody; on average an hour forgoes $94."""
    prices, chances = [[30.0], [1000.0]], (0.9, 0.1)
    assert best_sale(site(), futures(prices, [90.0], chances), ALL_ON).reserve_mw.sum() == 0.0
    assert best_sale(site(), futures(prices, [95.0], chances), ALL_ON).reserve_mw.sum() == pytest.approx(10.0)


def test_a_wake_saved_is_part_of_it():
    """An hour above break-even between two below: asleep, it would have to be woken again, so staying on forgoes less."""
    prices = [[30.0, 70.0, 30.0]]
    sale = best_sale(site(wake_usd=6.0), futures(prices, [0.0, 5.0, 0.0], (1.0,)), ALL_ON)
    assert sale.reserve_mw[0, 1] == pytest.approx(10.0)
    assert sale.least_usd_per_mw_h[1] == pytest.approx(4.0, abs=0.01), "10 $ of power less the wake"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-20, 200), min_size=2, max_size=5), st.floats(0, 60))
def test_one_future_is_the_programme(prices, mcpc):
    spec = site(wake_usd=12.0)
    (future,) = futures([prices], [mcpc] * len(prices), (1.0,))
    plan = SiteProgramme(spec, future.horizon.hours).solve(future.horizon, ALL_ON)
    sale = best_sale(spec, [future], ALL_ON)
    free = SiteProgramme(site(wake_usd=12.0), future.horizon.hours).solve(
        Horizon.of(np.array(prices), 1.0, mcpc_usd_per_mw_h=np.zeros((1, len(prices)))), ALL_ON
    )
    gain = mcpc * sale.reserve_mw.sum() - sale.cost_usd.sum()
    assert gain == pytest.approx(plan.net_usd - free.net_usd, abs=1e-3)


def test_what_was_sold_before_is_kept_on_and_the_most_that_may_be_sold_holds():
    prices = [[30.0], [40.0], [50.0]]
    sale = best_sale(site(reserve_most_mw=8.0), futures(prices, [5.0], floor_mw=4.0), ALL_ON)
    assert sale.reserve_mw.tolist() == [[pytest.approx(6.0)]]
    capped = best_sale(site(reserve_most_mw=3.0), futures(prices, [5.0], floor_mw=4.0), ALL_ON)
    assert capped.reserve_mw.tolist() == [[pytest.approx(3.0)]]
    with pytest.raises(InfeasibleError, match="sold as reserve"):
        best_sale(site(), futures(prices, [5.0], floor_mw=11.0), ALL_ON)


def test_chances_that_are_none_and_futures_of_other_hours_are_refused():
    with pytest.raises(ConfigError, match=r"the chances of 2 futures add up to 0\.9"):
        best_sale(site(), futures([[30.0], [40.0]], [5.0], (0.5, 0.4)), ALL_ON)
    one, two = futures([[30.0], [40.0]], [5.0], (0.5, 0.5))
    other = Future(Horizon.of(np.array([40.0]), 0.5, mcpc_usd_per_mw_h=np.array([[5.0]])), 0.5)
    assert two.weight == 0.5
    with pytest.raises(ConfigError, match="different intervals"):
        best_sale(site(), [one, other], ALL_ON)
