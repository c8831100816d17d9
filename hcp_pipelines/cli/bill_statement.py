"""`hcp bill statement CUSTOMER`: a month's statement, from the lake: bills and credits as they stand now, in whole cents."""

import html
from dataclasses import asdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli.billed import csv_of, customer_of
from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.query import run_select
from hcp_pipelines.supervisor.status import world_clock
from hcp_pipelines.workloads.billing.statement import Credit, Item, Statement, Used, statement_of

_THERE = """
select table_schema || '.' || table_name from information_schema.tables
where (table_schema, table_name) in (('core', 'hcp__billing'), ('marts', 'fct_sla_credits'))"""
_OF = "customer_id = '{customer}' and operating_day >= date '{first}' and operating_day <= date '{last}'"
_USED = f"""
select facility_id, type, rate_basis, sum(gpu_s) / 3600, sum(gpu_usd), sum(energy_mwh), sum(usd - gpu_usd)
from core.hcp__billing where {_OF} and treatment = 'billed' and usd is not null group by 1, 2, 3 order by 1, 2, 3"""  # noqa: S608
_UNPRICED = f"select count(*) from core.hcp__billing where {_OF} and usd is null"  # noqa: S608 - a UUID and dates
_CREDITS = f"""
select workload_id, operating_day, credit_fraction, credit_usd from marts.fct_sla_credits
where {_OF} and credit_usd > 0 order by operating_day, workload_id"""  # noqa: S608
_COLUMNS = ("kind", "text", "quantity", "unit", "amount_usd")
_NOTE = (
    "Without taxes. Bills and credits as they stand now; what changed of them since is in core.hcp__billing_changes."
)


@click.command("statement")
@click.argument("customer")
@click.option(
    "--month", type=click.DateTime(["%Y-%m"]), help="Of operating days, like 2025-03.  [default: the last whole one]"
)
@click.option("--json", "shape", flag_value="json", help="One JSON object.")
@click.option("--csv", "shape", flag_value="csv", help="Items with a header, the total last.")
@click.option("--html", "shape", flag_value="html", help="A plain page.")
@state_dir_option
@click.pass_context
def statement(
    context: click.Context, customer: str, month: datetime | None, shape: str | None, own_state_dir: Path | None
) -> None:
    """Show what CUSTOMER (an e-mail address, or an id) owes for a month: items in cents that add up to the total.

    Missed deadlines of real-time work are credited; taxes and reminders are no business of ours.
    """
    settings = settings_of(context, own_state_dir)
    first = _first_of(settings, month)
    last = (first.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    customer_id = customer_of(settings, customer)
    found = read_statement(settings, str(customer_id), first, last)
    if shape == "json":
        print_json({"customer_id": str(customer_id), "from": first, "to": last, **asdict(found)})
    elif shape == "csv":
        total = {"kind": "total", "text": f"{first:%Y-%m}", "amount_usd": found.total_usd}
        click.echo(csv_of(_COLUMNS, [*map(asdict, found.items), total]), nl=False)
    elif shape == "html":
        click.echo(_page(customer, first, found))
    else:
        _print(customer, first, found)


def _first_of(settings: Settings, month: datetime | None) -> date:
    if month is not None:
        return month.date()
    return (world_clock(settings).now().date().replace(day=1) - timedelta(days=1)).replace(day=1)


def read_statement(settings: Settings, customer_id: str, first: date, last: date) -> Statement:
    """What the lake has of a customer's operating days, from the first to the last; nothing where nothing was ever billed.

    Raises:
        StorageError: the lake can't be read.
    """
    of = {"customer": customer_id, "first": first, "last": last}
    there = {name for (name,) in run_select(settings, _THERE).rows}
    used, credits_, unpriced = list[Used](), list[Credit](), 0
    if "core.hcp__billing" in there:
        used = [_used(*row) for row in run_select(settings, _USED.format(**of)).rows]
        unpriced = int(run_select(settings, _UNPRICED.format(**of)).rows[0][0])
    if "marts.fct_sla_credits" in there:
        credits_ = [Credit(*row) for row in run_select(settings, _CREDITS.format(**of)).rows]
    return statement_of(used, credits_, unpriced)


def _used(
    facility_id: str | None, type_: str, basis: str, hours: float, gpu_usd: Any, mwh: float | None, energy_usd: Any
) -> Used:
    return Used(facility_id or "no facility", type_, basis, hours, gpu_usd, mwh or 0.0, energy_usd)


def _print(customer: str, first: date, found: Statement) -> None:
    if not found.items and not found.lines_without_price:
        click.echo(
            f"Nothing is billed to {customer} in {first:%Y-%m}: billing_job bills a day of the world when it is over."
        )
        return
    rows = [_shown(item) for item in found.items]
    print_table(f"{customer}, {first:%B %Y}: ${found.total_usd:,.2f}", ("item", "quantity", "$"), rows)
    for line in _notes(found):
        click.echo(line)


def _page(customer: str, first: date, found: Statement) -> str:
    """HTML that needs nothing beside it."""
    rows = [*(_shown(item) for item in found.items), ("Total", "", f"{found.total_usd:,.2f}")]
    cells = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    title = html.escape(f"Statement of {customer}, {first:%B %Y}")
    notes = "".join(f"<p>{html.escape(line)}</p>" for line in _notes(found))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body><h1>{title}</h1>'
        f"<table><tr><th>Item</th><th>Quantity</th><th>USD</th></tr>{cells}</table>{notes}</body></html>"
    )


def _shown(item: Item) -> tuple[str, str, str]:
    quantity = "" if item.quantity is None else f"{item.quantity:,.3f} {item.unit}"
    return item.text, quantity, f"{item.amount_usd:,.2f}"


def _notes(found: Statement) -> list[str]:
    lost = (
        f"{found.lines_without_price} lines have no price yet and are in no item." if found.lines_without_price else ""
    )
    return [line for line in (lost, _NOTE) if line]
