"""Tables of recorded series: Parquet or CSV, told apart by what is in the file rather than by its name; instants as UTC.

What the rows say is checked in `series.py`. Which files are read is in `folder.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from hcp_pipelines.optimizer.backtest.series import DAY, POINT, START, SeriesError

INSTANT_LIKE = "an instant like 2024-01-01T00:00:00Z"
NAMES = (".parquet", ".pq", ".csv", ".csv.gz")  # of the files of a folder that are looked at, small or large letters
_PARQUET = b"PAR1"  # its first bytes
_ISO = r"^\s*\d{4}-\d{2}-\d{2}"  # 3/1/2024 is a day in January or in March: not guessed


def scan(path: Path) -> pl.LazyFrame:
    """A Parquet or CSV file (gzipped, too), unread; CSV as text, which is no number for whoever wants one."""
    with path.open("rb") as file:
        is_parquet = file.read(len(_PARQUET)) == _PARQUET
    return pl.scan_parquet(path) if is_parquet else pl.scan_csv(path, infer_schema=False)


def column_names(path: Path) -> list[str]:
    """The columns of a file.

    Raises:
        SeriesError: it can't be read.
    """
    with _explained(path):
        return scan(path).collect_schema().names()


def read_columns(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """Columns of a Parquet or CSV file: instants as UTC, points as text.

    Raises:
        SeriesError: no such file, no table, or a column is missing.
    """
    with _explained(path):
        frame = scan(path)
        there = frame.collect_schema().names()
        missing = [c for c in columns if c not in there]
        if missing:
            raise SeriesError(f"{path.name}: no column {', '.join(missing)}; it has {', '.join(there)}")
        found = frame.select(columns).collect()
    return found.with_columns(_read_as(name, kind, path) for name, kind in found.schema.items())


def _read_as(name: str, kind: pl.DataType, path: Path) -> pl.Expr:
    """A column: instants as UTC, dates and points as what they are, all else as it stands. What is none is null."""
    column = pl.col(name)
    if name == POINT:
        return column.cast(pl.String)
    if name in (START, DAY) and kind == pl.String:
        dated = pl.when(column.str.contains(_ISO)).then(column.str.strip_chars())
        if name == DAY:
            return dated.str.head(10).str.to_date("%Y-%m-%d", strict=False).alias(name)
        return dated.str.to_datetime(time_unit="us", time_zone="UTC", strict=False).alias(name)
    if name != START:
        return column
    if not isinstance(kind, pl.Datetime):
        raise SeriesError(f"{path.name}: {START} is {kind}: must be {INSTANT_LIKE}")
    column = column.dt.cast_time_unit("us")
    return column.dt.replace_time_zone("UTC") if kind.time_zone is None else column.dt.convert_time_zone("UTC")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What is wrong with a file, in one line."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise SeriesError(
            f"{path.name}: can't be read: {reason}. It must be a Parquet file, or CSV with commas and a line of names."
        ) from error
