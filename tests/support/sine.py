"""A small target: a daily sine with noise whose next day is asked about at midnight, from a table of the lake."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.drift import profile
from hcp_pipelines.forecasting.hours import HOUR_US, microseconds
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.lessons import Learning
from hcp_pipelines.forecasting.learnable.models import BoostedTrees, Naive, SeasonalNaive
from hcp_pipelines.forecasting.learnable.protocol import LAST, Examples
from hcp_pipelines.forecasting.model_file import digest_of
from hcp_pipelines.storage import lake, models

TABLE = "core.sine__hours"
NOW = datetime(2025, 6, 1, tzinfo=UTC)
DAYS = 90
DAY = 24
SMALL = Learning(least_days=7, held_days=7)


def hours(days=DAYS, until=NOW, seed=0, level=10.0):
    """A row an hour: the hour's value depends on a signal that is known the day before."""
    n = days * DAY
    random = np.random.default_rng(seed)
    starts = [until - timedelta(hours=n - k) for k in range(n)]
    signal = np.repeat(random.normal(0, 3, days + 1), DAY)
    value = level + 4 * np.sin(np.arange(n) * 2 * np.pi / DAY) + signal[:n] + random.normal(0, 0.4, n)
    frame = {
        "start_at": starts,
        "value": value,
        "signal": signal[:n],
        "known_at": [each + timedelta(hours=1) for each in starts],
    }
    return pl.DataFrame(frame).with_columns(pl.col("start_at", "known_at").cast(INSTANT))


@dataclass(frozen=True)
class Sine:
    """A `Target`. `models` may be others in a test."""

    name: str = "sine"
    unit: str = "things"
    tables: tuple[str, ...] = (TABLE,)
    models: tuple = (
        Naive(Framing(LAST)),
        SeasonalNaive(),
        BoostedTrees(Framing(""), SMALL, trees=12, leaves=8, least_in_leaf=20),
    )

    def examples(self, tables, window, groups=()):
        """Each hour of the day that begins, asked at its midnight; `signal` of that day is known by then."""
        if groups and set(groups) != {"all"}:
            raise ConfigError(f"{groups} is none: there is all")
        table = tables[TABLE].select("start_at", "value", "signal", "known_at")
        starts = table["start_at"].dt.timestamp("us").to_numpy()
        whole = {name: dict(zip(starts.tolist(), table[name].to_list(), strict=True)) for name in ("value", "signal")}
        first, end = (microseconds(each) for each in window)
        midnights = np.arange(-(-first // (DAY * HOUR_US)), -(-end // (DAY * HOUR_US))) * DAY * HOUR_US
        asked = np.repeat(midnights, DAY)
        wanted = asked + np.tile(np.arange(DAY), len(midnights)) * HOUR_US
        if not len(asked):
            raise ConfigError(f"{TABLE} has no midnight from {window[0]} to {window[1]}")

        def of(name, at):
            return np.array([whole[name].get(int(each), np.nan) for each in at], dtype=np.float64)

        yesterday = of("value", wanted - DAY * HOUR_US)
        features = np.column_stack([of("value", asked - HOUR_US), of("signal", wanted), (wanted // HOUR_US) % DAY])
        return Examples(
            features=features.astype(np.float32), names=(LAST, "signal", "hour"), target=of("value", wanted),
            entity=np.zeros(len(asked), np.int64), entities=("all",), asked_us=asked, wanted_us=wanted,
            known_us=wanted + HOUR_US, naive=yesterday, scale=np.ones(len(asked)),
        )  # fmt: skip


SINE = Sine()
BROKEN = Sine("broken", tables=("core.sine__nowhere",))
WHERE = {"sine": "tests.support.sine:SINE"}


def write(settings, frame):
    """The table in the lake, made anew: its columns are the frame's."""
    drop(settings)
    lake.write(settings, TABLE, frame, uuid.uuid4().hex)


def drop(settings):
    """No table any more."""
    with lake.attach(settings) as attached:
        attached.execute(f"drop table if exists lake.{TABLE}")


def keep(connection, status="champion", model=SINE.models[-1], until=NOW, seed=0, metadata=None):
    """A version that has learnt from the table's rows until an instant; its trial is left out."""
    examples = SINE.examples({TABLE: hours()}, (NOW - timedelta(days=DAYS), NOW))
    fitted = model.fit(examples, until, seed)
    content = fitted.to_bytes()
    told = {"features": profile(examples, fitted.columns)} | (metadata or {})
    made = models.Kept("sine", digest_of(content), content, until, until, told)
    return models.keep(connection, made, status, "test", "a test")
