"""Terms of bills by date in Postgres: noted when they differ from those in force, read when days are billed.

`billing_terms` is only ever added to. What is new holds from now on (world time); what is put right from an earlier day on
(`hcp bill terms --from DAY`) has the days since then billed again.
"""

from datetime import datetime
from typing import Any

import polars as pl
import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from hcp_pipelines.fleet.inventory import load_inventories
from hcp_pipelines.orchestration.billing.read import places
from hcp_pipelines.settings import Settings
from hcp_pipelines.workloads.billing.terms import BEGINNING, Dated, OwnRate, Terms, in_force, places_on

Connection = psycopg.Connection[Any]
_TIERS = "select tier, credit_fraction from tier_quotas order by tier"
_KEPT = "select id, valid_from, noted_at, terms, credit_fractions from billing_terms order by id"
_NOTE = "insert into billing_terms (valid_from, noted_at, terms, credit_fractions, reason) values (%s, %s, %s, %s, %s)"
_RATES = """
    select id, customer_id::text, gpu_type, usd_per_gpu_hour::float8, valid_from, noted_at from customer_rates order by id"""


def present(connection: Connection, settings: Settings) -> Terms:
    """The terms as facility files, tiers and settings have them now."""
    fractions = dict(connection.execute(_TIERS).fetchall())
    return Terms(places(load_inventories(connection)), fractions, settings.bill_energy == "charged")


def kept(connection: Connection) -> list[Dated]:
    """All terms that were noted."""
    rows = connection.execute(_KEPT).fetchall()
    return [Dated(id_, since, noted, Terms.of(terms, shares)) for id_, since, noted, terms, shares in rows]


def kept_rates(connection: Connection) -> list[OwnRate]:
    """All rates that customers ever agreed on."""
    with connection.cursor(row_factory=class_row(OwnRate)) as cursor:
        return cursor.execute(_RATES).fetchall()


def note(connection: Connection, settings: Settings, now: datetime) -> list[Dated]:
    """All terms, after the present ones were noted where they are not those in force: from now on, the first from ever."""
    known, own = kept(connection), present(connection, settings)
    last = in_force(known, now)
    if last is not None and last.terms.digest == own.digest:
        return known
    add(connection, own, BEGINNING if last is None else now, now, "as facility files, tiers and settings have them")
    return kept(connection)


def add(connection: Connection, terms: Terms, valid_from: datetime, now: datetime, reason: str) -> None:
    """Note terms that hold from an instant on."""
    connection.execute(_NOTE, (valid_from, now, Jsonb(terms.document()), Jsonb(dict(terms.credit_fractions)), reason))


def points_by_day(known: list[Dated], days: list[datetime]) -> pl.DataFrame:
    """The settlement point that each facility's bills go by, by day: `day_at`, `facility_id`, `settlement_point`."""
    frames = [
        places_on(known, day).terms.select(pl.lit(day).alias("day_at"), "facility_id", "settlement_point")
        for day in days
    ]
    empty = pl.DataFrame(
        schema={"day_at": pl.Datetime("us", "UTC"), "facility_id": pl.String, "settlement_point": pl.String}
    )
    return pl.concat([empty, *(frame.cast(empty.schema) for frame in frames)])
