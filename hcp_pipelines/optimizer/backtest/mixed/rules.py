"""The strategies of a mixed facility: how miners follow their strikes, what is sold as reserve, when AI work yields.

Every rule keeps to what was known: capacity prices and day-ahead probabilities the day before, prices as `Known` says.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from hcp_pipelines.optimizer.backtest.case import Case
from hcp_pipelines.optimizer.backtest.mixed import courses, limits, ramps
from hcp_pipelines.optimizer.backtest.mixed.limits import FULL_OVER_ECO_WORTH
from hcp_pipelines.optimizer.backtest.mixed.response.obeying import Obeys, Orders, ordered, orders
from hcp_pipelines.optimizer.backtest.mixed.site import ECO_HASH, ECO_POWER
from hcp_pipelines.optimizer.backtest.mixed.world import Actions, Bools, World
from hcp_pipelines.optimizer.backtest.series import Floats, Ints
from hcp_pipelines.optimizer.backtest.simulate import Strikes, simulate
from hcp_pipelines.optimizer.programme.spec import Training

NEVER_USD_PER_MWH = 1e6
CRUMB = 1e-9  # of a share


class Reserves(StrEnum):
    """What is sold."""

    NONE = "none"
    ALWAYS = "always"
    OFFER = "offer"  # where the capacity price is above what is forgone


class Peaks(StrEnum):
    """What is done about coincident peaks."""

    IGNORED = "ignored"
    PLAIN = "plain"  # the field's rule: off in the afternoon hours of days that come near the month's highest demand
    PRICED = "priced"  # the probability times the charge is part of the price


@dataclass(frozen=True)
class Rules:
    """A strategy: whose strikes its miners follow, and the rest. `is_clever`: eco profiles, AI work by price."""

    name: str
    strikes: str
    reserves: Reserves = Reserves.NONE
    peaks: Peaks = Peaks.IGNORED
    is_clever: bool = False
    is_guarded: bool = False
    obeys: Obeys = Obeys.NEVER


ALL_RULES = (
    Rules("always_on", "always_on"),
    Rules("break_even", "break_even"),
    Rules("hysteresis", "hysteresis"),
    Rules("field", "break_even", Reserves.ALWAYS, Peaks.PLAIN, obeys=Obeys.ALWAYS),
    Rules("mpc", "mpc", Reserves.OFFER, Peaks.PRICED, is_clever=True, is_guarded=True, obeys=Obeys.PAID),
)


def decide(world: World, rules: Rules) -> Actions:
    """What a strategy does."""
    charge = _expected_charge(world, rules)
    inference, training = _inference(world, rules, charge), _training(world, rules)
    sold = np.where(world.is_sellable, _sold(world, rules), 0.0)
    asked, free = orders(world, rules.obeys), ordered(len(world), ())
    is_ramped = ramps.bind(world.site, world.step_h)
    added = np.zeros(len(world)) if _comes_off_in_time(world, rules) else charge
    room = world.site.limit_mw - inference.sum(axis=0) - training.sum(axis=0)
    if limits.binds(world.site):
        sold = limits.sellable(world.site, room.reshape(-1, world.steps).min(axis=1), sold)
    kept = np.repeat(_whole(sold) if is_ramped else sold, world.steps, axis=1)
    power = np.stack(
        [
            _power(
                rules,
                case,
                world.strikes[rules.strikes][g],
                kept[g],
                added,
                asked if world.site.groups[g].is_enrolled else free,
            )
            for g, case in enumerate(world.cases)
        ]
    )
    full, eco = (np.where(power == level, 1.0, 0.0) for level in (1.0, ECO_POWER))
    full, eco = _within_limits(world, rules, (full, eco), np.repeat(sold, world.steps, axis=1), (inference, training))
    return Actions(full, eco, sold, inference, training)


def _within_limits(
    world: World, rules: Rules, wanted: tuple[Floats, Floats], sold: Floats, ai: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """([g, t] shares in full, in eco) of what is wanted: what is sold first, under limits and ramps."""
    site, has_eco, is_ramped = world.site, rules.is_clever, ramps.bind(world.site, world.step_h)
    inference_mw, training_mw = (each.sum(axis=0) for each in ai)
    ai_mw, asked_mw = inference_mw + training_mw, world.inference.mw.sum(axis=0) + training_mw
    if is_ramped:
        spare_mw = site.ai.most_inference_mw if rules.is_clever else 0.0  # it gives up what is dear
        sold = ramps.prepared(site, sold, asked_mw, world.step_h, spare_mw)
        wanted = ramps.with_needed(*wanted, sold, has_eco=has_eco)
    room = site.limit_mw - ai_mw
    if _comes_off_in_time(world, rules):
        needed_mw = (np.array([[group.mw] for group in site.groups]) * sold).sum(axis=0)
        cap_mw = courses.cap_mw(world, needed_mw, asked_mw, has_eco=has_eco)
        room = np.minimum(room, np.maximum(cap_mw, needed_mw))
    if limits.binds(site) or _comes_off_in_time(world, rules):
        wanted = limits.fitted(site, room, *wanted, sold, has_eco=has_eco)
    if is_ramped:
        wanted = ramps.held(site, world.step_h, wanted, sold, ai_mw, has_eco=has_eco)
    return wanted


def _expected_charge(world: World, rules: Rules) -> Floats:
    """[t] $/MWh on top of the price."""
    match rules.peaks:
        case Peaks.PRICED:
            return np.repeat(world.p_peak, world.steps) * world.site.peaks.usd_per_mw
        case Peaks.PLAIN:
            return np.repeat(np.where(world.plain_peak, NEVER_USD_PER_MWH, 0.0), world.steps)
    return np.zeros(len(world))


def _whole(sold: Floats) -> Floats:
    """What is sold of whole groups, in eco or full; of others as much stays on as the ramps ask for."""
    return np.where(sold > 1.0 - CRUMB, 1.0, np.where(sold > ECO_POWER - CRUMB, ECO_POWER, 0.0))


def _comes_off_in_time(world: World, rules: Rules) -> bool:
    """Whether its miners' peaks are a matter of their course, not of an hour's price."""
    return rules.peaks is Peaks.PRICED and ramps.bind(world.site, world.step_h)


def _sold(world: World, rules: Rules) -> Floats:
    """[g, h] share of each group's full power."""
    sold = np.zeros((len(world.cases), len(world.mcpc)))
    if rules.reserves is Reserves.ALWAYS:
        sold[:, (world.mcpc > 0) & ~world.plain_peak] = 1.0
    elif rules.reserves is Reserves.OFFER and ramps.bind(world.site, world.step_h):
        sold_mw = courses.sold_mw(world, has_eco=rules.is_clever)
        sold = limits.stacked(world.site, sold_mw, has_eco=rules.is_clever) * (world.mcpc > 0)
    elif rules.reserves is Reserves.OFFER:
        full, eco = (world.mcpc > forgone for forgone in world.forgone)
        sold = np.where(full & eco, 1.0, np.where(eco, ECO_POWER, 0.0)) * (world.mcpc > 0)
    return sold


def _power(rules: Rules, case: Case, strikes: Strikes, sold: Floats, charge: Floats, asked: Orders) -> Floats:
    """[t] share of full power of one group: strikes against the price and what a peak may add, on for what is sold.

    What a programme asks of it goes before all of it.
    """
    revenue, price = case.known.revenue_usd_per_mwh, case.known.price_usd_per_mwh + charge
    margin = revenue - price
    if rules.is_clever:
        margin = np.fmax(margin, ECO_HASH * revenue - ECO_POWER * price)
    is_kept, is_off = (sold > 0) | (asked > 0), asked < 0
    margin = np.where(is_kept, np.fmax(margin, 0.0) + NEVER_USD_PER_MWH, margin)
    margin = np.where(is_off, -NEVER_USD_PER_MWH, margin)
    seen = replace(case, known=replace(case.known, price_usd_per_mwh=revenue - margin))
    is_on = simulate(seen, _obliged(strikes, is_kept, is_off), is_guarded=rules.is_guarded).is_on
    is_eco = rules.is_clever & (price > FULL_OVER_ECO_WORTH * revenue) & (sold <= ECO_POWER) & (asked <= 0)
    return np.where(is_on, np.where(is_eco, ECO_POWER, 1.0), 0.0)


def _obliged(strikes: Strikes, is_kept: Bools, is_off: Bools) -> Strikes:
    on, off = (np.where(is_kept, np.inf, each) for each in (strikes.on, strikes.off))
    return Strikes(np.where(is_off, -np.inf, on), np.where(is_off, -np.inf, off))


def _inference(world: World, rules: Rules, charge: Floats) -> Floats:
    """[k, t] MW: all that is asked for; the clever one gives up what is worth less than its power."""
    if not rules.is_clever:
        return world.inference.mw
    price = np.nan_to_num(world.cases[0].known.price_usd_per_mwh) + charge
    return np.where(world.inference.usd_per_mwh[:, None] > price, world.inference.mw, 0.0)


def _training(world: World, rules: Rules) -> Floats:
    """[j, t] MW: at once, or in the hours that look cheapest the day before."""
    looks = world.cases[0].day_ahead[:: world.steps] + world.p_peak_ahead * world.site.peaks.usd_per_mw
    rank = np.nan_to_num(looks, nan=0.0) if rules.is_clever else np.arange(len(world.mcpc), dtype=float)
    return np.repeat(training_mw(world, rank), world.steps, axis=1)


def training_mw(world: World, rank: Floats) -> Floats:
    """[j, ·] MW of every slot's jobs; `rank` has a value an hour, or an interval."""
    return np.array([jobs_mw(world, jobs, rank) for jobs in world.jobs]).reshape(-1, len(rank))


def jobs_mw(world: World, jobs: tuple[Training, ...], rank: Floats) -> Floats:
    """MW of jobs that follow one another, each where the rank is lowest in its time; a value an hour, or an interval."""
    mw, slots = np.zeros(len(rank)), len(rank) // len(world.mcpc)
    of_a_value = world.steps // slots  # intervals
    for job in jobs:
        rows = np.arange(-(-job.release // of_a_value), job.deadline // of_a_value)
        order = rows[np.argsort(rank[rows], kind="stable")]
        left = np.maximum(job.work_mwh * slots - job.most_mw * np.arange(len(order)), 0.0)
        mw[order] = np.minimum(left, job.most_mw)
    return mw


def is_plain_peak(highest_share: Floats, local_hour: Ints, months: Bools) -> Bools:
    """The field's rule: the afternoon of a day whose forecast comes within two hundredths of the month's highest demand."""
    return months & (local_hour >= 15) & (local_hour <= 18) & (highest_share > -0.02)
