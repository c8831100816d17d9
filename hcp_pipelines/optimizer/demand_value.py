"""What a forecast of GPU demand is worth in dollars: the same offers of reserves, made with one forecast or another.

The offers are those of `offers.py`, day by day, on a site where each megawatt of GPUs that works makes one of miners go: where
that is not so, a forecast of demand decides nothing. Prices are stated, since a trial of demand has none; outcomes are its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import numpy as np
import polars as pl

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.economics.mining import HASHPRICE, revenue_usd_per_hour
from hcp_pipelines.forecasting.hours import HOUR_US, Floats, Ints, instant
from hcp_pipelines.forecasting.learnable.protocol import Examples
from hcp_pipelines.forecasting.learnable.scoring import Forecasts
from hcp_pipelines.optimizer.backtest.learning import PLAIN_HASHPRICE
from hcp_pipelines.optimizer.inputs import FacilityInputs, GroupInputs, SiteInputs, StateInputs
from hcp_pipelines.optimizer.model_value import HOURS_A_YEAR, ORACLE, WITHOUT, Value, at_level, same_questions, share_of
from hcp_pipelines.optimizer.offers import PUBLISHED, HoursAhead, offers_of
from hcp_pipelines.optimizer.queue.ahead import QueueWork
from hcp_pipelines.optimizer.queue.deadlines import with_urgency
from hcp_pipelines.optimizer.queue.expected import Expected, coming_by_place
from hcp_pipelines.optimizer.queue.places import GPU_WORK, STATE_OF, Place, placed, places_of
from hcp_pipelines.optimizer.queue.read import WORK
from hcp_pipelines.optimizer.queue.valued import valued
from hcp_pipelines.policy.schema import WorkExpected

DAY_H = 24
BEGINS_H, DECIDED_H = (
    6,
    15,
)  # a day is sold from Central midnight on, as forecast at ten in the morning before; UTC, winter
LATEST_H = 6  # a forecast asked so many hours before is still decided by
PRODUCT, GPU_TYPE = "RRS", "reference"
_GPUS, _MINER_KW, _MINER_TH_PER_S = 10_000, 3.5, 200.0


@dataclass(frozen=True)
class ReserveTerms:
    """Stated, not measured: what reserve pays, what power costs, what a GPU-hour of work pays, and what a GPU draws."""

    capacity_usd_per_mw_h: float = 10.0
    power_usd_per_mwh: float = 30.0
    rate_usd_per_gpu_hour: float = 2.0
    rest_kw: float = 0.4
    busy_kw: float = 1.3
    level: float = 0.95  # the quantile that solves take by default

    @property
    def gpu_usd_per_mwh(self) -> float:
        """Of the power that a GPU draws above rest."""
        return self.rate_usd_per_gpu_hour * 1000 / (self.busy_kw - self.rest_kw) - self.power_usd_per_mwh

    @property
    def miner_usd_per_mwh(self) -> float:
        """What a MWh of mining leaves."""
        hourly: float = revenue_usd_per_hour(_MINER_TH_PER_S, PLAIN_HASHPRICE)
        return hourly * 1000 / _MINER_KW - self.power_usd_per_mwh

    @property
    def most_mw(self) -> float:
        """Of GPUs above rest, and of miners."""
        return _GPUS * (self.busy_kw - self.rest_kw) / 1000


def demand_value(forecasts: Sequence[Forecasts], terms: ReserveTerms | None = None) -> list[Value]:
    """Dollars a year and GPU over offering by the seasonal naive forecast; the oracle's beside them.

    As many GPUs as are ever asked for at a time. What is sold of a day is bound: its miners stay on, and work for which no room
    is left then is lost.

    Args:
        forecasts: of GPUs asked for, by class, by several models, of the same questions.
        terms: prices.

    Raises:
        ConfigError: no class is one that GPUs are sold to, no whole day is known of all of them, or the questions differ.
    """
    terms, examples = terms or ReserveTerms(), same_questions(forecasts)
    said = {each.model: at_level(each, terms.level) for each in forecasts}
    said |= {WITHOUT: examples.naive, ORACLE: examples.target}
    days = list(_days(examples, said))
    if not days:
        raise ConfigError("no whole day of customers' work is known together with what the models say: no dollars")
    height = max(float(day.by_name[ORACLE].sum(axis=0).max()) for day in days)
    if height <= 0:
        raise ConfigError("nobody asked for a GPU in these days: no dollars")
    site = _Reference.of(terms)
    earned = {name: sum(_earned(day, name, _GPUS / height, site, terms) for day in days) for name in said}
    without, per_year = earned.pop(WITHOUT), HOURS_A_YEAR / (len(days) * DAY_H * _GPUS)
    most = earned[ORACLE] - without
    return [
        Value(name, round((usd - without) * per_year, 2), share_of(usd - without, most)) for name, usd in earned.items()
    ]


@dataclass(frozen=True)
class _Day:
    """What each says of a day's hours that begin then: GPUs [class, hour]."""

    starts_us: Ints
    classes: tuple[str, ...]
    by_name: Mapping[str, Floats]


def _days(examples: Examples, said: Mapping[str, Floats]) -> Iterator[_Day]:
    """The days of which all say all hours, as they were asked before the day is sold."""
    sold_to = {kind.value for kind in GPU_WORK}
    classes = [k for k, name in enumerate(examples.entities) if name in sold_to]
    asked, wanted = examples.asked_us // HOUR_US, examples.wanted_us // HOUR_US
    if not classes or not len(asked):
        return
    origins = np.unique(asked)
    for day in range(int(wanted.min() // DAY_H), int(wanted.max() // DAY_H) + 1):
        decided = (day - 1) * DAY_H + DECIDED_H
        before = origins[(origins <= decided) & (origins > decided - LATEST_H)]
        if not len(before):
            continue
        hours = day * DAY_H + BEGINS_H + np.arange(DAY_H)
        mine = (asked == before[-1]) & (wanted >= hours[0]) & (wanted <= hours[-1])
        rows = [np.flatnonzero(mine & (examples.entity == k)) for k in classes]
        if any(len(each) != DAY_H for each in rows):
            continue
        by_name = {name: np.stack([values[each] for each in rows]) for name, values in said.items()}
        if all(np.isfinite(each).all() for each in by_name.values()):
            yield _Day(hours * HOUR_US, tuple(examples.entities[k] for k in classes), by_name)


def _earned(day: _Day, name: str, scale: float, site: "_Reference", terms: ReserveTerms) -> float:
    """Dollars of a day that was sold by what one says: reserve, GPUs' work as far as room is left, miners in the rest."""
    sold = site.sold_mw(day, day.by_name[name] * scale, terms)
    asked = day.by_name[ORACLE].sum(axis=0) * scale * (terms.busy_kw - terms.rest_kw) / 1000
    gpus = np.minimum(asked, terms.most_mw - sold)
    usd = terms.capacity_usd_per_mw_h * sold + terms.gpu_usd_per_mwh * gpus
    return float((usd + terms.miner_usd_per_mwh * (terms.most_mw - gpus)).sum())


@dataclass(frozen=True)
class _Reference:
    """The site, where nothing waits."""

    inputs: FacilityInputs
    places: Sequence[Place]
    work: pl.DataFrame
    served: pl.DataFrame

    @classmethod
    def of(cls, terms: ReserveTerms) -> Self:
        """At these prices, all miners on."""
        site = _site(terms)
        indices = {HASHPRICE: PLAIN_HASHPRICE, f"gpu.{GPU_TYPE}": terms.rate_usd_per_gpu_hour}
        present = {site.groups[1].group_id: {DeviceState.MINING_FULL: site.groups[1].devices}}
        inputs = FacilityInputs(site, 0, instant(0), terms.power_usd_per_mwh, indices, present=present)
        places = places_of([inputs])
        work = placed(with_urgency(pl.DataFrame(schema=WORK), {}), places)
        return cls(inputs, places, work, valued(work, places))

    def sold_mw(self, day: _Day, gpus: Floats, terms: ReserveTerms) -> Floats:
        """What is offered of miners' load, hour by hour, where such work is expected."""
        starts = tuple(instant(int(us)) for us in day.starts_us)
        expected = Expected(WorkExpected(), day.starts_us, dict(zip(day.classes, gpus, strict=True)))
        coming = tuple(coming_by_place(expected, self.work, self.served, self.places, starts[0]))
        flat = np.full(DAY_H, terms.capacity_usd_per_mw_h)
        ahead = HoursAhead(
            starts, np.full((1, DAY_H), terms.power_usd_per_mwh), np.ones(1), {PRODUCT: flat}, {PRODUCT: (PUBLISHED,) * DAY_H},
            np.zeros(DAY_H), np.zeros(DAY_H),
        )  # fmt: skip
        sold = np.zeros(DAY_H)
        for offer in offers_of(self.inputs, ahead, QueueWork(starts[0], self.served, coming)):
            sold[(offer.start_at - starts[0]) // timedelta(hours=1)] += offer.mw
        return sold


def _site(terms: ReserveTerms) -> SiteInputs:
    """As many MW of miners as GPUs climb, behind a limit that holds the one or the other."""
    busy = [StateInputs(state, terms.busy_kw) for state in sorted(STATE_OF[kind] for kind in GPU_WORK)]
    gpus = GroupInputs(
        "gpus",
        "",
        ResourceType.GPU,
        _GPUS,
        (StateInputs(DeviceState.IDLE, terms.rest_kw), *busy),
        GPU_TYPE,
        is_scheduled=True,
    )
    ladder = (StateInputs(DeviceState.CURTAILED, 0.0), StateInputs(DeviceState.MINING_FULL, _MINER_KW, _MINER_TH_PER_S))
    miners = GroupInputs("miners", "", ResourceType.ASIC, round(terms.most_mw * 1000 / _MINER_KW), ladder)
    return SiteInputs("reference", "", 0, 0, _GPUS * terms.rest_kw / 1000 + terms.most_mw, (gpus, miners))
