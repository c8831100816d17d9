"""Reading tables of the lake that may not be there yet, over one attached connection: attaching takes longer than reading."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import polars as pl

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.orchestration.lake_state import relations
from hcp_pipelines.settings import Settings

if TYPE_CHECKING:
    import duckdb  # not at run time: its import starts threads, and the run server forks


class Reader:
    """An attached lake and what is in it."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection", there: frozenset[str]) -> None:
        self._connection = connection
        self._there = there

    def has(self, *tables: str) -> bool:
        """Whether all of these are there."""
        return self._there.issuperset(tables)

    def rows(
        self, sql: str, parameters: Sequence[Any] = (), frames: Mapping[str, pl.DataFrame] | None = None
    ) -> pl.DataFrame:
        """What a query answers; `frames` are tables for it alone, by name.

        Raises:
            StorageError: the lake refuses, or can't be reached.
        """
        import duckdb

        from hcp_pipelines.storage.lake import without_secrets

        given = frames or {}
        try:
            for name, frame in given.items():
                self._connection.register(name, frame.to_arrow())
            return self._connection.execute(sql, list(parameters)).pl()
        except duckdb.Error as error:
            raise StorageError(f"the lake can't be read: {without_secrets(error)}") from error
        finally:
            for name in given:
                self._connection.unregister(name)

    def columns(self, table: str) -> frozenset[str]:
        """The columns of a table that is there."""
        return frozenset(self.rows(f"describe lake.{table}")["column_name"])

    def table(self, name: str, sql: str, parameters: Sequence[Any], schema: Mapping[str, Any]) -> pl.DataFrame:
        """What a query of one table answers, in these columns; nothing where there is no such table."""
        if not self.has(name):
            return pl.DataFrame(schema=dict(schema))
        return self.rows(sql, parameters).select(pl.col(column).cast(kind) for column, kind in schema.items())


@contextmanager
def reading(settings: Settings) -> Iterator[Reader]:
    """A reader of the lake as it is now."""
    from hcp_pipelines.storage import lake

    there = relations(settings)
    with lake.attach(settings, read_only=True) as connection:
        yield Reader(connection, there)
