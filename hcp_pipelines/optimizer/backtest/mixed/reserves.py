"""What a MW that is sold as a reserve forgoes by staying on: the expected price above its worth, as known a day ahead.

E[(p − x)+] in $/MWh for any worth x. A MW is sold where its capacity price is above that, as an offer at that price does
(OPTIMIZER §2). Two estimates, by boosted trees from day-ahead price, capacity prices and x, and their geometric mean:

- the record's: what was forgone in such hours, cut off, since single prices of thousands outweigh a year;
- the market's: E[(p − x)+] = E[p] − E[min(p, x)], with the day-ahead price as E[p]. Below x prices have no tail and are soon
  learnt; the tail above it is in what others paid the day before, spikes that no record has had yet included.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from threadpoolctl import threadpool_limits

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.horizon_features import best_of
from hcp_pipelines.forecasting.hours import Hours
from hcp_pipelines.forecasting.trees import Regressor
from hcp_pipelines.optimizer.backtest.series import Floats, Ints

WORTHS = (25.0, 35.0, 45.0, 60.0, 80.0, 100.0, 130.0, 170.0)
MOST_USD_PER_MWH = (
    100.0  # single prices of thousands outweigh a year: 60 to 100 was best, months of 2024-01..11 left out
)
LEAST_HOURS = 24 * 28


@dataclass(frozen=True)
class ForgoneModel:
    """Predicts what is forgone; `trained_until`: nothing that was known later is in it."""

    recorded: Regressor  # E[(p − x)+], cut off
    below: Regressor  # E[min(p, x)]
    trained_until: datetime

    def predict(self, hours: Hours, day_ahead: Floats, rows: Ints, worth: Floats) -> Floats:
        """$/MWh of the hours in `rows`, each with a worth in $/MWh; `day_ahead` has a price an hour of the whole grid.

        Below the least worth that was learnt, every dollar less forgoes a dollar more. Without a day-ahead price the record
        speaks alone.
        """
        learnt = np.maximum(worth, WORTHS[0])
        matrix = _matrix(hours, day_ahead, rows, learnt).astype(np.float32)
        with threadpool_limits(1):
            recorded = np.maximum(self.recorded.predict(matrix), 0.0)
            market = np.maximum(day_ahead[rows] - self.below.predict(matrix), 0.0)
        both: Floats = np.where(np.isfinite(market), np.sqrt(recorded * market), recorded)
        return both + learnt - worth


def trained(hours: Hours, day_ahead: Floats, real_time: Floats, until: datetime) -> ForgoneModel:
    """Learnt from hours that ended by an instant; `real_time` has a row an hour, a column an interval, NaN where unknown.

    Raises:
        ConfigError: fewer than four weeks have capacity prices, day-ahead and real-time prices.
    """
    there = np.isfinite(best_mcpc(hours)) & np.isfinite(day_ahead) & np.isfinite(real_time).all(axis=1)
    rows = np.flatnonzero(there[: hours.row_at(until)])
    if len(rows) < LEAST_HOURS:
        raise ConfigError(
            f"{len(rows)} hours with capacity prices, day-ahead and real-time prices before {until:%Y-%m-%d}: "
            f"at least {LEAST_HOURS} are needed to learn what a reserve forgoes. Start later, or leave mpc out (--strategy)."
        )
    matrix = np.concatenate([_matrix(hours, day_ahead, rows, np.full(len(rows), worth)) for worth in WORTHS])
    prices = [(real_time[rows], worth) for worth in WORTHS]
    forgone = np.concatenate([np.maximum(price - worth, 0.0).mean(axis=1) for price, worth in prices])
    below = np.concatenate([np.minimum(price, worth).mean(axis=1) for price, worth in prices])
    return ForgoneModel(
        _trees(matrix, np.minimum(forgone, MOST_USD_PER_MWH), [1, 1, 1, -1]), _trees(matrix, below, [1, 0, 0, 1]), until
    )


def _trees(matrix: Floats, target: Floats, monotonic: list[int]) -> Regressor:
    """Trees that rise or fall with the columns of `_matrix` as said."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # takes a second to import

    trees = HistGradientBoostingRegressor(
        max_iter=100, learning_rate=0.05, max_leaf_nodes=6, min_samples_leaf=300, l2_regularization=5.0, max_bins=63,
        monotonic_cst=monotonic, random_state=0,
    )  # fmt: skip
    with threadpool_limits(1):
        fitted: Regressor = trees.fit(matrix.astype(np.float32), target)
    return fitted


def best_mcpc(hours: Hours) -> Floats:
    """The highest capacity price of each hour, NaN where none is recorded: a MW is sold once, in a product that there is."""
    return best_of(hours.mcpc)


def _matrix(hours: Hours, day_ahead: Floats, rows: Ints, worth: Floats) -> Floats:
    _, first, number = np.unique(hours.day, return_index=True, return_inverse=True)
    day_max = np.fmax.reduceat(day_ahead, first)[number]
    columns = (day_ahead[rows], best_mcpc(hours)[rows], day_max[rows], worth)
    return np.column_stack(columns).astype(np.float64)
