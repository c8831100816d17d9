"""Settled lines in the shape of the market's own statement, and the two held against each other.

The market bills a participant by operating day, charge type and interval of that day (quarters of an hour for energy, hours for
capacity; 23 and 25 hours when clocks change), charges above zero, payments below. What is no business of the market's (mining,
the contract, penalties of programmes) has no charge here. Source: ERCOT's names of charges, as generally known: no statement of
its was seen.
"""

import io
from collections.abc import Mapping
from datetime import datetime, time
from typing import Any, Final

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.economics.settlement import MONEY
from hcp_pipelines.markets.central import from_local

ENERGY: Final = "RTEIAMT"
CAPACITY: Final[Mapping[str, str]] = {
    "REGUP": "PCRUAMT", "REGDN": "PCRDAMT", "RRS": "PCRRAMT", "ECRS": "PCECRAMT", "NSPIN": "PCNSAMT",
}  # fmt: skip
STATEMENTS: Final = ("INITIAL", "FINAL", "TRUEUP")  # each in the place of the one before
OURS: Final = "SHADOW"
KEY: Final = ("operating_day", "resource", "charge_type", "interval")
STATEMENT: Final[dict[str, Any]] = {
    "operating_day": pl.Date, "statement": pl.String, "resource": pl.String, "charge_type": pl.String, "interval": pl.Int64,
    "quantity": pl.Float64, "amount_usd": MONEY,
}  # fmt: skip
COMPARED: Final[dict[str, Any]] = {
    "operating_day": pl.Date, "resource": pl.String, "charge_type": pl.String, "their_usd": MONEY, "our_usd": MONEY,
    "difference_usd": MONEY, "intervals": pl.Int64, "differing": pl.Int64, "only_theirs": pl.Int64, "only_ours": pl.Int64,
}  # fmt: skip
_NEEDED: Final = (*KEY, "amount_usd")
_QUARTER_MIN: Final = 15


def statement_of(lines: pl.DataFrame) -> pl.DataFrame:
    """What the market should bill: columns STATEMENT; an amount is null where a line of it has no price yet.

    Args:
        lines: of `core.hcp__settlement`: `start_at`, `operating_day`, `facility_id`, `kind`, `detail`, `quantity`, `usd`.
    """
    product = pl.col("detail").replace_strict(dict(CAPACITY), default=None)
    charge = pl.when(pl.col("kind") == "energy").then(pl.lit(ENERGY)).when(pl.col("kind") == "reserves").then(product)
    billed = lines.with_columns(charge_type=charge).drop_nulls("charge_type")
    begins = {day: from_local(datetime.combine(day, time.min)) for day in billed["operating_day"].unique()}
    minutes = (
        pl.col("start_at") - pl.col("operating_day").replace_strict(begins, return_dtype=INSTANT)
    ).dt.total_minutes()
    length_min = pl.when(pl.col("charge_type") == ENERGY).then(_QUARTER_MIN).otherwise(60)
    amount = pl.when(pl.col("usd").null_count() == 0).then(-pl.col("usd").sum())
    return (
        billed.with_columns(
            interval=minutes // length_min + 1, resource="facility_id", statement=pl.lit(OURS, pl.String)
        )
        .group_by(*KEY, "statement")
        .agg(pl.col("quantity").sum(), amount_usd=amount.first().cast(MONEY))
        .select(pl.col(name).cast(kind) for name, kind in STATEMENT.items())
        .sort(KEY)
    )


def read_statement(text: bytes, name: str) -> pl.DataFrame:
    """The market's statement: KEY and `amount_usd`. Of several statements of a row the newest counts.

    Args:
        text: CSV with a header: these columns, and `statement` (one of STATEMENTS, or ours) if there are several.
        name: what it is called in messages.

    Raises:
        ConfigError: a column is missing, a value is none, or a row is there twice.
    """
    try:
        raw = pl.read_csv(io.BytesIO(text), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{name}: no CSV with a header ({str(error).splitlines()[0][:200]})") from None
    if lacking := [column for column in _NEEDED if column not in raw.columns]:
        raise ConfigError(f"{name}: no column {', '.join(lacking)}; a statement has {', '.join(_NEEDED)}")
    told = raw.with_columns(
        statement=pl.col("statement").str.to_uppercase() if "statement" in raw.columns else pl.lit(OURS)
    )
    ranks = {OURS: -1} | {one: rank for rank, one in enumerate(STATEMENTS)}
    cast = told.select(
        pl.col("operating_day").str.to_date("%Y-%m-%d", strict=False),
        *(pl.col(column).cast(STATEMENT[column], strict=False) for column in _NEEDED[1:]),
        rank=pl.col("statement").replace_strict(ranks, default=None, return_dtype=pl.Int64),
    )
    bad = cast.with_row_index("line", offset=2).filter(pl.any_horizontal(pl.all().is_null()) | (pl.col("interval") < 1))
    if len(bad):
        kinds = ", ".join((OURS, *STATEMENTS))
        wanted = f"a day yyyy-mm-dd, an interval from 1 and an amount are needed, a statement is one of {kinds}"
        raise ConfigError(f"{name}, line {bad['line'][0]}: {wanted}")
    if cast.select(*KEY, "rank").is_duplicated().any():
        twice = cast.filter(cast.select(*KEY, "rank").is_duplicated()).row(0, named=True)
        raise ConfigError(f"{name}: {' '.join(str(twice[part]) for part in KEY)} is there twice")
    return cast.sort("rank").unique(KEY, keep="last", maintain_order=True).drop("rank").sort(KEY)


def compared(ours: pl.DataFrame, theirs: pl.DataFrame, tolerance_usd: float) -> pl.DataFrame:
    """Theirs against ours by day, resource and charge, of the days and resources that theirs has: columns COMPARED.

    An interval differs where it is on one side only, has no amount yet, or is further off than the tolerance.
    """
    of = theirs.select("operating_day", "resource").unique()
    mine = ours.join(of, on=["operating_day", "resource"], how="semi").select(*KEY, our_usd="amount_usd", is_ours=True)
    both = theirs.select(*KEY, their_usd="amount_usd", is_theirs=True).join(mine, on=KEY, how="full", coalesce=True)
    off = (pl.col("their_usd") - pl.col("our_usd")).abs() > pl.lit(tolerance_usd).cast(MONEY)
    return (
        both.group_by("operating_day", "resource", "charge_type")
        .agg(
            pl.col("their_usd", "our_usd").sum().cast(MONEY),
            intervals=pl.len(),
            differing=off.fill_null(value=True).sum(),
            only_theirs=pl.col("is_ours").is_null().sum(),
            only_ours=pl.col("is_theirs").is_null().sum(),
        )
        .with_columns(difference_usd=(pl.col("their_usd") - pl.col("our_usd")).cast(MONEY))
        .select(pl.col(name).cast(kind) for name, kind in COMPARED.items())
        .sort("operating_day", "resource", "charge_type")
    )
