"""A cluster's recorded tasks as changes of demand. Their seconds count from an instant that nobody knows: a Monday is assumed."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.learnable.targets.demand import COLUMNS

BEGAN = datetime(2023, 1, 2, tzinfo=UTC)
CLASSES = {"LS": "latency_sensitive", "BE": "best_effort"}
READ = ("num_gpu", "gpu_milli", "qos", "creation_s", "deletion_s")


def trace_changes(file: Path) -> pl.DataFrame:
    """Rows of `demand.COLUMNS` from a file of tasks: GPUs asked for from creation to deletion; part of one as its thousandths.

    Raises:
        ConfigError: the file is no table of tasks.
    """
    try:
        tasks = pl.read_parquet(file, columns=list(READ))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ConfigError(f"{file} has not the columns {', '.join(READ)}: {error}") from error
    gpus = (
        pl.when(pl.col("num_gpu") == 1).then(pl.col("gpu_milli") / 1000).otherwise(pl.col("num_gpu").cast(pl.Float64))
    )
    began = pl.lit(BEGAN, INSTANT) + pl.duration(seconds=pl.col("creation_s"))
    asking = tasks.filter((pl.col("num_gpu") > 0) & (pl.col("deletion_s") > pl.col("creation_s"))).select(
        demand_class=pl.col("qos").replace_strict(CLASSES, default="other"),
        gpus=gpus,
        began_at=began,
        ended_at=pl.lit(BEGAN, INSTANT) + pl.duration(seconds=pl.col("deletion_s")),
    )
    begins = asking.with_columns(known_at=pl.col("began_at"))
    ends = asking.with_columns(known_at=pl.col("ended_at"), gpus=-pl.col("gpus"))
    return pl.concat(each.select(pl.col(name).cast(kind) for name, kind in COLUMNS.items()) for each in (begins, ends))
