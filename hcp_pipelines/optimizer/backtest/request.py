"""What is back-tested, and the cases that follow from it: the window's, and those of the months before it, to learn from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from math import ceil

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hindsight import refuse_hindsight
from hcp_pipelines.optimizer.backtest import folder, series
from hcp_pipelines.optimizer.backtest.case import Case, Known, LeastTimes, build_case
from hcp_pipelines.optimizer.backtest.folder import Recorded, Sources
from hcp_pipelines.optimizer.backtest.series import Floats, Prices

NAMES = ("always_on", "break_even", "hysteresis", "mpc", "oracle")
LEARNT = ("hysteresis", "mpc")  # chosen or trained on what lies before the window
NEEDED = ("break_even", "oracle")  # the two ends of the gap
GOLDEN_EFFICIENCIES_J_PER_TH = (15.0, 17.5, 21.5, 29.5)
TRAINING_EFFICIENCIES_J_PER_TH = (
    9.0,
    11.5,
    14.0,
    16.5,
    19.5,
    23.0,
    27.0,
    33.0,
    42.0,
)  # beyond any machine: more to learn from
LEAST_TRAINING_DAYS = 14
LEAST_J_PER_TH, MOST_J_PER_TH = 1, 1000  # a tenth and a hundred times what is built
MOST_LEAST_MINUTES = 24 * 60  # of a minimum time
MOST_EFFICIENCIES = 20  # each is a back-test of its own


class Relearn(StrEnum):
    """How often what is learnt is learnt anew inside the window: at midnight UTC, as months turn."""

    MONTH = "month"
    QUARTER = "quarter"

    @property
    def months(self) -> int:
        """Between two times."""
        return 1 if self is Relearn.MONTH else 3


@dataclass(frozen=True)
class Request:
    """What is back-tested: [start, end) in UTC."""

    sources: Sources
    start: datetime
    end: datetime
    efficiencies_j_per_th: tuple[float, ...] = GOLDEN_EFFICIENCIES_J_PER_TH
    known: Known = Known.AT_START
    is_hashprice_same_day: bool = False
    strategies: tuple[str, ...] = ()  # none named: all that can be run
    train_until: datetime | None = None  # the window's start where nobody says otherwise
    relearn: Relearn | None = None  # learnt once, before the window
    min_up_minutes: float = 0.0  # for which miners stay on once woken
    min_down_minutes: float = 0.0

    @property
    def hashprice_known(self) -> str:
        """Which day's hashprice a decision knows, as the command line spells it."""
        return "same-day" if self.is_hashprice_same_day else "previous-day"

    @property
    def hashprice_days_back(self) -> int:
        """How many days the newest hashprice known is old: that of a day before is known once the day is over."""
        return 0 if self.is_hashprice_same_day else 1

    @property
    def has_least_times(self) -> bool:
        """Whether switching is held by any."""
        return max(self.min_up_minutes, self.min_down_minutes) > 0

    def least(self, step_h: float) -> LeastTimes:
        """In intervals of whole minutes, begun ones whole."""
        step_minutes = round(step_h * 60)  # of hours, 25 minutes in fives would come to more than five
        up, down = (max(1, ceil(minutes / step_minutes)) for minutes in (self.min_up_minutes, self.min_down_minutes))
        return LeastTimes(up, down)

    @property
    def trained_until(self) -> datetime:
        """What the window starts with is learnt from before this instant."""
        return self.train_until or self.start

    @property
    def learnt_at(self) -> tuple[datetime, ...]:
        """Instants until which is learnt: before the window, and where it learns anew the first midnights of months in it."""
        if self.relearn is None:
            return (self.trained_until,)
        month = self.start.year * 12 + self.start.month - 1
        months = range(month + self.relearn.months, self.end.year * 12 + self.end.month, self.relearn.months)
        turns = [datetime(n // 12, n % 12 + 1, 1, tzinfo=UTC) for n in months]
        return (self.trained_until, *(at for at in turns if at < self.end))

    @property
    def names(self) -> list[str]:
        """Strategies by name; the two ends of the gap are always among them."""
        return [name for name in NAMES if not self.strategies or name in self.strategies or name in NEEDED]


def refuse_unclear(request: Request, names: Sequence[str] = NAMES) -> None:
    """Raise ConfigError for a request that can't be run."""
    if request.start >= request.end:
        raise ConfigError(f"the window from {request.start} to {request.end} is empty: --from must be before --to")
    wrong = [each for each in request.efficiencies_j_per_th if not LEAST_J_PER_TH <= each <= MOST_J_PER_TH]
    if wrong:
        raise ConfigError(f"an efficiency of {wrong[0]:g} J/TH: must be from {LEAST_J_PER_TH} to {MOST_J_PER_TH}")
    if len(request.efficiencies_j_per_th) > MOST_EFFICIENCIES:
        raise ConfigError(
            f"{len(request.efficiencies_j_per_th)} efficiencies: at most {MOST_EFFICIENCIES} in one back-test. Run them in parts."
        )
    if request.relearn and request.train_until:
        raise ConfigError("learnt once until --train-until, or anew as months turn (--relearn): leave one of them out")
    refuse_hindsight("what is learnt", request.train_until, request.start)  # at once: learning takes minutes
    unknown = sorted(set(request.strategies) - set(names))
    if unknown:
        raise ConfigError(f"no strategy {', '.join(unknown)}; there are {', '.join(names)}")


def case_of(request: Request, recorded: Recorded, efficiency_j_per_th: float) -> Case:
    """The case of one efficiency over the whole series. Before the window, where it only warms up, hashprice may be carried.

    Raises:
        SeriesError: a day of the window, or the one before it where that is what is known, has no hashprice.
    """
    by_day, name, prices = recorded.hashprice, recorded.files["network"], recorded.prices
    days_back = request.hashprice_days_back
    window_us = prices.starts_us[prices.row_at(request.start) :]
    for back in {0, days_back}:
        series.hashprice_of(by_day, window_us, name, days_back=back)
    known, settled = (
        series.hashprice_of(by_day, prices.starts_us, name, days_back=back, is_carried=True) for back in (days_back, 0)
    )
    case = build_case(prices, recorded.day_ahead, (known, settled), efficiency_j_per_th, request.known)
    return replace(case, least=request.least(case.step_h))


def training_cases(request: Request, recorded: Recorded) -> list[Case]:
    """Cases of everything before the instant until which is trained: the point's own history, and other points in the folder.

    Empty where there are fewer than two weeks in all.
    """
    own = recorded.prices.cut(0, recorded.prices.row_at(request.trained_until))
    parts = [(own, recorded.day_ahead[: len(own.starts_us)])]
    parts += folder.elsewhere(request.sources, recorded.prices, request.trained_until)
    return [
        case
        for prices, day_ahead in parts
        if len(prices.starts_us) * prices.step_h >= LEAST_TRAINING_DAYS * 24
        for case in _at_all_efficiencies(request, recorded, prices, day_ahead)
    ]


def _at_all_efficiencies(request: Request, recorded: Recorded, prices: Prices, day_ahead: Floats) -> Iterator[Case]:
    name = recorded.files["network"]
    settled = series.hashprice_of(recorded.hashprice, prices.starts_us, name, is_carried=True)
    for efficiency in TRAINING_EFFICIENCIES_J_PER_TH:
        case = build_case(prices, day_ahead, (settled, settled), efficiency, request.known)
        yield replace(case, least=request.least(case.step_h))
