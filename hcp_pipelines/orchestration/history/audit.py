"""Good rows apart from bad ones, with the reason: each table's model as a pandera schema, made when it is first needed."""

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.orchestration.history.model import Model

if TYPE_CHECKING:
    import pandera.polars as pa  # not at run time: two seconds

REASONS_SHOWN = 5
WHY = "rejected_for"


@dataclass(frozen=True)
class Audited:
    """The rows that hold, and those that don't with a column `rejected_for`."""

    good: pl.DataFrame
    bad: pl.DataFrame


def audit(model: Model, frame: pl.DataFrame) -> Audited:
    """Each row is in one of the two. Rows that are the same in all columns are one row, and no mistake.

    Raises:
        StorageError: the frame has other columns than its table, or other types: no row of it can be believed.
    """
    import pandera.errors

    rows = frame.unique(maintain_order=True).with_row_index("row")
    try:
        _schema(model).validate(rows.drop("row"), lazy=True)
    except pandera.errors.SchemaErrors as error:
        reasons = _reasons(error.failure_cases)
    else:
        return Audited(rows.drop("row"), rows.drop("row").clear().with_columns(pl.lit("").alias(WHY)))
    bad = rows.join(reasons, on="row", how="inner", maintain_order="left")
    return Audited(rows.join(reasons, on="row", how="anti", maintain_order="left").drop("row"), bad.drop("row"))


def rows_as_json(frame: pl.DataFrame) -> list[str]:
    """Each row as JSON, instants in ISO form."""
    return [json.dumps(row, default=str, sort_keys=True) for row in frame.iter_rows(named=True)]


def _reasons(cases: pl.DataFrame) -> pl.DataFrame:
    """What is wrong with each row, in one line."""
    whole = cases.filter(pl.col("index").is_null())
    if len(whole):
        why = "; ".join(
            f"{case['column'] or case['failure_case']}: {case['check']}" for case in whole.iter_rows(named=True)
        )
        raise StorageError(f"not the table's columns: {why}. Has the source changed?")
    where = pl.coalesce(pl.col("column"), pl.lit("row"))
    told = cases.select(pl.col("index").cast(pl.UInt32).alias("row"), (where + ": " + pl.col("check")).alias(WHY))
    return told.group_by("row").agg(pl.col(WHY).unique(maintain_order=True).head(REASONS_SHOWN).str.join("; "))


@cache
def _schema(model: Model) -> "pa.DataFrameSchema":
    import pandera.polars as pa

    columns = {
        name: pa.Column(kind, _checks(model, name, pa), nullable=name in model.nullable)
        for name, kind in model.columns.items()
    }
    rules = [_rule(name, claim, pa) for name, claim in model.rules.items()]
    return pa.DataFrameSchema(columns, checks=rules, unique=list(model.unique) or None, strict=model.is_whole)


def _checks(model: Model, column: str, pa: Any) -> list[Any]:
    if column not in model.bounds:
        return []
    low, high = model.bounds[column]
    return [pa.Check.in_range(low, high)]


def _rule(name: str, claim: pl.Expr, pa: Any) -> Any:
    return pa.Check(lambda data: data.lazyframe.select(claim.fill_null(value=False)), name=name, error=name)
