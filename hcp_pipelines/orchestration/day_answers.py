"""What a target's champion says of a day, asked in each of its hours of what was known then. One version answers a whole run.

Goes by the protocol alone; what a target's entities mean, and what stands where nobody answers, is for those who ask.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import psycopg

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError, ModelError
from hcp_pipelines.forecasting.hours import HOUR_US, Ints, microseconds
from hcp_pipelines.forecasting.learnable.protocol import LEVELS, Examples, Target
from hcp_pipelines.forecasting.serving import Champion, Served
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.orchestration.training.lessons import examples_of, looked_back, read_tables
from hcp_pipelines.orchestration.training.targets import target_of
from hcp_pipelines.settings import Settings

HOUR = timedelta(hours=1)
QUANTILES = tuple(f"q{round(level * 100):02}" for level in LEVELS)
KEYS = ["entity", "asked_at", "start_at"]
SCHEMA: dict[str, Any] = {
    "entity": pl.String, "asked_at": INSTANT, "start_at": INSTANT, **dict.fromkeys(QUANTILES, pl.Float64), "model": pl.String,
    "trained_until": INSTANT,
}  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """Rows of `SCHEMA`, `asked_at` the beginning of an hour, and who said them; none where `why` says why."""

    table: pl.DataFrame
    model: str = ""
    why: str = ""


def begun(day: tuple[datetime, datetime], now: datetime) -> list[datetime]:
    """The hours of a day that have begun."""
    hours = int((day[1] - day[0]) / HOUR)
    return [at for n in range(hours) if (at := day[0] + n * HOUR) <= now]


def nobody(name: str) -> str:
    """Why nothing is said of a name before its first promotion."""
    return f"no version of {name} serves yet (`hcp train {name}` makes one)"


def who_serves(connection: "psycopg.Connection[Any]", name: str) -> tuple[Served | None, str]:
    """The champion, if it can be read and says all levels; else why nobody answers."""
    try:
        found = Champion(name).get(connection)
    except ModelError as error:
        return None, f"the champion can't be read: {error}"
    if found is None:
        return None, nobody(name)
    if missing := [level for level in LEVELS if level not in found.fitted.levels]:
        return None, f"champion {found.model} does not say the quantiles at {missing}"
    return found, ""


def answers(
    connection: "psycopg.Connection[Any]", settings: Settings, name: str, hours: Sequence[datetime], now: datetime
) -> Answers:
    """What the champion says in some hours of a day, of those since its training; nothing that was known later is in it."""
    nothing = pl.DataFrame(schema=SCHEMA)
    serving, why = who_serves(connection, name)
    if serving is None or not hours:
        return Answers(nothing, why=why or "no hour can be asked of yet")
    since_us = microseconds(serving.fitted.trained_until)
    too_late = (
        f"{serving.model} learnt until {serving.fitted.trained_until:%Y-%m-%dT%H:%MZ}: it is asked about no hour before"
    )
    asked_at = [at for at in hours if microseconds(at) + HOUR_US > since_us]
    if not asked_at:
        return Answers(nothing, why=too_late)
    target, until = target_of(name), min(asked_at[-1] + HOUR, now)
    try:
        tables = read_tables(settings, target, (hours[0] - looked_back(name), until), anew=True).by_name
        asked = [
            examples.only((examples.asked_us >= since_us) & (examples.asked_us <= microseconds(now)))
            for examples in _questions(target, tables, asked_at)
        ]
        table = pl.concat([nothing, *(_rows(serving, examples) for examples in asked)])
    except ConfigError as error:
        return Answers(nothing, why=f"{serving.model} can't be asked: {error}")
    if table.is_empty():
        return Answers(nothing, why=f"{serving.model} has no answer" if any(map(len, asked)) else too_late)
    return Answers(table.unique(KEYS, keep="first", maintain_order=True), serving.model, f"{serving.model} serves")


def kept(
    settings: Settings, table: str, asked: str, day: tuple[datetime, datetime], schema: Mapping[str, Any]
) -> pl.DataFrame:
    """What a table of the lake holds of a day before this run, by its column of when it was asked; empty without the table."""
    from hcp_pipelines.storage import lake

    if not has_tables(settings, [table]):
        return pl.DataFrame(schema=schema)
    query = f"select * from lake.{table} where {asked} >= ? and {asked} < ? order by all"  # noqa: S608 - our tables
    with lake.attach(settings, read_only=True) as connection:
        rows = connection.execute(query, list(day)).pl()
    return rows.select(pl.col(name).cast(kind) for name, kind in schema.items())


def _questions(target: Target, tables: Mapping[str, pl.DataFrame], asked_at: list[datetime]) -> Iterator[Examples]:
    """The target's questions in each of some hours: it asks in the first of a window, and every few from it on.

    Raises:
        ConfigError: it asks in none of them.
    """
    missing, end, why = asked_at, asked_at[-1] + HOUR, None
    asked_any = False
    while missing:
        there = set()
        try:
            found = examples_of(target, tables, (missing[0], end))
        except ConfigError as error:
            why = error
        else:
            asked_any = True
            there = set((np.unique(found.asked_us) // HOUR_US * HOUR_US).tolist())
            yield found
        missing = [at for at in missing[1:] if microseconds(at) not in there]
    if why is not None and not asked_any:
        raise why


def _rows(serving: Served, asked: Examples) -> pl.DataFrame:
    """Its answers; what it can't say has none."""
    quantiles, levels = serving.fitted.predict(asked), list(serving.fitted.levels)
    asked_us: Ints = asked.asked_us // HOUR_US * HOUR_US
    columns: dict[str, Any] = {
        "entity": pl.Series(asked.entities, dtype=pl.String).gather(asked.entity), "asked_at": asked_us,
        "start_at": asked.wanted_us, "model": serving.model, "trained_until": serving.fitted.trained_until,
    }  # fmt: skip
    columns |= {column: quantiles[:, levels.index(level)] for level, column in zip(LEVELS, QUANTILES, strict=True)}
    frame = pl.DataFrame(columns).select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    return frame.filter(pl.all_horizontal(pl.col(QUANTILES).is_finite()))
