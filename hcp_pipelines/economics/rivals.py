"""What else the power could earn: every use against the other uses of its resource, sleep, and the rest of its site.

Numpy over all rows of a site at once: 300,000 devices are ranked in tens of milliseconds. What moves between uses is site
power, not silicon (FACTS A), so where a site can't feed all who want to run, they are taken by $/MWh net of the switch.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ROUNDING = 1e-9  # of a site's limit: less room than this is none
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SiteUses:
    """A row per resource and use of one site. `value` is net profit, `switch` the cost of one switch into the use, $/MWh.

    `resource` has equal numbers for equal resources; `resting` is what a MWh earns that nobody takes, and `limit_mw` what may
    run, infinite where power is not scarce.
    """

    resource: Ints
    value: Floats
    switch: Floats
    mw: Floats
    is_present: Bools
    resting: float = 0.0
    limit_mw: float = np.inf


@dataclass(frozen=True, slots=True)
class Ranking:
    """Of each row: what the power would earn otherwise ($/MWh), and whether it is to run, or to stay as it is."""

    next_best: Floats
    is_allocated: Bools
    is_held: Bools


@dataclass(frozen=True, slots=True)
class _Resources:
    """Of each row, about its resource: what it earns now, its best use, gross; and the best other one, net of the switch."""

    is_running: Bools
    now: Floats
    best: Floats
    other: Floats
    is_winner: Bools


def rank(uses: SiteUses) -> Ranking:
    """The ranking of a site's rows.

    *allocated* — the best use of its resource net of the switch, better than sleep and than all who would take its place.
    *held* — not so, but the switch costs more than it brings: a present use stays, an absent one waits.
    """
    value, asleep, is_absent = uses.value, uses.resting, ~uses.is_present
    net = value - uses.switch * is_absent
    own = _by_resource(uses, net)
    after_sleep = asleep - uses.switch * own.is_running  # what goes to sleep pays for the switch when it comes back
    wants = own.is_winner & np.where(own.is_running, net >= after_sleep, net > asleep)
    rival, fits = _others(uses, net, wants)
    runs = wants & fits
    stays = runs & uses.is_present & (value < np.maximum(own.best, asleep))
    kept = np.maximum(own.now, asleep)  # what the resource earns without any switch
    waits = is_absent & ~runs & (value > kept) & (np.maximum(own.other, net) <= kept) & (value >= rival)
    next_best = np.maximum(np.maximum(own.other, asleep), rival)
    return Ranking(next_best, runs & ~stays, stays | waits)


def _by_resource(uses: SiteUses, net: Floats) -> _Resources:
    """Within each resource. Most have one use, and what lies together is not sorted again."""
    rows = len(net)
    found = _Resources(
        uses.is_present.copy(),
        np.where(uses.is_present, uses.value, uses.resting),
        uses.value.copy(),
        np.full(rows, -np.inf),
        np.ones(rows, dtype=bool),
    )
    codes, order = uses.resource, np.arange(rows)
    if not bool(np.all(codes[1:] >= codes[:-1])):
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
    is_same = codes[1:] == codes[:-1]
    shared = order[np.append(is_same, False) | np.append(False, is_same)[:rows]]
    if len(shared):
        _compare(uses, net, shared, found)
    return found


def _compare(uses: SiteUses, net: Floats, at: Ints, found: _Resources) -> None:
    """Fill in the rows `at`, in which those of one resource follow one another."""
    rows, codes = len(at), uses.resource[at]
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    of_row = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, rows)))
    nets, value, is_present = net[at], uses.value[at], uses.is_present[at]
    top = np.maximum.reduceat(nets, starts)[of_row]
    place = np.arange(rows) + np.where(is_present, 0, rows)  # of equals the present one wins, else the first
    winners = np.minimum.reduceat(np.where(nets == top, place, 2 * rows), starts) % rows
    is_winner = np.zeros(rows, dtype=bool)
    is_winner[winners] = True
    top[winners] = np.maximum.reduceat(np.where(is_winner, -np.inf, nets), starts)
    running = np.maximum.reduceat(np.where(is_present, value, -np.inf), starts)[of_row]
    found.is_running[at] = running > -np.inf
    found.now[at] = np.where(found.is_running[at], running, uses.resting)
    found.best[at] = np.maximum.reduceat(value, starts)[of_row]
    found.other[at], found.is_winner[at] = top, is_winner


def _others(uses: SiteUses, net: Floats, wants: Bools) -> tuple[Floats, Bools]:
    """$/MWh that somebody else on the site would pay for each row's power (minus infinity where there is enough), and who fits.

    Those who want to run are taken by `net`, most first, until the limit; the last one may fit in part. For who fits, the
    rival is the best who does not; for all others the last who does.
    """
    rows = len(net)
    bidders = np.flatnonzero(wants)
    if not uses.mw[bidders].sum() > uses.limit_mw * (1 + ROUNDING):
        return np.full(rows, -np.inf), np.ones(rows, dtype=bool)
    ordered = bidders[np.argsort(-net[bidders], kind="stable")]
    before_mw = np.cumsum(uses.mw[ordered]) - uses.mw[ordered]
    fitting = int(np.searchsorted(before_mw, uses.limit_mw * (1 - ROUNDING), side="left"))
    inside, outside = ordered[:fitting], ordered[fitting:]
    fits = np.zeros(rows, dtype=bool)
    fits[inside] = True
    rival = np.full(rows, net[ordered[max(fitting - 1, 0)]])
    rival[inside] = net[outside[0]] if len(outside) else -np.inf
    return rival, fits
