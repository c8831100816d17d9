"""What is proposed as reserve: worth it on average, in whole lots, beside the queue, limits and what is sold already."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.economics.mining import revenue_usd_per_hour
from hcp_pipelines.forecasting.learnable.protocol import LEVELS
from hcp_pipelines.optimizer.offers import (
    LIKE_LAST_WEEK,
    PUBLISHED,
    HoursAhead,
    chances_of,
    offers_of,
    site_spec,
    with_tail,
)
from hcp_pipelines.optimizer.programme import InfeasibleError
from hcp_pipelines.optimizer.queue.ahead import QueueWork
from hcp_pipelines.optimizer.queue.deadlines import with_urgency
from hcp_pipelines.optimizer.queue.places import placed, places_of
from hcp_pipelines.optimizer.queue.valued import valued
from tests.support.work import FULL, INDICES, NOW, gpus, inputs, job, miners, queue, site

PRODUCTS = ("ECRS", "NSPIN")
WORTH = revenue_usd_per_hour(200.0, 1.0) * INDICES["hashprice"] * 1000 / 3.475  # $/MWh above rest


def ahead(prices, capacity, **more):
    """`prices` [hour]: the same at every quantile but for the highest, which is `spike` above."""
    n, spike = len(prices), more.pop("spike", 0.0)
    quantiles = np.tile(np.array(prices, dtype=float), (len(LEVELS), 1))
    quantiles[-1] += spike
    starts = tuple(NOW + timedelta(hours=h) for h in range(n))
    by_product = dict(zip(PRODUCTS, np.array(capacity, dtype=float).reshape(2, n), strict=True))
    where = dict.fromkeys(PRODUCTS, (more.pop("told", PUBLISHED),) * n)
    told = {"charge_usd_per_mwh": np.zeros(n), "sold_mw": np.zeros(n), "capacity_from": where} | more
    return HoursAhead(starts, quantiles, chances_of(LEVELS), by_product, **told)


def all_on(groups=None, **more):
    groups = [miners(1000)] if groups is None else groups
    present = {group.group_id: {FULL: group.devices} for group in groups if not group.gpu_type}
    return inputs(site(groups, **more), present=present)


def test_quantiles_stand_for_all_that_may_come():
    assert chances_of(LEVELS).sum() == pytest.approx(1.0)
    assert chances_of(LEVELS)[3] == pytest.approx(0.25)


def test_the_last_level_s_price_is_the_mean_of_all_above_it():
    """Of an exponential tail, whose mean excess is its scale, exactly; where two quantiles are one price there is no tail."""
    scale, share = 40.0, chances_of(LEVELS)[-1]
    exact = -scale * np.log(1 - np.array(LEVELS))
    quantiles = np.stack([exact, np.full(len(LEVELS), 30.0)], axis=1)
    tailed = with_tail(LEVELS, quantiles, np.full(2, np.nan))
    assert tailed[-1] == pytest.approx([scale * (1 - np.log(share)), 30.0])
    assert tailed[:-1, 0].tolist() == exact[:-1].tolist()


def test_a_day_ahead_price_above_what_is_foreseen_makes_the_tail_longer_and_one_below_it_shorter():
    """What the mean lies above the highest quantile by is the geometric mean of the forecast's and of the market's."""
    chances = chances_of(LEVELS)
    exact = -40.0 * np.log(1 - np.array(LEVELS))
    (alone,) = with_tail(LEVELS, exact[:, None], np.array([np.nan]))[-1]
    below, highest = chances[:-1] @ exact[:-1], exact[-1]
    agreed = below + chances[-1] * alone
    dear = below + chances[-1] * (highest + 4 * (alone - highest))
    tops = with_tail(LEVELS, np.tile(exact[:, None], 3), np.array([agreed, dear, below]))[-1]
    assert tops == pytest.approx([alone, highest + 2 * (alone - highest), highest])


def test_the_dearest_product_of_each_hour_is_offered_in_whole_lots_with_what_it_forgoes():
    spike = 2000.0
    found = offers_of(all_on(), ahead([20.0, 20.0, 20.0], [[9.0, 3.0, 200.0], [4.0, 5.0, 100.0]], spike=0.0))
    assert [(o.start_at - NOW, o.product) for o in found] == [
        (timedelta(hours=0), "ECRS"), (timedelta(hours=1), "NSPIN"), (timedelta(hours=2), "ECRS")
    ]  # fmt: skip
    assert all(o.mw == pytest.approx(3.5) for o in found)  # 1,000 miners of 3.5 kW
    assert all(o.least_usd_per_mw_h == pytest.approx(0.0, abs=1e-6) for o in found)
    assert found[0].revenue_usd == pytest.approx(31.5)
    dear = offers_of(all_on(), ahead([20.0], [[200.0], [100.0]], spike=spike))
    forgone = chances_of(LEVELS)[-1] * (20 + spike - WORTH)
    assert dear[0].least_usd_per_mw_h == pytest.approx(forgone, rel=0.01)
    assert dear[0].cost_usd == pytest.approx(3.5 * forgone, rel=0.02)
    assert dear[0].net_usd == pytest.approx(dear[0].revenue_usd - dear[0].cost_usd)
    assert not offers_of(all_on(), ahead([20.0], [[forgone * 0.9], [1.0]], spike=spike))


def test_a_likely_peak_outweighs_a_capacity_price_and_is_named_where_it_does_not():
    told = {"charge_usd_per_mwh": np.array([60.0])}
    assert not offers_of(all_on(), ahead([WORTH - 20], [[30.0], [1.0]], **told))
    (offer,) = offers_of(all_on(), ahead([WORTH - 20], [[50.0], [1.0]], **told, told=LIKE_LAST_WEEK))
    assert "a coincident peak may add 60 $/MWh" in offer.reason
    assert "last week" in offer.reason
    assert offer.least_usd_per_mw_h == pytest.approx(40.0, abs=0.5)


def test_what_is_sold_already_is_not_sold_again():
    (offer,) = offers_of(all_on(), ahead([20.0], [[9.0], [4.0]], sold_mw=np.array([2.0])))
    assert offer.mw == pytest.approx(1.5)
    assert "beside 2.0 MW that are sold" in offer.reason
    with pytest.raises(InfeasibleError, match="sold as reserve"):
        offers_of(all_on(), ahead([20.0], [[9.0], [4.0]], sold_mw=np.array([5.0])))


def test_an_hour_whose_capacity_price_nobody_knows_is_not_sold():
    assert not offers_of(all_on(), ahead([20.0], [[np.nan], [np.nan]]))


def test_gpus_of_the_queue_take_room_and_are_never_sold():
    groups = [gpus(1000), miners(1000)]
    one = all_on(groups, capacity_mw=4.0)
    places = places_of([one])
    work = with_urgency(
        queue(job(1, "ai_inference_realtime", gpu_count=1000, estimated_s=48 * 3600.0)).work, {"H100": 1000}
    )
    busy = QueueWork(NOW, valued(placed(work, places), places))
    assert busy.most_inference_mw == pytest.approx(0.9)  # 0.9 kW each above rest
    empty = QueueWork(NOW, busy.served.clear())
    hours = ahead([20.0], [[9.0], [4.0]])
    (free,), (beside,) = (offers_of(one, hours, each) for each in (empty, busy))
    assert free.mw == pytest.approx(3.5)  # 4 MW less 0.4 at rest
    assert beside.mw == pytest.approx(2.6, abs=0.11)  # and less 0.9 at work
    assert site_spec(one, PRODUCTS).gpu_mw == pytest.approx(1.0)  # the highest state draws 1.4 kW


def test_gpus_that_follow_the_price_are_not_sold_either():
    one = all_on([gpus(1000, is_scheduled=False), miners(1000)])
    (offer,) = offers_of(one, ahead([20.0], [[9.0], [4.0]]))
    assert offer.mw == pytest.approx(3.5)


def test_a_price_that_is_none_is_named():
    hours = ahead([20.0, 20.0], [[9.0, 9.0], [4.0, 4.0]])
    broken = hours.prices_usd_per_mwh.copy()
    broken[2, 1] = np.nan
    with pytest.raises(ConfigError, match="price_usd_per_mwh of interval 1 is nan"):
        offers_of(all_on(), replace(hours, prices_usd_per_mwh=broken))
