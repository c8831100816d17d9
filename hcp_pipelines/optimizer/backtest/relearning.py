"""Strategies that are learnt anew at the turns of months, as live: one window, its state carried on, the newest decides.

When that is the request says (`learnt_at`); what was known by then are its training cases until that instant.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from hcp_pipelines.forecasting.hindsight import refuse_hindsight
from hcp_pipelines.forecasting.hours import microseconds
from hcp_pipelines.optimizer.backtest.case import Case
from hcp_pipelines.optimizer.backtest.folder import Recorded
from hcp_pipelines.optimizer.backtest.request import Request, training_cases
from hcp_pipelines.optimizer.backtest.simulate import Strikes
from hcp_pipelines.optimizer.backtest.strategies import Strategy

SEEN = timedelta(days=60)  # of history before a spell: features look back 28 days, spells of low prices last for weeks
Learn = Callable[[Sequence[Case], datetime], list[Strategy]]


@dataclass(frozen=True)
class Relearnt:
    """One strategy in editions: each decides from its instant on until the next one's, the first before that too."""

    editions: tuple[tuple[datetime, Strategy], ...]

    @property
    def name(self) -> str:
        """That of all of them."""
        return self.editions[0][1].name

    @property
    def is_guarded(self) -> bool:
        """As all of them are."""
        return self.editions[0][1].is_guarded

    @property
    def trained_until(self) -> datetime | None:
        """Of the first: what the window's start may know."""
        return self.editions[0][1].trained_until

    def strikes(self, case: Case) -> Strikes:
        """Each edition's, from its instant on.

        Raises:
            TrainedTooLateError: an edition has learnt from what came after it began to decide.
        """
        rows = [int(np.searchsorted(case.starts_us, microseconds(at))) for at, _ in self.editions]
        parts = []
        for n, (at, strategy) in enumerate(self.editions):
            refuse_hindsight(strategy.name, strategy.trained_until, at)
            begin, end = (rows[n] if n else 0), (*rows, len(case))[n + 1]
            seen = max(0, begin - round(SEEN / timedelta(hours=case.step_h)))
            parts.append(strategy.strikes(case.cut(seen, end)).cut(begin - seen))
        return Strikes(*(np.concatenate(column) for column in zip(*((p.on, p.off) for p in parts), strict=True)))


def learnt_anew(request: Request, recorded: Recorded, learn: Learn) -> list[Strategy]:
    """What `learn` makes of all that was known by each instant at which a request learns, one strategy a name."""
    until = request.learnt_at
    editions = [learn(training_cases(replace(request, train_until=at, relearn=None), recorded), at) for at in until]
    return [_as_one(tuple(zip(until, each, strict=True))) for each in zip(*editions, strict=True)]


def learnt_in_window(request: Request, strategies: Sequence[Strategy]) -> list[datetime]:
    """The turns of months at which there was anything to learn from, in order."""
    editions = [each for strategy in strategies if isinstance(strategy, Relearnt) for each in strategy.editions]
    learnt = {at for at, edition in editions if edition.trained_until is not None}
    return [at for at in request.learnt_at[1:] if at in learnt]


def relearnt_note(request: Request, strategies: Sequence[Strategy]) -> list[str]:
    """A line of the report on it, where anything is learnt anew."""
    anew = learnt_in_window(request, strategies)
    if not anew:
        return []
    return [
        f"learnt anew {len(anew)} times in the window, from what was known by then, its state carried on: "
        + ", ".join(f"{at:%Y-%m-%d}" for at in anew)
    ]


def _as_one(editions: tuple[tuple[datetime, Strategy], ...]) -> Strategy:
    """What never learns, or learns once, stays itself."""
    if len(editions) == 1 or all(strategy.trained_until is None for _, strategy in editions):
        return editions[0][1]
    return Relearnt(editions)
