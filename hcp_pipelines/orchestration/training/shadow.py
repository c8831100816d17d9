"""The shadow: what champion and challenger say of each question as it can be asked; scored when its outcome is known."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import psycopg

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError, ModelError
from hcp_pipelines.forecasting.drift import LEAST_DAYS, days_asked, stability
from hcp_pipelines.forecasting.hours import instant, microseconds
from hcp_pipelines.forecasting.learnable.compare import compare
from hcp_pipelines.forecasting.learnable.lessons import DAY_US
from hcp_pipelines.forecasting.learnable.protocol import LEVELS, Examples
from hcp_pipelines.forecasting.learnable.scoring import Forecasts, scores
from hcp_pipelines.forecasting.serving import Served, served
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.orchestration.training.judging import Evidence
from hcp_pipelines.orchestration.training.lessons import read_lessons
from hcp_pipelines.orchestration.training.looks import NoLookError, alpha, days_ahead, in_newest_look
from hcp_pipelines.orchestration.training.targets import TARGETS, target_of
from hcp_pipelines.orchestration.training.told import compared, plain
from hcp_pipelines.orchestration.training.trial import overall
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import models

FORECASTS = "core.hcp__model_forecasts"
ASKED_EVERY = timedelta(hours=1)  # of the clock on the wall: in a fast world days go by
ASKED_BACK = timedelta(days=2)  # a question that nobody asked for so long, and five days, is not asked any more
SCORED_BACK = timedelta(days=35)  # of questions, five weeks and five days at most
BLOCK_US = (
    5 * DAY_US
)  # a target that asks every few hours counts them from a window's start: these begin at a multiple of it
COLUMNS = tuple(f"quantile_{round(level * 100):02}" for level in LEVELS)
SCHEMA: dict[str, Any] = {
    "name": pl.String, "version": pl.Int32, "role": pl.String, "entity": pl.String, "asked_at": INSTANT, "wanted_at": INSTANT,
    **dict.fromkeys(COLUMNS, pl.Float64),
}  # fmt: skip
_LAST = f"select max(asked_at) from lake.{FORECASTS} where name = ? and version = ?"  # noqa: S608 - our constant
_SAID = f"""
select entity, asked_at, wanted_at, {", ".join(COLUMNS)} from lake.{FORECASTS}
where name = ? and version = ? and asked_at >= ? order by asked_at, entity, wanted_at"""  # noqa: S608 - our constants


@dataclass(frozen=True)
class Scored:
    """Of a name: a row a version, the evidence between the two, and what the sensors look at; or why it can't be scored."""

    rows: list[dict[str, Any]]
    evidence: Evidence | None
    word: dict[str, Any]
    why_not: str = ""


def names_asked(connection: "psycopg.Connection[Any]") -> list[str]:
    """The names of which some version serves or is asked: one query."""
    query = "select distinct name from models where status <> 'archived' and name = any(%s) order by name"
    return [row[0] for row in connection.execute(query, (list(TARGETS),)).fetchall()]


def ask(
    connection: "psycopg.Connection[Any]", settings: Settings, name: str, now: datetime, speed: float = 1.0
) -> dict[str, Any]:
    """Ask champion and challenger what could be asked since the last time, and keep what they say; rows by role, or why none.

    Nothing later than what the tables know: the answer would be kept, and scored, as if it had known.
    """
    back = min(max(ASKED_BACK, 2 * ASKED_EVERY * speed), SCORED_BACK)
    try:
        lessons = read_lessons(settings, target_of(name), _window(now, back), anew=True)
    except ConfigError as error:
        return {"not_asked": str(error)}
    examples = lessons.examples.only(lessons.examples.asked_us <= microseconds(lessons.known_until))
    told: dict[str, Any] = {}
    for role, serving in _asked(connection, name):
        try:
            told[role] = _ask_one(settings, served(connection, serving), role, examples)
        except (ModelError, ConfigError) as error:
            told[role] = f"not asked: {error}"
    return told


def score(connection: "psycopg.Connection[Any]", settings: Settings, name: str, now: datetime) -> Scored:
    """How good what was said in the shadow has been, and whether questions or errors have moved away from the trial's.

    A target whose tables are not as it reads them is told, and holds up no other.
    """
    try:
        return _scored(connection, settings, name, now)
    except ConfigError as error:
        return Scored([], None, {}, f"not scored: {error}")


def _scored(connection: "psycopg.Connection[Any]", settings: Settings, name: str, now: datetime) -> Scored:
    examples = read_lessons(settings, target_of(name), _window(now, SCORED_BACK), anew=True).examples
    said, rows = {}, []
    for role, serving in _asked(connection, name):
        said[role] = _said(settings, serving, role, examples, now)
        if len(said[role].examples):
            rows.append({"name": name, "version": serving.version, "role": role, **overall(scores(said[role]))})
    champion = models.champion(connection, name)
    word = _word(connection, champion, said.get("champion"), examples) if champion else {}
    return Scored(rows, _evidence(connection, name, said, now), plain(word))


def _window(now: datetime, back: timedelta) -> tuple[datetime, datetime]:
    """As far back, and on to the beginning of a block: whenever it is asked for, the same questions are in it."""
    return instant(microseconds(now - back) // BLOCK_US * BLOCK_US), now


def _asked(connection: "psycopg.Connection[Any]", name: str) -> Iterator[tuple[str, models.Serving]]:
    for role, serving in (
        ("champion", models.champion(connection, name)),
        ("challenger", models.challenger(connection, name)),
    ):
        if serving is not None:
            yield role, serving


def _ask_one(settings: Settings, model: Served, role: str, examples: Examples) -> int:
    """Rows that were kept of one version: of the questions since its training that it was not asked yet."""
    from hcp_pipelines.storage import lake  # duckdb's import starts threads

    serving, last = model.serving, None
    if has_tables(settings, [FORECASTS]):
        with lake.attach(settings, read_only=True) as connection:
            last = (connection.execute(_LAST, [serving.name, serving.version]).fetchone() or (None,))[0]
    since_us = max(microseconds(model.fitted.trained_until), microseconds(last) + 1 if last else 0)
    table = _table(model, role, examples.only(examples.asked_us >= since_us))
    if not table.is_empty():
        lake.write(settings, FORECASTS, table, f"{serving.name}/{serving.version}/{uuid.uuid4()}")
    return len(table)


def _table(model: Served, role: str, examples: Examples) -> pl.DataFrame:
    """What a version says of examples, as rows of the lake's table; a level that it does not have is null."""
    quantiles, levels = model.fitted.predict(examples), list(model.fitted.levels)
    columns = {
        column: quantiles[:, levels.index(level)] if level in levels else np.full(len(examples), np.nan)
        for level, column in zip(LEVELS, COLUMNS, strict=True)
    }
    keys = {
        "name": model.serving.name, "version": model.serving.version, "role": role,
        "entity": pl.Series(examples.entities, dtype=pl.String).gather(examples.entity),
        "asked_at": examples.asked_us, "wanted_at": examples.wanted_us,
    }  # fmt: skip
    table = pl.DataFrame({**keys, **columns}).select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    return table.fill_nan(None).filter(pl.any_horizontal(pl.col(COLUMNS).is_not_null()))


def _said(settings: Settings, serving: models.Serving, role: str, examples: Examples, now: datetime) -> Forecasts:
    """What a version said of these examples when it was asked; NaN where it was not."""
    from hcp_pipelines.storage import lake

    rows = pl.DataFrame(schema={name: SCHEMA[name] for name in ("entity", "asked_at", "wanted_at", *COLUMNS)})
    if has_tables(settings, [FORECASTS]):
        with lake.attach(settings, read_only=True) as connection:
            rows = connection.execute(_SAID, [serving.name, serving.version, _window(now, SCORED_BACK)[0]]).pl()
    keys_of = ["entity", "asked_at", "wanted_at"]
    rows = rows.with_columns(pl.col("asked_at", "wanted_at").cast(INSTANT)).unique(keys_of, keep="first")
    there = [column for column in COLUMNS if rows[column].null_count() < len(rows)]
    keys = pl.DataFrame(
        {
            "entity": pl.Series(examples.entities, dtype=pl.String).gather(examples.entity),
            "asked_at": examples.asked_us, "wanted_at": examples.wanted_us, "row": np.arange(len(examples)),
        }
    ).with_columns(pl.col("asked_at", "wanted_at").cast(INSTANT))  # fmt: skip
    joined = keys.join(rows, on=keys_of, how="inner", maintain_order="left")
    levels = tuple(level for level, column in zip(LEVELS, COLUMNS, strict=True) if column in there)
    quantiles = joined.select(pl.col(there).cast(pl.Float64).fill_null(np.nan)).to_numpy().astype(np.float64)
    return Forecasts(role, examples.only(joined["row"].to_numpy()), quantiles, levels)


def _evidence(
    connection: "psycopg.Connection[Any]", name: str, said: dict[str, Forecasts], now: datetime
) -> Evidence | None:
    """The challenger beside the champion on what both were asked in the newest look; None without a challenger."""
    challenger, champion = models.challenger(connection, name), models.champion(connection, name)
    if challenger is None or champion is None:
        return None
    is_due = True
    try:
        looked_at = in_newest_look(said["challenger"], challenger.trained_until, _window(now, SCORED_BACK)[0])
        found, why = compared(compare(looked_at, said["champion"])), ""
    except ConfigError as error:
        found, why, is_due = None, str(error), not isinstance(error, NoLookError)
    errs = alpha(days_ahead(said["challenger"].examples))
    return Evidence(challenger.version, champion.version, found, why, "the shadow", errs, is_due)


def _word(
    connection: "psycopg.Connection[Any]", champion: models.Serving, said: Forecasts | None, examples: Examples
) -> dict[str, Any]:
    """What the sensors look at: the champion's recent loss over its trial's, and the feature beyond its usual drift by most."""
    metadata = models.find(connection, champion.name, champion.version).metadata
    word: dict[str, Any] = {"version": champion.version}
    trial = metadata.get("pinball")
    settled = said.settled() if said is not None else None
    if settled is not None and days_asked(settled.examples) >= LEAST_DAYS and trial:
        word["error_ratio"] = overall(scores(settled))["pinball"] / trial
    since = examples.only(examples.asked_us >= microseconds(champion.trained_until))
    features = metadata.get("features", {})
    beyond = {
        feature: (index, features[feature].get("usual", 0.0)) for feature, index in stability(features, since).items()
    }
    if beyond:
        word["feature"] = max(beyond, key=lambda feature: beyond[feature][0] - beyond[feature][1])
        word["drift"], word["usual"] = beyond[word["feature"]]
    return word


def table_of_scores(found: Sequence[Scored], now: datetime) -> pl.DataFrame:
    """Rows of all names, as the asset shows them."""
    rows = [{**row, "scored_at": now} for each in found for row in each.rows]
    return pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame(schema={"name": pl.String})
