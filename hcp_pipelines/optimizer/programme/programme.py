"""A facility's programme in HiGHS: one solver kept alive and changed in place, so that a solve starts from the last basis.

Presolve is off and the simplex variant is HiGHS' choice: warm, a solve takes milliseconds, fresh tens of them (OPTIMIZER §2).
"""

import os
import sys
from functools import cache

import numpy as np
import numpy.typing as npt
from highspy import Highs, HighsLp, HighsModelStatus, HighsStatus, HighsVarType, MatrixFormat

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.optimizer.programme.layout import Layout
from hcp_pipelines.optimizer.programme.numbers import Numbers, numbers_of, power_cost
from hcp_pipelines.optimizer.programme.plan import Plan, duality_gap, plan_of
from hcp_pipelines.optimizer.programme.refusals import refuse
from hcp_pipelines.optimizer.programme.spec import Floats, Horizon, InfeasibleError, SiteSpec, Start


class SolverError(ConfigError):
    """HiGHS did not come to an end; the message has its word."""


class SiteProgramme:
    """One facility over intervals of given lengths."""

    def __init__(self, spec: SiteSpec, hours: Floats, time_limit_s: float = 60.0) -> None:
        self.layout = Layout(spec, np.asarray(hours, dtype=float))
        _let_it_introduce_itself()
        self._highs = Highs()
        self._highs.silent()
        for name, value in (("threads", 1), ("presolve", "off"), ("simplex_strategy", 0), ("time_limit", time_limit_s)):
            self._highs.setOptionValue(name, value)
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
        self._solve()
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
        starts, columns, values = self.layout.matrix().by_row(self.layout.rows)
        model = HighsLp()
        model.num_col_, model.num_row_ = self.layout.columns, self.layout.rows
        model.col_cost_, model.col_lower_, model.col_upper_ = (
            numbers.cost,
            np.zeros(self.layout.columns),
            numbers.column_upper,
        )
        model.row_lower_, model.row_upper_ = numbers.row_lower, numbers.row_upper
        model.a_matrix_.format_ = MatrixFormat.kRowwise
        model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = starts, columns, values
        if self.layout.gangs.size:
            kinds = np.zeros(self.layout.columns, dtype=object)
            kinds[:] = HighsVarType.kContinuous
            kinds[self.layout.gangs.ravel()] = HighsVarType.kInteger
            model.integrality_ = kinds.tolist()
        if self._highs.passModel(model) == HighsStatus.kError:
            raise SolverError("HiGHS does not take the programme: a cost or bound of it is no number")

    def _run(self, horizon: Horizon, numbers: Numbers) -> Plan:
        self._solve()
        solution = self._highs.getSolution()
        gap = float(self._highs.getInfo().mip_gap) if self.layout.gangs.size else duality_gap(numbers, solution)
        return plan_of(self.layout, horizon, numbers.cost, solution, gap)

    def _solve(self) -> None:
        self._highs.run()
        status = self._highs.getModelStatus()
        if status == HighsModelStatus.kOptimal:
            return
        if status in (HighsModelStatus.kInfeasible, HighsModelStatus.kUnboundedOrInfeasible):
            raise InfeasibleError(
                "no plan holds all limits at once: from what runs now the ramp does not reach the site's or a feeder's limit in "
                "time. Raise the ramp or the limit, or start from less load"
            )
        raise SolverError(f"HiGHS ended with {self._highs.modelStatusToString(status)!r}; the policy in force stays")


@cache
def _let_it_introduce_itself() -> None:
    """HiGHS prints its version when a process makes the first solver, whatever it is told later: not on our output."""
    sys.stdout.flush()
    ours, nobody = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nobody, 1)
        Highs()
    finally:
        os.dup2(ours, 1)
        os.close(ours)
        os.close(nobody)


def _all(count: int) -> npt.NDArray[np.int32]:
    return np.arange(count, dtype=np.int32)
