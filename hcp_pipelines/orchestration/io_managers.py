"""The lake IO manager: frames to and from DuckLake through the one write helper, a partition range at a time.

DuckDB is imported where it is used: its import starts threads, and the run server forks.
"""

from typing import Any

import dagster as dg
import polars as pl

from hcp_pipelines.runtime.process import read_clock
from hcp_pipelines.settings import Settings

TIME_COLUMN = "start_at"
SHOWN_ROWS = 40
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


class HistoryIOManager(LakeIOManager):
    """Write, audit, publish (`history.publish`): only good rows reach the table, bad ones and revisions are kept beside it."""

    def handle_output(self, context: dg.OutputContext, obj: pl.DataFrame) -> None:
        """Publish the rows of the context's partitions, and say what became of them."""
        from hcp_pipelines.orchestration.history.publish import Run, publish
        from hcp_pipelines.orchestration.history.tables import BY_NAME

        settings, span = self._settings(), context.asset_partitions_time_window
        run = Run(context.run_id, read_clock(settings).now())
        done = publish(settings, BY_NAME[table_of(context.asset_key)], obj, (span.start, span.end), run)
        told = {
            "dagster/row_count": done.rows,
            "rejected": done.rejected,
            "revised": done.revised,
            "withdrawn": done.withdrawn,
        }
        context.add_output_metadata({**told, "table": table_of(context.asset_key)})
        if done.rejected:
            context.add_output_metadata({"rejected_rows": shown(done.rejected_rows)})


def shown(frame: pl.DataFrame) -> dg.MetadataValue:
    """The first rows of a frame as a table for the UI."""
    first = frame.head(SHOWN_ROWS)
    header = "| " + " | ".join(first.columns) + " |\n|" + "---|" * len(first.columns)
    rows = ["| " + " | ".join(str(value) for value in row) + " |" for row in first.iter_rows()]
    more = [f"\n… and {len(frame) - len(first)} more"] if len(frame) > len(first) else []
    return dg.MetadataValue.md("\n".join([header, *rows, *more]))


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
