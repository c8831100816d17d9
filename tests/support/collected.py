"""Rows of the lake as the collector writes them: in all columns of their table, so that tests of one lake get along."""

import polars as pl

from hcp_pipelines.collector import switch_log
from hcp_pipelines.collector.tables import APPENDED, REPLACED

EMPTY = {table.target: pl.DataFrame(table.schema.empty_table()) for table in (*APPENDED, *REPLACED)}
EMPTY[switch_log.TABLE] = pl.DataFrame(switch_log.SCHEMA.empty_table())


def whole(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with every column of its table, in its type."""
    return pl.concat([EMPTY[table], frame], how="diagonal_relaxed").cast(dict(EMPTY[table].schema))
