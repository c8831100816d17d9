"""The statements of storage/sql by name, and how those that read a history are run. Typed wrappers are beside their tables."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, LiteralString

import psycopg

HISTORY_ROW_LIMIT = 1_000_000


@cache
def sql(name: str) -> LiteralString:
    """The text of storage/sql/NAME.sql."""
    return resources.files("hcp_pipelines.storage").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def history_rows(
    connection: psycopg.Connection[tuple[Any, ...]], name: str, of: Mapping[str, str], start: datetime, end: datetime
) -> list[tuple[Any, ...]]:
    """The rows of storage/sql/NAME.sql over [start, end) of what `of` names, in the statement's order.

    Raises:
        ValueError: more rows than HISTORY_ROW_LIMIT: read a shorter window, or the lake.
    """
    window = {**of, "start": start, "end": end, "row_limit": HISTORY_ROW_LIMIT + 1}
    rows = connection.execute(sql(name), window).fetchall()
    if len(rows) > HISTORY_ROW_LIMIT:
        said = ", ".join(of.values())
        raise ValueError(f"more than {HISTORY_ROW_LIMIT} rows of {said}: read a shorter window, or the lake.")
    return rows
