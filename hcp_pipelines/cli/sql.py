"""`hcp sql`: one SELECT on the lake, as lake_reader."""

import csv
import io
from pathlib import Path

import click
import orjson

from hcp_pipelines.cli.common import print_table, settings_of, state_dir_option
from hcp_pipelines.storage.query import QueryResult, run_select


@click.command("sql", context_settings={"ignore_unknown_options": True})  # a query may begin with a comment
@click.argument("query")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@state_dir_option
@click.pass_context
def sql(context: click.Context, query: str, form: str, own_state_dir: Path | None) -> None:
    """Run one read-only SQL query on the lake (schemas raw, core, marts).

    Example: hcp sql "select * from marts.fct_switches order by commanded_at desc limit 10"
    """
    result = run_select(settings_of(context, own_state_dir), query)
    if form == "table":
        print_table("", result.columns, result.rows)
        click.echo(f"{len(result.rows)} rows", err=True)
    else:
        click.echo(_csv(result) if form == "csv" else _json(result), nl=False)


def _csv(result: QueryResult) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(result.columns)
    writer.writerows(result.rows)
    return out.getvalue()


def _json(result: QueryResult) -> str:
    rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    return orjson.dumps(rows, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(sql)
