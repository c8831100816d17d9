"""A facility's programme in HiGHS: one solver kept alive and changed in place, so that a solve starts from the last basis.

Presolve is off and the simplex variant is HiGHS' choice: warm, a solve takes milliseconds, fresh tens of them (OPTIMIZER §2).
"""

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.optimizer.programme.layout import Layout
from hcp_pipelines.optimizer.programme.numbers import Numbers, numbers_of, power_cost
from hcp_pipelines.optimizer.programme.plan import Plan, duality_gap, plan_of
from hcp_pipelines.optimizer.programme.refusals import refuse
from hcp_pipelines.optimizer.programme.solver import new_solver, passed, run
from hcp_pipelines.optimizer.programme.spec import Floats, Horizon, SiteSpec, Start


class SiteProgramme:
    """One facility over intervals of given lengths."""

    def __init__(self, spec: SiteSpec, hours: Floats, time_limit_s: float = 60.0) -> None:
        self.layout = Layout(spec, np.asarray(hours, dtype=float))
        self._highs = new_solver(time_limit_s)
        self._is_loaded = False

    def solve(self, horizon: Horizon, start: Start) -> Plan:
        """The plan of most dollars.

        Raises:
            ConfigError: a number of the horizon is missing or none.
            InfeasibleError: a limit can't be held; the message names it.
            SolverError: HiGHS gave up.
        """
        refuse(self.layout.spec, horizon, start)
        if len(horizon) != len(self.layout.hours):
            raise ConfigError(f"a horizon of {len(horizon)} intervals, the programme is of {len(self.layout.hours)}")
        numbers = numbers_of(self.layout, horizon, start)
        self._take(numbers)
        return self._run(horizon, numbers)

    def first_stage(self, price_usd_per_mwh: float, horizon: Horizon) -> Floats:
        """[p] devices by group and mode in the first interval at another price of it; the horizon was solved before.

        Raises:
            SolverError: HiGHS gave up.
        """
        column = int(self.layout.load[0])
        hours, pue = self.layout.hours[0], horizon.pue[0]
        self._highs.changeColCost(column, float(hours * pue * (price_usd_per_mwh + horizon.adder_usd_per_mwh[0])))
        run(self._highs)
        values: Floats = np.asarray(self._highs.getSolution().col_value)[self.layout.devices[:, 0]]
        self._highs.changeColCost(column, float(power_cost(self.layout, horizon)[0]))
        devices: Floats = np.maximum(values, 0.0)
        return devices

    def start_from(self, awake: Floats) -> None:
        """Change what is awake before the first interval, of the horizon that was solved last."""
        rows = self.layout.turns[:, 0].astype(np.int32)
        self._highs.changeRowsBounds(len(rows), rows, awake, awake)

    def _take(self, numbers: Numbers) -> None:
        if not self._is_loaded:
            self._load(numbers)
            self._is_loaded = True
            return
        columns, rows = _all(self.layout.columns), _all(self.layout.rows)
        self._highs.changeColsCost(len(columns), columns, numbers.cost)
        self._highs.changeColsBounds(len(columns), columns, np.zeros(len(columns)), numbers.column_upper)
        self._highs.changeRowsBounds(len(rows), rows, numbers.row_lower, numbers.row_upper)

    def _load(self, numbers: Numbers) -> None:
        matrix = self.layout.matrix().by_row(self.layout.rows)
        passed(self._highs, matrix, numbers, self.layout.gangs.ravel())

    def _run(self, horizon: Horizon, numbers: Numbers) -> Plan:
        run(self._highs)
        solution = self._highs.getSolution()
        gap = float(self._highs.getInfo().mip_gap) if self.layout.gangs.size else duality_gap(numbers, solution)
        return plan_of(self.layout, horizon, numbers.cost, solution, gap)


def _all(count: int) -> npt.NDArray[np.int32]:
    return np.arange(count, dtype=np.int32)
