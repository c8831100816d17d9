"""A facility's ramps: its load changes by no more than so many MW from one interval to the next, up and down apart.

AI work changes as it is asked for; miners have what is left of the ramp, those first that reserve is sold of, then by worth. What
comes before the first interval is free. Limits of site and feeders are in `limits`, the oracle's ramps in `together`.
"""

import math

import numpy as np

from hcp_pipelines.optimizer.backtest.mixed import limits
from hcp_pipelines.optimizer.backtest.mixed.site import ECO_POWER, MixedSite
from hcp_pipelines.optimizer.backtest.mixed.world import World
from hcp_pipelines.optimizer.backtest.series import Floats

KNOWN_AHEAD_H = 10  # until the end of a day whose reserves are sold, when the next day's are told (13:30)


def bind(site: MixedSite, step_h: float) -> bool:
    """Whether not all load can come or go within one interval."""
    miners = sum(group.mw for group in site.groups)
    return min(site.ramp_up_mw_per_h, site.ramp_down_mw_per_h) * step_h < miners + site.most_ai_mw


def prepared(site: MixedSite, sold: Floats, asked_mw: Floats, step_h: float, spare_mw: float = 0.0) -> Floats:
    """[g, t] shares that have to be on for what is sold to be reached in time: of what will be, those that earn most first.

    Args:
        site: with its ramps.
        sold: [g, t] shares of full power.
        asked_mw: [t] of the AI work that is expected; what of the ramp it takes is not the miners'.
        step_h: hours of an interval.
        spare_mw: of AI work that may have been given up and comes back on the way.
    """
    own_mw = site.ramp_up_mw_per_h * step_h - np.maximum(np.diff(asked_mw, prepend=asked_mw[0]), 0.0)
    risen_mw = np.cumsum(np.maximum(own_mw, 0.0))
    mw_of = np.array([[group.mw] for group in site.groups]) * sold
    total_mw, soon_mw = mw_of.sum(axis=0), mw_of.copy()
    needed_mw = total_mw.copy()
    for ahead in range(1, min(round(KNOWN_AHEAD_H / step_h), sold.shape[1] - 1) + 1):
        free_mw = np.maximum(risen_mw[ahead:] - risen_mw[:-ahead] - spare_mw, 0.0)
        needed_mw[:-ahead] = np.maximum(needed_mw[:-ahead], total_mw[ahead:] - free_mw)
        soon_mw[:, :-ahead] = np.maximum(soon_mw[:, :-ahead], mw_of[:, ahead:])
    needed = sold.copy()
    for g in sorted(range(len(site.groups)), key=lambda g: site.groups[g].efficiency_j_per_th):
        taken_mw = np.clip(needed_mw, 0.0, soon_mw[g])
        needed[g] = np.maximum(sold[g], taken_mw / site.groups[g].mw)
        needed_mw = needed_mw - taken_mw
    return needed


def seen_h(site: MixedSite) -> int:
    """How many hours before a peak miners may have to know of it: until all are off, for the hour, and back."""
    mw = sum(group.mw for group in site.groups)
    hours = math.ceil(mw / site.ramp_down_mw_per_h) + math.ceil(mw / site.ramp_up_mw_per_h)
    return min(hours + 1, KNOWN_AHEAD_H)


def chances_seen(world: World) -> Floats:
    """[l, h] the chance of the hour that begins l hours later, as an hour begins; the day before's where none is newer."""
    hours, ahead = len(world.mcpc), seen_h(world.site)
    seen = np.zeros((ahead + 1, hours))
    seen[0] = world.p_peak
    for later in range(1, min(ahead, hours - 1) + 1):
        known = world.p_peak_soon[later - 1] if later <= len(world.p_peak_soon) else world.p_peak_ahead
        seen[later, :-later] = known[later:]
    return seen


def with_needed(full: Floats, eco: Floats, needed: Floats, *, has_eco: bool) -> tuple[Floats, Floats]:
    """([g, t] shares in full, in eco) with at least the power that is needed."""
    lacks = needed > full + ECO_POWER * eco + 1e-9
    in_full = np.clip((needed - ECO_POWER) / (1 - ECO_POWER), 0.0, 1.0) if has_eco else needed
    in_eco = np.where(needed < ECO_POWER, needed / ECO_POWER, 1.0 - in_full) if has_eco else np.zeros_like(needed)
    return np.where(lacks, np.maximum(in_full, full), full), np.where(lacks, in_eco, eco)


def held(
    site: MixedSite, step_h: float, wanted: tuple[Floats, Floats], needed: Floats, ai_mw: Floats, *, has_eco: bool
) -> tuple[Floats, Floats]:
    """([g, t] shares in full, in eco) that come as near to what is wanted as the ramps let them, interval by interval.

    Args:
        site: with its ramps.
        step_h: hours of an interval.
        wanted: shares in full and in eco, within the limits.
        needed: [g, t] shares of full power that go first.
        ai_mw: [t] of AI work.
        has_eco: whether miners have their eco profile.
    """
    parts = limits.parts_of(site, *wanted, has_eco=has_eco)
    first = limits.owed_of(site, parts, needed)
    order = [(k, g) for _, k, g in limits.by_merit(site, has_eco=has_eco)]
    ranked, ranked_first = (np.stack([each[k, g] for k, g in order], axis=1) for each in (parts, first))
    up, down = site.ramp_up_mw_per_h * step_h, site.ramp_down_mw_per_h * step_h
    turns, done = np.diff(ai_mw, prepend=ai_mw[0]), ranked.copy()
    for t in range(1, len(done)):
        done[t] = _step(done[t - 1], ranked[t], ranked_first[t], (up - turns[t], down + turns[t]))
    out = np.zeros_like(parts)
    for n, (k, g) in enumerate(order):
        out[k, g] = done[:, n]
    return limits.shares_of(site, out, has_eco=has_eco)


def _step(now: Floats, wanted: Floats, first: Floats, ramp: tuple[float, float]) -> Floats:
    """MW by part, best first, after an interval in which all together may rise and fall by so much."""
    net = float(wanted.sum() - now.sum())
    if -ramp[1] <= net <= ramp[0]:
        return wanted
    rises, falls = np.maximum(wanted - now, 0.0), np.maximum(now - wanted, 0.0)
    urgent = np.clip(first - now, 0.0, rises)
    if net < -ramp[1]:
        return now + urgent - _within(falls[::-1], ramp[1] + float(urgent.sum()))[::-1]
    taken = _within(np.r_[urgent, rises - urgent], ramp[0] + float(falls.sum()))
    return now + taken[: len(rises)] + taken[len(rises) :] - falls


def _within(mw: Floats, most: float) -> Floats:
    """As much of each as all before it leave of a sum."""
    return np.clip(most - (np.cumsum(mw) - mw), 0.0, mw)
