"""Perfect foresight of a mixed facility: switching, eco, reserves and peaks together for every group, and AI work.

Where the facility's limits hold all load at once nothing couples the groups, and a reserve needs load of the same megawatt. So a
dynamic programme by megawatt has no duality gap: by hour what is sold (nothing, the eco share, all), by interval the rest.
A test holds it to the linear programme (`optimizer.programme`), in which groups may stand in for one another within an hour.
Where limits or ramps bind `together.py` solves that programme.
"""

import numpy as np

from hcp_pipelines.optimizer.backtest.case import Case
from hcp_pipelines.optimizer.backtest.mixed import limits, ramps
from hcp_pipelines.optimizer.backtest.mixed.rules import training_mw
from hcp_pipelines.optimizer.backtest.mixed.site import ECO_HASH, ECO_POWER
from hcp_pipelines.optimizer.backtest.mixed.together import foresee_together
from hcp_pipelines.optimizer.backtest.mixed.world import Actions, World
from hcp_pipelines.optimizer.backtest.series import Floats

SHARES = (0.0, ECO_POWER, 1.0)


def foresee(world: World) -> Actions:
    """What earns most, knowing everything. Everything that fits starts on, and its end state is free."""
    if limits.binds(world.site) or ramps.bind(world.site, world.step_h):
        return foresee_together(world)
    charge = np.repeat(world.charge, world.steps)
    cost = world.settled_price + charge
    parts = [_miners(world, case, cost) for case in world.cases]
    inference = np.where(world.inference.usd_per_mwh[:, None] > cost, world.inference.mw, 0.0)
    power, sold = (np.stack(part) for part in zip(*parts, strict=True))
    full, eco = (np.where(power == level, 1.0, 0.0) for level in (1.0, ECO_POWER))
    return Actions(full, eco, sold, inference, training_mw(world, cost))


def _miners(world: World, case: Case, cost: Floats) -> tuple[Floats, Floats]:
    """Shares of full power by interval, and of what is sold by hour, of one group."""
    revenue, n = case.settled.revenue_usd_per_mwh, len(world.mcpc)
    full = ((revenue - cost) * world.step_h).reshape(n, -1)
    eco = ((ECO_HASH * revenue - ECO_POWER * cost) * world.step_h).reshape(n, -1)
    free, wake = np.maximum(full, eco), case.settled.wake_usd.reshape(n, -1)
    sold_eco, sold_full = free.sum(axis=1) + ECO_POWER * world.mcpc, full.sum(axis=1) + world.mcpc
    ahead = _value_of_on(free, np.maximum(sold_eco, sold_full), wake)
    return _followed(full, eco, (sold_eco, sold_full), wake, ahead)


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
