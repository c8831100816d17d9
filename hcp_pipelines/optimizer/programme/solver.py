"""HiGHS itself: a quiet solver, a model passed to it, a run that ends well or says why not. What is solved stands elsewhere.

Presolve is off and the simplex variant is HiGHS' choice: warm, a solve takes milliseconds, fresh tens of them (OPTIMIZER §2).
"""

import os
import sys
from functools import cache

import numpy as np
import numpy.typing as npt
from highspy import Highs, HighsLp, HighsModelStatus, HighsStatus, HighsVarType, MatrixFormat

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.optimizer.programme.layout import Ints
from hcp_pipelines.optimizer.programme.numbers import Numbers
from hcp_pipelines.optimizer.programme.spec import Floats, InfeasibleError


class SolverError(ConfigError):
    """HiGHS did not come to an end; the message has its word."""


def new_solver(time_limit_s: float) -> Highs:
    """One that says nothing and uses one thread."""
    _let_it_introduce_itself()
    highs = Highs()
    highs.silent()
    for name, value in (("threads", 1), ("presolve", "off"), ("simplex_strategy", 0), ("time_limit", time_limit_s)):
        highs.setOptionValue(name, value)
    return highs


def passed(
    highs: Highs, matrix: tuple[Ints, Ints, Floats], numbers: Numbers, integers: npt.NDArray[np.int64] | None = None
) -> None:
    """Pass a model by rows (starts, columns, values), its numbers, and which columns are integers.

    Raises:
        SolverError: it is not taken.
    """
    model = HighsLp()
    model.num_col_, model.num_row_ = len(numbers.cost), len(numbers.row_lower)
    model.col_cost_, model.col_lower_ = numbers.cost, np.zeros(len(numbers.cost))
    model.col_upper_, model.row_lower_, model.row_upper_ = numbers.column_upper, numbers.row_lower, numbers.row_upper
    model.a_matrix_.format_ = MatrixFormat.kRowwise
    model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = matrix
    if integers is not None and integers.size:
        kinds = np.zeros(len(numbers.cost), dtype=object)
        kinds[:] = HighsVarType.kContinuous
        kinds[integers] = HighsVarType.kInteger
        model.integrality_ = kinds.tolist()
    if highs.passModel(model) == HighsStatus.kError:
        raise SolverError("HiGHS does not take the programme: a cost or bound of it is no number")


def run(highs: Highs) -> None:
    """Solve what was passed.

    Raises:
        InfeasibleError: no plan holds all limits.
        SolverError: HiGHS gave up.
    """
    highs.run()
    status = highs.getModelStatus()
    if status == HighsModelStatus.kOptimal:
        return
    if status in (HighsModelStatus.kInfeasible, HighsModelStatus.kUnboundedOrInfeasible):
        raise InfeasibleError(
            "no plan holds all limits at once: from what runs now the ramp does not reach the site's or a feeder's limit in "
            "time. Raise the ramp or the limit, or start from less load"
        )
    raise SolverError(f"HiGHS ended with {highs.modelStatusToString(status)!r}; the policy in force stays")


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
