"""Whether the forecasts in the lake are fresh and their bands hold: what the asset check tells."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hcp_pipelines.forecasting.known_prices import GRACE
from hcp_pipelines.orchestration.forecasting import QUANTILES
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.settings import Settings

SCORES = "core.power__forecast_scores"
FORECASTS_EVERY = timedelta(minutes=30)  # of the clock on the wall: from one run to the next
ASKED_EVERY = timedelta(hours=1)  # of the world: each run asks the hours that began `GRACE` ago or earlier
LOOKED_AT = timedelta(days=7)
BAND = (0.65, 0.95)  # of the 80 % interval: on recorded prices nine weeks in ten lay between 0.68 and 0.90
LEAST_FORECASTS = 48 * 24  # a day's: fewer say nothing
ASSUMED = "assumed"  # in the name of a method whose spread nothing was counted for
NEWEST_SQL = f"select max(issued_at) from lake.{QUANTILES} where issued_at <= ?"  # noqa: S608 - our constant
SCORES_SQL = f"""
select sum(forecasts)::bigint, sum(coverage_80 * forecasts) / sum(forecasts) from lake.{SCORES}
where day_start_at >= ? and day_start_at <= ? and horizon = 'all' and method not like '%{ASSUMED}%'"""  # noqa: S608 - our constants


@dataclass(frozen=True)
class Judged:
    """A check's answer: passed, why in words, and the figures."""

    passed: bool
    why: str
    told: dict[str, Any] = field(default_factory=dict)


def greatest_age(speed: float) -> timedelta:
    """How old the newest forecast may be in a world of some speed: its hour, `GRACE`, and two runs of which one was late."""
    return ASKED_EVERY + GRACE + 2 * FORECASTS_EVERY * max(speed, 1.0)


def judge_forecasts(settings: Settings, now: datetime, speed: float) -> Judged:
    """The newest forecast's age and the last week's coverage, from the lake; `speed` is the world's."""
    from hcp_pipelines.storage import lake

    newest, forecasts, coverage = None, 0, None
    with lake.attach(settings, read_only=True) as connection:
        if has_tables(settings, [QUANTILES]):
            newest = (connection.execute(NEWEST_SQL, [now]).fetchone() or (None,))[0]
        if has_tables(settings, [SCORES]):
            forecasts, coverage = connection.execute(SCORES_SQL, [now - LOOKED_AT, now]).fetchone() or (0, None)
    return judged(newest, now, forecasts or 0, coverage, greatest_age(speed))


def judged(newest: datetime | None, now: datetime, forecasts: int, coverage: float | None, oldest: timedelta) -> Judged:
    """What is wrong, if anything; too few forecasts are not judged by their coverage."""
    told = {"newest_issued_at": str(newest), "forecasts": forecasts, "coverage_80": coverage}
    if newest is None:
        return Judged(False, "no forecast is in the lake yet: materialize core_power__price_quantiles", told)
    if now - newest > oldest:
        age_h, limit_h = ((each / timedelta(hours=1)) for each in (now - newest, oldest))
        why = f"the newest forecast is {age_h:.1f} h old, the limit is {limit_h:.1f} h: are runs of forecasts_job failing?"
        return Judged(False, why, told)
    if coverage is None or forecasts < LEAST_FORECASTS:
        return Judged(
            True,
            f"fresh; {forecasts} forecasts in a week are too few to judge, {LEAST_FORECASTS} are needed",
            told,
        )
    is_inside = BAND[0] <= coverage <= BAND[1]
    word = "lies in" if is_inside else "is out of"
    return Judged(
        is_inside, f"coverage of the 80 % interval, {coverage:.2f} over a week, {word} {BAND[0]:g}–{BAND[1]:g}", told
    )
