"""Rows of the lake as the collector writes them: in all columns of their table, so that tests of one lake get along."""

import polars as pl

from hcp_pipelines.collector.tables import APPENDED

EMPTY = {table.target: pl.from_arrow(table.schema.empty_table()) for table in APPENDED}


def whole(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with every column of its table."""
    return pl.concat([EMPTY[table], frame], how="diagonal_relaxed")
