"""The lake IO manager: frames to and from DuckLake through the one write helper, a partition range at a time.

DuckDB is imported where it is used: its import starts threads, and the run server forks.
"""

from typing import Any

import dagster as dg
import polars as pl

from hcp_pipelines.settings import Settings

TIME_COLUMN = "start_at"
PARTITION_COLUMN = (
    "hcp/partition_column"  # an asset's metadata: the column its partitions are of, where it is another one
)


class LakeIOManager(dg.ConfigurableIOManager):
    """Asset `raw_ercot__rt_spp` is table `raw.ercot__rt_spp`; a partition range is replaced as a whole.

    `state_dir` is for tests; it comes from the environment otherwise.
    """

    state_dir: str = ""

    def _settings(self) -> Settings:
        return Settings.load(state_dir=self.state_dir or None)

    def handle_output(self, context: dg.OutputContext, obj: pl.DataFrame) -> None:
        """Replace the rows of the context's partitions (or the table, without partitions)."""
        from hcp_pipelines.storage import lake

        batch_id = f"{context.run_id}/{context.step_key}"
        window = None
        if context.has_asset_partitions:
            span = context.asset_partitions_time_window
            window = lake.Window(_partition_column(context), span.start, span.end)
        result = lake.write(
            self._settings(), table_of(context.asset_key), obj, batch_id=batch_id, mode="replace", window=window
        )
        context.add_output_metadata({"dagster/row_count": result.rows, "table": table_of(context.asset_key)})

    def load_input(self, context: dg.InputContext) -> pl.DataFrame:
        """The rows of the partitions asked for."""
        from hcp_pipelines.storage import lake

        query, parameters = f"select * from lake.{table_of(context.asset_key)}", list[Any]()  # noqa: S608 - own key
        if context.has_asset_partitions:
            span = context.asset_partitions_time_window
            column = _partition_column(context.upstream_output)
            query += f" where {column} >= ? and {column} < ?"
            parameters = [span.start, span.end]
        with lake.attach(self._settings(), read_only=True) as connection:
            frame: pl.DataFrame = connection.execute(f"{query} order by all", parameters).pl()
        return frame


def _partition_column(output: dg.OutputContext | None) -> str:
    metadata = output.definition_metadata if output is not None else {}
    return str(metadata.get(PARTITION_COLUMN, TIME_COLUMN))


def table_of(key: dg.AssetKey) -> str:
    """Schema and table of an asset: the layer, then the rest of its name.

    >>> table_of(dg.AssetKey("raw_ercot__rt_spp"))
    'raw.ercot__rt_spp'
    """
    layer, _, name = key.path[-1].partition("_")
    return f"{layer}.{name}"
