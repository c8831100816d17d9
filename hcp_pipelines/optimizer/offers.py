"""What of a facility's load is worth selling as a reserve, hour by hour: the programme at quantiles of prices ahead. Pure.

Miners that are on are sold; GPUs and their queue take part in the site's limits and are never sold. What is proposed is an offer
for a person to make: nothing here submits one, and what a market awards is entered as an obligation (`hcp grid award`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.modes import ResourceType
from hcp_pipelines.forecasting.hours import microseconds
from hcp_pipelines.markets.central import CENTRAL
from hcp_pipelines.optimizer.ai_work import NO_WORK, Ahead, AiWork
from hcp_pipelines.optimizer.inputs import FacilityInputs, GroupInputs, SiteInputs
from hcp_pipelines.optimizer.programme import Group, Horizon, Mode, SiteSpec, Start
from hcp_pipelines.optimizer.programme.futures import Future, Sale, best_sale
from hcp_pipelines.optimizer.programme.spec import Floats
from hcp_pipelines.optimizer.steps import revenue_per_index, steps_of

LOT_MW = 0.1  # offers are of whole lots
PUBLISHED, LIKE_LAST_WEEK, UNKNOWN = "published", "like_last_week", "unknown"


@dataclass(frozen=True)
class HoursAhead:
    """The hours that can be sold: `prices` [level, hour] as quantiles, each level standing for `chances` of what may come.

    `capacity` is $ for a MW and hour by product; `charge` what a coincident peak may add, $/MWh; `sold_mw` what is sold already.
    """

    starts: tuple[datetime, ...]
    prices_usd_per_mwh: Floats
    chances: Floats
    capacity_usd_per_mw_h: Mapping[str, Floats]
    capacity_from: Mapping[str, tuple[str, ...]]  # by product [h]: how each hour's price is known
    charge_usd_per_mwh: Floats
    sold_mw: Floats


@dataclass(frozen=True)
class Offer:
    """So many MW of one product in one hour: what it pays at the capacity price, what its load forgoes on average, and the least.

    `least_usd_per_mw_h` is what the last megawatt forgoes: below it the offer is not worth making.
    """

    start_at: datetime
    product: str
    mw: float
    capacity_usd_per_mw_h: float
    capacity_from: str
    least_usd_per_mw_h: float
    revenue_usd: float
    cost_usd: float
    load_mw: float
    sold_mw: float
    charge_usd_per_mwh: float

    @property
    def net_usd(self) -> float:
        """What it brings on average."""
        return self.revenue_usd - self.cost_usd

    @property
    def reason(self) -> str:
        """In words."""
        price = "its price is published" if self.capacity_from == PUBLISHED else "its price is that hour's of last week"
        pays = f"{self.product} pays {self.capacity_usd_per_mw_h:.2f} $/MW"
        words = f"{pays}, the last MW forgoes {self.least_usd_per_mw_h:.2f}; {price}"
        if self.charge_usd_per_mwh > 0:
            words += f"; a coincident peak may add {self.charge_usd_per_mwh:.0f} $/MWh"
        return words + (f"; beside {self.sold_mw:.1f} MW that are sold" if self.sold_mw > 0 else "")


def chances_of(levels: Sequence[float]) -> Floats:
    """What each quantile stands for: up to half-way to its neighbours, the outer ones to the ends.

    >>> chances_of((0.1, 0.5, 0.9)).round(3).tolist()
    [0.3, 0.4, 0.3]
    """
    edges = np.r_[0.0, (np.array(levels[1:]) + np.array(levels[:-1])) / 2, 1.0]
    return np.diff(edges)


def with_tail(levels: Sequence[float], quantiles: Floats, day_ahead_usd_per_mwh: Floats) -> Floats:
    """[level, hour] with the highest level's price as the mean of all that lies above it: what is sold has to pay for that tail.

    A level stands for all of its chances, and above the last one prices know no end. How far that mean lies above the highest
    quantile is the geometric mean of two: the forecast's, whose tail falls off exponentially as its two highest quantiles do,
    β (ln((1 − b) / w) + 1) for the share w, with β = (q_b − q_a) / ln((1 − a) / (1 − b)); and the market's, to whose
    day-ahead price the tail is what the levels below leave. Hours without one (NaN) have the forecast's alone.
    """
    chances, low, high = chances_of(levels), 1 - levels[-2], 1 - levels[-1]
    share = float(chances[-1])
    fall: Floats = (quantiles[-1] - quantiles[-2]) / math.log(low / high)
    foreseen = fall * (math.log(high / share) + 1)
    market = np.maximum((day_ahead_usd_per_mwh - chances[:-1] @ quantiles[:-1]) / share - quantiles[-1], 0.0)
    above = np.where(np.isfinite(market), np.sqrt(foreseen * market), foreseen)
    return np.vstack([quantiles[:-1], quantiles[-1] + above])


def offers_of(inputs: FacilityInputs, ahead: HoursAhead, work: AiWork = NO_WORK) -> list[Offer]:
    """The offers that bring most on average, in whole lots; none where nothing is worth selling.

    Raises:
        ConfigError, InfeasibleError, SolverError: as `futures.best_sale`.
    """
    site, products, n_hours = inputs.site, tuple(ahead.capacity_usd_per_mw_h), len(ahead.starts)
    asked = _asked(ahead.starts)
    inference, adder = work.inference(asked), site.adders_usd_per_mwh  # the queue's worth has the adder taken off
    jobs = tuple(
        replace(job, penalty_usd_per_mwh=job.penalty_usd_per_mwh + adder) for slot in work.jobs(asked) for job in slot
    )
    spec = site_spec(inputs, products, tuple((inference.usd_per_mwh + adder).tolist()), len(jobs))
    futures = [
        Future(
            Horizon.of(
                prices + adder, 1.0, site.capacity_mw,
                indices={name: np.full(n_hours, inputs.indices[name]) for name in site.indices},
                adder_usd_per_mwh=ahead.charge_usd_per_mwh, floor_mw=ahead.sold_mw,
                mcpc_usd_per_mw_h=np.nan_to_num(np.stack(list(ahead.capacity_usd_per_mw_h.values()))),
                demand_mw=inference.mw, training=jobs,
            ),
            float(chance),
        )
        for prices, chance in zip(ahead.prices_usd_per_mwh, ahead.chances, strict=True)
    ]  # fmt: skip
    awake = [_awake(group, inputs) for group in _price_led(site)]
    start = Start(np.array([*awake, *[0.0] * (len(spec.groups) - len(awake))]))
    return _in_lots(ahead, products, best_sale(spec, futures, start))


def _asked(starts: Sequence[datetime]) -> Ahead:
    """Those hours, one interval each, in local time."""
    local = [at.astimezone(CENTRAL) for at in starts]
    hours, days = np.array([at.hour for at in local]), np.array([at.date().toordinal() for at in local])
    return Ahead(np.array([microseconds(at) for at in starts]), hours, days, 1)


def site_spec(
    inputs: FacilityInputs, reserves: tuple[str, ...], inference_usd_per_mwh: tuple[float, ...] = (), jobs: int = 0
) -> SiteSpec:
    """A facility as the programme sees it: all-in MW, so at a PUE of 1. Of scheduled groups the queue says what they do."""
    site = inputs.site
    queued = [group for group in site.groups if group.is_scheduled]
    groups = [_group(group, site, inputs.indices[group.index]) for group in _price_led(site)]
    feeders = dict(site.feeder_caps_mw)
    for group in queued:  # at rest or busy it stands behind its feeder
        if group.feeder_id in feeders:
            feeders[group.feeder_id] = max(feeders[group.feeder_id] - _mw(group, group.ladder[-1].power_kw), 0.0)
    resting = sum(_mw(group, group.ladder[0].power_kw) for group in queued)
    climbing = sum(_mw(group, group.ladder[-1].power_kw) for group in queued) - resting
    ramps = [ramp for ramp in site.ramps if ramp.scope == "facility"]
    return SiteSpec(
        (*groups, *([Group("queue at rest", 1.0, (), asleep_mw=resting, is_sheddable=False)] if queued else [])),
        feeders,
        ramp_mw_per_h=min((r.up_mw / r.window_s * 3600 for r in ramps), default=math.inf),
        ramp_down_mw_per_h=min((r.down_mw / r.window_s * 3600 for r in ramps), default=math.inf),
        reserves=reserves,
        gpu_mw=climbing,
        inference_usd_per_mwh=inference_usd_per_mwh,
        training_slots=jobs,
    )


def _price_led(site: SiteInputs) -> list[GroupInputs]:
    return [group for group in site.groups if not group.is_scheduled]


def _group(group: GroupInputs, site: SiteInputs, index: float) -> Group:
    modes = [(s, revenue_per_index(group, s, site)) for s in group.ladder[1:]]
    wakes = [step.wake for step in steps_of(group, site, index)]
    return Group(
        group.group_id,
        group.devices,
        tuple(Mode(s.state.label, s.power_kw / 1000, revenue) for s, revenue in modes if revenue > 0),
        group.index,
        asleep_mw=group.ladder[0].power_kw / 1000,
        feeder=group.feeder_id,
        wake_usd_per_index=sum(wake.slope for wake in wakes),
        wake_usd=sum(wake.offset for wake in wakes),
        min_up_h=site.min_up_s / 3600,
        min_down_h=site.min_down_s / 3600,
        is_sheddable=group.type is ResourceType.ASIC,
    )


def _mw(group: GroupInputs, kw: float) -> float:
    return group.devices * kw / 1000


def _awake(group: GroupInputs, inputs: FacilityInputs) -> float:
    """Devices of a group that are not in its lowest state."""
    lowest = group.ladder[0].state
    present = inputs.present.get(group.group_id, {})
    return float(min(group.devices, sum(n for state, n in present.items() if state is not lowest)))


def _in_lots(ahead: HoursAhead, products: Sequence[str], sale: Sale) -> list[Offer]:
    """Whole lots, what they forgo shared by MW; what is less than a lot is not offered."""
    offers = []
    lots: npt.NDArray[np.float64] = np.floor(sale.reserve_mw / LOT_MW + 1e-6) * LOT_MW
    hourly = sale.reserve_mw.sum(axis=0)
    for h, at in enumerate(ahead.starts):
        for s, product in enumerate(products):
            mw = round(float(lots[s, h]), 6)
            if mw < LOT_MW:
                continue
            price = float(ahead.capacity_usd_per_mw_h[product][h])
            least, cost = max(0.0, float(sale.least_usd_per_mw_h[h])), float(sale.cost_usd[h]) * mw / float(hourly[h])
            offers.append(
                Offer(
                    at, product, mw, price, ahead.capacity_from[product][h], least, mw * price, cost,
                    float(sale.load_mw[h]), float(ahead.sold_mw[h]), float(ahead.charge_usd_per_mwh[h]),
                )
            )  # fmt: skip
    return offers
