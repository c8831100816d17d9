"""The best course of a load that can't come or go at once: what to sell the day before, and when to come off for a peak.

Miners are one load here, its MW ranked by worth, so that its level says who runs; dynamic programmes over levels find the course.
They know what `World` says was known; prices to come are those of the day ahead.
"""

import math

import numpy as np

from hcp_pipelines.economics.programmes import SHORTFALL_USD_PER_MWH
from hcp_pipelines.optimizer.backtest.mixed import limits, ramps
from hcp_pipelines.optimizer.backtest.mixed.limits import ECO_WORTH, FULL_OVER_ECO_WORTH
from hcp_pipelines.optimizer.backtest.mixed.site import MixedSite
from hcp_pipelines.optimizer.backtest.mixed.world import World
from hcp_pipelines.optimizer.backtest.series import Floats, Ints

LEAST_LEVELS, MOST_LEVELS = 31, 121
SEEN = 1e-4  # chances below add up to dollars a day
NEVER_USD = 1e12


def sold_mw(world: World, *, has_eco: bool) -> Floats:
    """[h] MW to sell: what capacity prices pay over what staying on forgoes, in neighbouring hours too where ramps make it.

    Day by day, as of the day before, after what was sold of the hour before it.
    """
    site, levels = world.site, _levels(world.site)
    lost = _forgone(world, has_eco=has_eco)
    gain = world.mcpc[:, None] * levels - lost @ limits.stack(site, levels, has_eco=has_eco).T
    up, down = site.ramp_up_mw_per_h, site.ramp_down_mw_per_h
    rising, falling = (_beside(site, levels, world.steps, ramp, has_eco=has_eco) for ramp in (up, down))
    higher = levels - levels[:, None]  # [from, to]
    never = np.where((higher > up) | (-higher > down), NEVER_USD, 0.0)
    course = np.zeros(len(gain), dtype=np.int64)
    _, starts = np.unique(world.day, return_index=True)
    for begin, end in zip(starts.tolist(), [*starts[1:].tolist(), len(gain)], strict=True):
        before = lost[np.maximum(np.arange(begin, end) - 1, 0)]
        turn = never + np.einsum("abp,hp->hab", rising, before) + np.einsum("bap,hp->hab", falling, lost[begin:end])
        if not begin:
            turn[0] = 0.0  # what comes before the first hour is free
        course[begin:end] = _followed(gain[begin:end], turn, int(course[begin - 1]))
    return levels[course]


def _followed(gain: Floats, turn: Floats, at: int) -> Ints:
    """[h] the levels of a day that gain most after one; `turn`: [h, from, to] what the way there costs."""
    follow, value = np.zeros(gain.shape, dtype=np.int64), np.zeros(gain.shape[1])
    for h in range(len(gain) - 1, -1, -1):
        ways = gain[h] + value - turn[h]
        follow[h], value = ways.argmax(axis=1), ways.max(axis=1)
    course = np.zeros(len(gain), dtype=np.int64)
    for h in range(len(gain)):
        course[h] = at = int(follow[h, at])
    return course


def _beside(site: MixedSite, levels: Floats, steps: int, ramp_mw_per_h: float, *, has_eco: bool) -> Floats:
    """[low, high, part] mean MW that an hour at a low level has more on the way to or from a high one in the hour beside it."""
    low, high = np.meshgrid(levels, levels, indexing="ij")
    ways = [np.maximum(high - low - k * ramp_mw_per_h / steps, 0.0) for k in range(1, steps + 1)]
    on_the_way = low + np.sum(ways, axis=0) / steps
    both = (limits.stack(site, mw.ravel(), has_eco=has_eco) for mw in (on_the_way, low))
    more: Floats = np.subtract(*both).reshape(len(levels), len(levels), -1)
    return more


def _forgone(world: World, *, has_eco: bool) -> Floats:
    """[h, part] $/MWh that staying on forgoes, the parts by merit.

    Of a peak all that its chance is worth: who is not bound may still see on the day whether it comes.
    """
    full, eco = world.forgone_without_peaks
    parts = np.stack([(eco, full)[k][g] for _, k, g in limits.by_merit(world.site, has_eco=has_eco)], axis=1)
    return parts + (world.p_peak_ahead * world.site.peaks.usd_per_mw)[:, None]


def cap_mw(world: World, sold: Floats, ai_mw: Floats, *, has_eco: bool) -> Floats:
    """[t] of miners, to be off for a peak in time: as much as its chance as of then pays for the sleep that this takes.

    Args:
        world: with chances by how long before.
        sold: [t] MW.
        ai_mw: [t] that is expected of AI work; what of the ramps it takes is not the miners'.
        has_eco: whether miners have their eco profile.
    """
    levels, chance, turns = _levels(world.site), ramps.chances_seen(world), np.diff(ai_mw, prepend=ai_mw[0])
    up = np.maximum(world.site.ramp_up_mw_per_h * world.step_h - turns, 0.0)
    down = np.maximum(world.site.ramp_down_mw_per_h * world.step_h + turns, 0.0)
    low, high = np.full(len(world), levels[-1]), np.full(len(world), levels[-1])
    rows = np.flatnonzero(np.repeat((chance > SEEN).any(axis=0), world.steps))
    if len(rows):
        low[rows], high[rows] = _targets(world, rows, chance, (sold, up, down), has_eco=has_eco)
    course, at = np.zeros(len(world)), float(levels[-1])
    for t in range(len(course)):
        wanted = min(max(at, low[t]), high[t])
        course[t] = at = min(max(wanted, at - down[t]), at + up[t])
    return course


def _targets(
    world: World, rows: Ints, chance: Floats, bounds: tuple[Floats, Floats, Floats], *, has_eco: bool
) -> tuple[Floats, Floats]:
    """(MW to come up to, MW to come down to) of some intervals, each knowing what is known as it begins.

    Dollars of being at a level, from the last hour seen backwards; in between no change is worth its wake.
    """
    levels, case, (sold, up, down) = _levels(world.site), world.cases[0], bounds
    earned = _worth(world, rows, has_eco=has_eco) @ limits.stack(world.site, levels, has_eco=has_eco).T
    wake = _wake(world, rows)[:, None]
    newest, hour = case.known.price_usd_per_mwh[rows], rows // world.steps
    value = np.zeros_like(earned)
    for k in range((len(chance) - 1) * world.steps - 1, -1, -1):
        at = np.minimum(rows + k, len(world) - 1)
        told = (case.day_ahead[at], newest) if k else (newest, case.day_ahead[at])
        price = np.nan_to_num(np.where(np.isfinite(told[0]), *told))
        charge = chance[(rows + k) // world.steps - hour, hour] * world.site.peaks.usd_per_mw
        short = SHORTFALL_USD_PER_MWH * np.maximum(sold[at][:, None] - levels, 0.0)
        value += world.step_h * (earned - (price + charge)[:, None] * levels - short)
        low, high = levels[(value - wake * levels).argmax(axis=1)], levels[value.argmax(axis=1)]
        if k:
            value = _before(value, levels, wake, (low, high), (up[at], down[at]))
    return low, high


def _before(
    value: Floats, levels: Floats, wake: Floats, targets: tuple[Floats, Floats], ramp: tuple[Floats, Floats]
) -> Floats:
    """[row, level] dollars of a level one interval before those of `value`, from which the targets are gone for as ramps let."""
    low, high, up, down = (each[:, None] for each in (*targets, *ramp))
    reached = np.clip(np.clip(levels, low, high), levels - down, levels + up)
    place = np.clip(reached / levels[1], 0.0, len(levels) - 1.0)
    below = np.minimum(place.astype(np.int64), len(levels) - 2)
    part = place - below
    there = np.take_along_axis(value, below, axis=1) * (1 - part) + np.take_along_axis(value, below + 1, axis=1) * part
    found: Floats = there - wake * np.maximum(reached - levels, 0.0)
    return found


def _worth(world: World, rows: Ints, *, has_eco: bool) -> Floats:
    """[row, part] $/MWh of the parts by merit."""
    shares = (ECO_WORTH, FULL_OVER_ECO_WORTH) if has_eco else (1.0, 1.0)
    order = limits.by_merit(world.site, has_eco=has_eco)
    return np.stack([shares[k] * world.cases[g].known.revenue_usd_per_mwh[rows] for _, k, g in order], axis=1)


def _wake(world: World, rows: Ints) -> Floats:
    """[row] dollars of a MW's wake, of all miners."""
    mw = [group.mw for group in world.site.groups]
    mean: Floats = np.average([case.known.wake_usd[rows] for case in world.cases], axis=0, weights=mw)
    return mean


def _levels(site: MixedSite) -> Floats:
    """MW from nothing to all miners, so near to one another that a ramp passes one within an hour."""
    mw = sum(group.mw for group in site.groups)
    count = math.ceil(mw / min(site.ramp_up_mw_per_h, site.ramp_down_mw_per_h)) + 1
    return np.linspace(0.0, mw, min(max(count, LEAST_LEVELS), MOST_LEVELS))
