"""How long two models must be compared before a check promotes, and when the shadow's evidence is looked at. Pure.

A test that is asked every hour until it passes passes by chance in the end: 5 % becomes 7 to 33 %. So the days that are looked
at are the same however often it is asked; of what is looked far ahead they come later.
"""

import math
from dataclasses import replace
from datetime import datetime, timedelta

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.learnable.lessons import DAY_US
from hcp_pipelines.forecasting.learnable.protocol import Examples
from hcp_pipelines.forecasting.learnable.scoring import Forecasts

LEAST_DAYS, LEAST_AHEADS = 14, 4  # compared before a check promotes; days, and how often what is looked ahead
LOOKS_DAYS = (14, 21)
LONGEST_DAYS = 28  # of a shadow: what needs more is promoted on its trial, or by a person
SETTLING = timedelta(days=3)  # until the outcomes of a look's last day are known, and it was looked at
ERRS = 0.05  # of all looks together


class NoLookError(ConfigError):
    """Nothing is to be judged: it is too early for the first look, or none is ever made."""


def least_days(ahead_days: int) -> int:
    """So many days must be compared before a check promotes."""
    return max(LEAST_DAYS, LEAST_AHEADS * ahead_days)


def looks(ahead_days: int) -> tuple[int, ...]:
    """After how many days the shadow is looked at; never where it would have to go on for longer than four weeks.

    >>> looks(2), looks(7), looks(30)
    ((14, 21), (28,), ())
    """
    least = least_days(ahead_days)
    return tuple(each for each in LOOKS_DAYS if each >= least) or ((least,) if least <= LONGEST_DAYS else ())


def shadowed(ahead_days: int) -> timedelta:
    """As long as a challenger is let be: until its last look is over."""
    return timedelta(days=max(looks(ahead_days) or LOOKS_DAYS)) + SETTLING


def alpha(ahead_days: int) -> float:
    """How often a challenger that is no better may be called so by one look."""
    return ERRS / max(len(looks(ahead_days)), 1)


def days_ahead(examples: Examples) -> int:
    """As many days as questions look ahead, the last one whole."""
    return math.ceil(float(examples.ahead_h.max()) / 24) if len(examples) else 1


def in_newest_look(challenger: Forecasts, trained_until: datetime, kept_since: datetime) -> Forecasts:
    """What the challenger said in the days of the newest look that is over, from the first day whose outcome is known.

    Args:
        challenger: what it said.
        trained_until: when it learnt.
        kept_since: answers before are not looked at any more.

    Raises:
        NoLookError: no look is over yet, or none is ever made.
        ConfigError: its first days are not looked at any more.
    """
    ahead = days_ahead(challenger.examples)
    all_looks = looks(ahead)
    in_words = " and ".join(map(str, all_looks))
    if not all_looks:
        raise NoLookError(
            f"it looks {ahead} days ahead: {least_days(ahead)} days must be compared, its trial has them where enough is known"
        )
    if trained_until < kept_since:
        raise ConfigError(f"its looks after {in_words} days are past: it learnt until {trained_until:%Y-%m-%d}")
    day = challenger.settled().examples.wanted_us // DAY_US
    days = int(day.max() - day.min()) if len(day) else 0
    over = [look for look in all_looks if days >= look]
    if not over:
        raise NoLookError(f"{days} days are known: it is looked at after {in_words}")
    end_us = (int(day.min()) + max(over)) * DAY_US
    chosen = challenger.examples.wanted_us < end_us
    return replace(challenger, examples=challenger.examples.only(chosen), quantiles=challenger.quantiles[chosen])
