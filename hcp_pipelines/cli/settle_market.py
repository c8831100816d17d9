"""`hcp settle --market` and `--against FILE`: what was settled in the shape of the market's statement, and held against one."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hcp_pipelines.cli.billed import csv_of
from hcp_pipelines.cli.common import print_json, print_table
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.query import run_select

if TYPE_CHECKING:
    import polars as pl  # not for `hcp --help`

MOST_BYTES = 64 * 1024 * 1024
_LINES = """
select start_at, operating_day, facility_id, kind, detail, quantity, usd from core.hcp__settlement
where kind in ('energy', 'reserves') and operating_day >= date '{first}' and operating_day <= date '{last}' {facility}"""


def print_statement(settings: Settings, first: date, last: date, facility: str | None) -> None:
    """The statement that the market should send, as CSV."""
    found = _ours(settings, first, last, facility)
    click.echo(csv_of(found.columns, found.to_dicts()), nl=False)


def print_comparison(
    settings: Settings, path: Path, facility: str | None, tolerance_usd: float, *, as_json: bool
) -> bool:
    """The market's statement beside ours; whether nothing differs."""
    import polars as pl

    from hcp_pipelines.optimizer.settlement.statements import compared, read_statement

    if path.stat().st_size > MOST_BYTES:
        raise ConfigError(f"{path}: {path.stat().st_size} bytes; at most {MOST_BYTES}: compare it in parts")
    theirs = read_statement(path.read_bytes(), str(path))
    if facility is not None:
        theirs = theirs.filter(pl.col("resource") == facility)
    if theirs.is_empty():
        raise ConfigError(f"{path}: no row{f' of {facility}' if facility else ''}")
    first, last = theirs["operating_day"].min(), theirs["operating_day"].max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    found = compared(_ours(settings, first, last, facility), theirs, tolerance_usd)
    differing = int(found["differing"].sum())
    if as_json:
        print_json({"from": first, "to": last, "differing": differing, "charges": found.to_dicts()})
    else:
        columns = (
            "operating day",
            "resource",
            "charge",
            "theirs $",
            "ours $",
            "difference $",
            "intervals",
            "differing",
        )
        print_table("The market's statement against what was settled; charges above zero", columns, _rows(found))
        click.echo(_verdict(found, differing))
    return differing == 0


def _ours(settings: Settings, first: date, last: date, facility: str | None) -> "pl.DataFrame":
    import polars as pl

    from hcp_pipelines.domain.columns import INSTANT
    from hcp_pipelines.economics.settlement import MONEY
    from hcp_pipelines.optimizer.settlement.statements import statement_of

    quoted = "and facility_id = '" + facility.replace("'", "''") + "'" if facility else ""
    told = run_select(settings, _LINES.format(first=first, last=last, facility=quoted))
    schema: dict[str, Any] = {
        "start_at": INSTANT, "operating_day": pl.Date, "facility_id": pl.String, "kind": pl.String, "detail": pl.String,
        "quantity": pl.Float64, "usd": MONEY,
    }  # fmt: skip
    return statement_of(pl.DataFrame(told.rows, schema=schema, orient="row"))


def _rows(found: "pl.DataFrame") -> list[tuple[str, ...]]:
    return [
        (
            str(row["operating_day"]), row["resource"], row["charge_type"], *(f"{row[name]:,.2f}" for name in _DOLLARS),
            f"{row['intervals']:,}", f"{row['differing']:,}",
        )
        for row in found.to_dicts()
    ]  # fmt: skip


_DOLLARS = ("their_usd", "our_usd", "difference_usd")


def _verdict(found: "pl.DataFrame", differing: int) -> str:
    if not differing:
        return "They agree."
    theirs, ours = int(found["only_theirs"].sum()), int(found["only_ours"].sum())
    return f"{differing} intervals differ: {theirs} are in the statement alone, {ours} in what was settled alone."
