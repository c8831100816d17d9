"""What a target learns from: its tables as they were in the lake at one snapshot, and the examples that it makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.learnable.protocol import Examples, Target
from hcp_pipelines.orchestration.lake_state import relations
from hcp_pipelines.settings import Settings

LOOKED_BACK = timedelta(days=60)  # before a window: lags of weeks, and what the naive forecast repeats
_SNAPSHOT = "select max(snapshot_id) from ducklake_snapshots('lake')"


@dataclass(frozen=True)
class Lessons:
    """Examples, and the lake's snapshot that they were made of."""

    examples: Examples
    snapshot_id: int


def read_lessons(
    settings: Settings, target: Target, window: tuple[datetime, datetime], groups: Sequence[str] = ()
) -> Lessons:
    """The examples of a window, of nothing that was known later than its end.

    Raises:
        ConfigError: a table is missing or has other columns than the target reads, or it has no rows of the window.
    """
    from hcp_pipelines.storage import lake  # duckdb's import starts threads

    there = relations(settings)
    if missing := [name for name in target.tables if name not in there]:
        raise ConfigError(
            f"{target.name} is learnt from {', '.join(missing)}, which the lake does not have yet: materialize it"
        )
    tables = {}
    with lake.attach(settings, read_only=True) as connection:
        row = connection.execute(_SNAPSHOT).fetchone()
        assert row is not None
        snapshot = int(row[0])
        for name in target.tables:
            query = f"select * from lake.{name} at (version => {snapshot}) where known_at > ? and known_at <= ? order by all"  # noqa: S608
            tables[name] = connection.execute(query, [window[0] - LOOKED_BACK, window[1]]).pl()
    try:
        return Lessons(target.examples(tables, window, groups), snapshot)
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{target.name}: {', '.join(target.tables)} are not as it reads them: {error}") from error
