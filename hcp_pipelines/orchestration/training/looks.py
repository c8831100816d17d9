"""When the shadow's evidence is looked at: twice, over the same days however often it is asked. Pure.

A test that is asked every hour until it passes passes by chance in the end: 5 % becomes 7 to 33 %.
"""

from dataclasses import replace
from datetime import datetime

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.learnable.lessons import DAY_US
from hcp_pipelines.forecasting.learnable.scoring import Forecasts

LOOKS_DAYS = (14, 21)  # as long as a challenger is let be
ALPHA = 0.05 / len(LOOKS_DAYS)
_IN_WORDS = " and ".join(map(str, LOOKS_DAYS))


def in_newest_look(challenger: Forecasts, trained_until: datetime, kept_since: datetime) -> Forecasts:
    """What the challenger said in the days of the newest look that is over, from the first day whose outcome is known.

    Args:
        challenger: what it said.
        trained_until: when it learnt.
        kept_since: answers before are not looked at any more.

    Raises:
        ConfigError: no look is over yet, or its first days are not looked at any more.
    """
    if trained_until < kept_since:
        raise ConfigError(f"its looks after {_IN_WORDS} days are past: it learnt until {trained_until:%Y-%m-%d}")
    day = challenger.settled().examples.wanted_us // DAY_US
    days = int(day.max() - day.min()) if len(day) else 0
    over = [look for look in LOOKS_DAYS if days >= look]
    if not over:
        raise ConfigError(f"{days} days are known: it is looked at after {_IN_WORDS}")
    end_us = (int(day.min()) + max(over)) * DAY_US
    chosen = challenger.examples.wanted_us < end_us
    return replace(challenger, examples=challenger.examples.only(chosen), quantiles=challenger.quantiles[chosen])
