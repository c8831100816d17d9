"""Perfect foresight of a mixed facility: switching, eco, reserves and peaks together for every group, and AI work.

Where the facility's limits hold all load at once nothing couples the groups, and a reserve needs load of the same megawatt. So a
dynamic programme by megawatt has no duality gap: by hour what is sold (nothing, the eco share, all), by interval the rest.
A test holds it to the linear programme (`optimizer.programme`), in which groups may stand in for one another within an hour.
Where limits or ramps bind `together.py` solves that programme. Which calls of a demand response programme are worth obeying is
looked at month by month: what one brings hangs on the others of its month alone.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from hcp_pipelines.optimizer.backtest.mixed import limits, ramps
from hcp_pipelines.optimizer.backtest.mixed.ledger import settle
from hcp_pipelines.optimizer.backtest.mixed.response.calls import Call
from hcp_pipelines.optimizer.backtest.mixed.response.choosing import Choice, worth_most
from hcp_pipelines.optimizer.backtest.mixed.response.obeying import ordered
from hcp_pipelines.optimizer.backtest.mixed.rules import NEVER_USD_PER_MWH, training_mw
from hcp_pipelines.optimizer.backtest.mixed.site import ECO_HASH, ECO_POWER
from hcp_pipelines.optimizer.backtest.mixed.together import foresee_together
from hcp_pipelines.optimizer.backtest.mixed.world import Actions, World
from hcp_pipelines.optimizer.backtest.series import Floats

SHARES = (0.0, ECO_POWER, 1.0)
NEAR_H = 48  # before and after calls: by then what was chosen there is forgotten


def foresee(world: World) -> Actions:
    """What earns most, knowing everything. Everything that fits starts on, and its end state is free."""
    if limits.binds(world.site) or ramps.bind(world.site, world.step_h):
        return foresee_together(world)
    charge = np.repeat(world.charge, world.steps)
    cost = world.settled_price + charge
    parts = [_miners(world, g, cost) for g in range(len(world.cases))]
    inference = np.where(world.inference.usd_per_mwh[:, None] > cost, world.inference.mw, 0.0)
    power, sold = (np.stack(part) for part in zip(*parts, strict=True))
    if world.response is not None:
        power, sold = _with_calls(world, cost, power, sold)
    return _actions(power, sold, inference, training_mw(world, cost))


def _actions(power: Floats, sold: Floats, inference: Floats, training: Floats) -> Actions:
    full, eco = (np.where(power == level, 1.0, 0.0) for level in (1.0, ECO_POWER))
    return Actions(full, eco, sold, inference, training)


def _miners(
    world: World, g: int, cost: Floats, obeyed: Sequence[Call] = (), hours: slice = slice(None)
) -> tuple[Floats, Floats]:
    """Shares of full power by interval, and of what is sold by hour, of one group; it starts on, and what is obeyed is met."""
    case, n = world.cases[g], len(world.mcpc)
    revenue = case.settled.revenue_usd_per_mwh
    asked = NEVER_USD_PER_MWH * ordered(len(world), obeyed)
    full = ((revenue - cost + asked) * world.step_h).reshape(n, -1)[hours]
    eco = ((ECO_HASH * revenue - ECO_POWER * cost + np.minimum(asked, 0.0)) * world.step_h).reshape(n, -1)[hours]
    free, wake = np.maximum(full, eco), case.settled.wake_usd.reshape(n, -1)[hours]
    capacity = np.where(world.is_sellable[g], world.mcpc, -NEVER_USD_PER_MWH)[hours]
    sold_eco, sold_full = free.sum(axis=1) + ECO_POWER * capacity, full.sum(axis=1) + capacity
    ahead = _value_of_on(free, np.maximum(sold_eco, sold_full), wake)
    return _followed(full, eco, (sold_eco, sold_full), wake, ahead)


def _with_calls(world: World, cost: Floats, power: Floats, sold: Floats) -> tuple[Floats, Floats]:
    """([g, t] power, [g, h] sold) of what earns most with the programme, from what does without its calls."""
    assert world.response is not None
    groups = np.flatnonzero(world.response.is_enrolled).tolist()
    chosen: list[Call] = []
    for calls in world.response.by_month.values():
        chosen += _worth_most(world, cost, groups, (power, sold), calls)
    return _planned(world, cost, groups, (power, sold), chosen, slice(0, len(world.mcpc)))


def _worth_most(
    world: World, cost: Floats, groups: Sequence[int], plan: tuple[Floats, Floats], calls: Sequence[Call]
) -> Choice:
    """Of a month's calls those that are worth most, from a plan without any."""
    near = _near(world, calls)

    @cache
    def usd(choice: Choice) -> float:
        return _usd(world, *_planned(world, cost, groups, plan, choice, near))

    return worth_most(calls, usd)


def _near(world: World, calls: Sequence[Call]) -> slice:
    """The hours that a choice between these calls changes: those around them until it no longer matters who was on."""
    first, last = calls[0].hold // world.steps, calls[-1].end // world.steps
    return slice(max(0, first - NEAR_H), min(len(world.mcpc), last + NEAR_H))


def _planned(
    world: World, cost: Floats, groups: Sequence[int], plan: tuple[Floats, Floats], obeyed: Sequence[Call], hours: slice
) -> tuple[Floats, Floats]:
    """A plan in which the enrolled groups obey these calls in these hours."""
    power, sold = (part.copy() for part in plan)
    for g in groups:
        power[g, hours.start * world.steps : hours.stop * world.steps], sold[g, hours] = _miners(
            world, g, cost, obeyed, hours
        )
    return power, sold


def _usd(world: World, power: Floats, sold: Floats) -> float:
    """Dollars of a plan without AI work, which no call moves."""
    nothing = np.zeros((len(world.jobs), len(world)))
    return settle(world, _actions(power, sold, np.zeros_like(world.inference.mw), nothing)).total_usd


def _value_of_on(free: Floats, sold: Floats, wake: Floats) -> list[float]:
    """D by hour, the value of being on rather than off before it, in dollars per MW; one more at the end."""
    values = [0.0] * (len(sold) + 1)
    for h in range(len(sold) - 1, -1, -1):
        asleep, awake = _free_hour(free[h].tolist(), wake[h].tolist(), values[h + 1])
        kept = float(sold[h]) + values[h + 1]
        values[h] = max(awake, kept) - max(asleep, kept - float(wake[h, 0]))
    return values


def _free_hour(gains: list[float], wakes: list[float], ahead: float) -> tuple[float, float]:
    """(value from asleep, value from awake) of an hour in which nothing is sold, over being asleep at its end."""
    asleep, awake = 0.0, ahead
    for gain, wake in zip(reversed(gains), reversed(wakes), strict=True):
        asleep, awake = max(asleep, gain + awake - wake), max(asleep, gain + awake)
    return asleep, awake


def _followed(
    full: Floats, eco: Floats, sold: tuple[Floats, Floats], wake: Floats, ahead: list[float]
) -> tuple[Floats, Floats]:
    """The best actions, hour by hour from the start."""
    hours, steps = full.shape
    shares, free = np.zeros(hours), np.maximum(full, eco)
    is_on, power = True, np.zeros((hours, steps))
    running = np.where(full >= eco, 1.0, ECO_POWER)
    for h in range(hours):
        kept = max(float(part[h]) for part in sold) + ahead[h + 1] - (0.0 if is_on else float(wake[h, 0]))
        asleep, awake = _free_hour(free[h].tolist(), wake[h].tolist(), ahead[h + 1])
        if kept >= (awake if is_on else asleep):
            shares[h] = SHARES[2] if sold[1][h] >= sold[0][h] else SHARES[1]
            power[h], is_on = (1.0 if shares[h] == 1.0 else running[h]), True
            continue
        for k in range(steps):
            rest = _free_hour(free[h, k + 1 :].tolist(), wake[h, k + 1 :].tolist(), ahead[h + 1])
            stays = float(free[h, k]) + rest[1] - (0.0 if is_on else float(wake[h, k]))
            is_on = stays > rest[0]
            power[h, k] = running[h, k] if is_on else 0.0
    return power.reshape(-1), shares
