"""Reserves are sold before prices are known: one programme over several futures that share what is sold, and nothing else.

Each future is the facility's programme at its own prices (`layout.py`, all limits of it), weighted by its chance; what is sold is
one column for all of them. So a reserve is charged what staying on forgoes on average, not what it forgoes at the average price.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.optimizer.programme.layout import Ints, Layout
from hcp_pipelines.optimizer.programme.numbers import Numbers, numbers_of
from hcp_pipelines.optimizer.programme.refusals import refuse
from hcp_pipelines.optimizer.programme.solver import new_solver, passed, run
from hcp_pipelines.optimizer.programme.spec import Floats, Horizon, SiteSpec, Start

LESS = 1e-3  # of what is sold: what its last megawatt costs is asked a little below it
CRUMB_MW = 1e-6


@dataclass(frozen=True)
class Future:
    """The hours ahead as they may come, and how likely."""

    horizon: Horizon
    weight: float


@dataclass(frozen=True)
class Sale:
    """What is worth selling. By hour: `cost_usd` is what its load forgoes for it on average, `least` what its last MW forgoes."""

    reserve_mw: Floats  # [s, h]
    least_usd_per_mw_h: Floats  # [h] 0 where nothing is sold
    cost_usd: Floats  # [h]
    load_mw: Floats  # [h] on average, with what is sold


def best_sale(spec: SiteSpec, futures: Sequence[Future], start: Start, time_limit_s: float = 60.0) -> Sale:
    """What of each reserve to sell by hour, as one decision for all futures; capacity prices are those of the first one.

    Raises:
        ConfigError: weights that don't add up to one, futures of other hours; or as `SiteProgramme.solve`.
        InfeasibleError, SolverError: as `SiteProgramme.solve`.
    """
    _refuse(futures)
    for future in futures:
        refuse(spec, future.horizon, start)
    shared = _Shared(spec, futures, start, time_limit_s)
    free = shared.solve(0.0, 0.0)
    sold = shared.solve(0.0, np.inf)
    reserve_mw = np.where(sold.reserve_mw > CRUMB_MW, sold.reserve_mw, 0.0)
    held = shared.solve(reserve_mw * (1 - LESS), reserve_mw * (1 - LESS))
    least = np.where(reserve_mw.sum(axis=0) > 0, held.on_usd_per_mw_h, 0.0)
    return Sale(reserve_mw, least, sold.cost_usd - free.cost_usd, sold.load_mw)


def _refuse(futures: Sequence[Future]) -> None:
    total = sum(future.weight for future in futures)
    if not futures or abs(total - 1) > 1e-9:
        raise ConfigError(f"the chances of {len(futures)} futures add up to {total:g}: they are 1 together")
    hours = futures[0].horizon.hours
    if any(not np.array_equal(future.horizon.hours, hours) for future in futures):
        raise ConfigError("the futures are of different intervals: they share what is sold in each hour")


@dataclass(frozen=True)
class _Solved:
    reserve_mw: Floats
    cost_usd: Floats  # [h] weighted, reserves left out
    on_usd_per_mw_h: Floats  # [h] weighted: what one more MW that has to be on costs
    load_mw: Floats


class _Shared:
    """The futures' programmes side by side: columns and rows of each behind those of the one before it, the first one's sales."""

    def __init__(self, spec: SiteSpec, futures: Sequence[Future], start: Start, time_limit_s: float) -> None:
        self._at = at = Layout(spec, futures[0].horizon.hours)
        self._futures = futures
        parts = [_weighted(at, future, start, is_first=n == 0) for n, future in enumerate(futures)]
        self._numbers = Numbers(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in Numbers.__dataclass_fields__)
        )
        self._highs = new_solver(time_limit_s)
        passed(self._highs, self._side_by_side(), self._numbers)

    def solve(self, least_mw: float | Floats, most_mw: float | Floats) -> _Solved:
        """The best of all futures with reserves between two bounds."""
        columns = self._at.reserve.ravel().astype(np.int32)
        bounds = (np.broadcast_to(b, self._at.reserve.shape).ravel().astype(float) for b in (least_mw, most_mw))
        self._highs.changeColsBounds(len(columns), columns, *bounds)
        run(self._highs)
        solution = self._highs.getSolution()
        value = np.maximum(np.asarray(solution.col_value), 0.0).reshape(len(self._futures), -1)
        dual = np.asarray(solution.row_dual).reshape(len(self._futures), -1)
        weights = np.array([future.weight for future in self._futures])
        return _Solved(
            value[0][self._at.reserve],
            self._by_hour(_spent(self._at, self._numbers.cost.reshape(value.shape), value)),
            self._by_hour(dual[:, self._at.reserve_on].sum(axis=0)),
            self._by_hour(weights @ value[:, self._at.load] * self._at.hours) / self._by_hour(self._at.hours),
        )

    def _by_hour(self, values: Floats) -> Floats:
        return np.bincount(self._at.hour, weights=values).astype(np.float64)

    def _side_by_side(self) -> tuple[Ints, Ints, Floats]:
        at, n = self._at, len(self._futures)
        starts, columns, values = at.matrix().by_row(at.rows)
        is_sale = np.isin(columns, at.reserve)
        moved = [np.where(is_sale, columns, columns + f * at.columns) for f in range(n)]
        ends = [starts[1:] + f * len(columns) for f in range(n)]
        begins = np.r_[starts[:1], np.concatenate(ends)]
        return begins.astype(np.int32), np.concatenate(moved).astype(np.int32), np.tile(values, n)


def _weighted(at: Layout, future: Future, start: Start, *, is_first: bool) -> Numbers:
    """A future's costs by its chance; what is sold pays once, in the first one."""
    numbers = numbers_of(at, future.horizon, start)
    cost, upper = numbers.cost * future.weight, numbers.column_upper.copy()
    cost[at.reserve] = numbers.cost[at.reserve] if is_first else 0.0
    upper[at.reserve] = upper[at.reserve] if is_first else 0.0
    return Numbers(cost, upper, numbers.row_lower, numbers.row_upper)


def _spent(at: Layout, cost: Floats, value: Floats) -> Floats:
    """[t] dollars over all futures of what has an interval, reserves left out."""
    kinds: list[npt.NDArray[np.int64]] = [at.devices, at.wakes, at.sleeps, at.inference]
    kinds += [column[None] for column in (at.load, at.over, at.short_reserve, at.ai_rise)]
    spent: Floats = sum(((cost[:, k] * value[:, k]).sum(axis=(0, 1)) for k in kinds), np.zeros(len(at.hours)))
    return spent
