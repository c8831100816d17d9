"""The schema: `schema.sql` equals the migrations, and the tables have what the requirements name."""

import difflib
import subprocess
from importlib import resources

import psycopg
import pytest
from psycopg import sql

from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.storage.declared import declared_tables
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.migrate import FOLDER
from tests.support.binaries import BINARIES

SCRATCH = "schema_as_read"


def dump(dsn):
    """The whole of a database's structure and rights as pg_dump tells it, without what differs from run to run."""
    argv = [BINARIES / "pg_dump", "--schema-only", "--no-owner", "--exclude-table=schema_migrations", f"--dbname={dsn}"]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    kept = (line for line in text.splitlines() if line and not line.startswith(("--", "\\restrict", "\\unrestrict")))
    return list(kept)


def test_schema_sql_is_what_the_migrations_make(settings, database):
    admin = EmbeddedPostgres(settings).admin_dsn()
    scratch = psycopg.conninfo.make_conninfo(admin, dbname=SCRATCH)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {} template template0").format(sql.Identifier(SCRATCH)))
        try:
            with psycopg.connect(scratch) as fresh:
                fresh.execute(resources.files("hcp_pipelines.storage").joinpath("schema.sql").read_bytes())
            as_read, as_migrated = dump(scratch), dump(psycopg.conninfo.make_conninfo(admin, dbname="hcp"))
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(SCRATCH)))
    assert len(as_migrated) > 500
    difference = list(difflib.unified_diff(as_read, as_migrated, "schema.sql", "migrations", lineterm="", n=1))
    assert difference == [], "\n".join(difference)


def test_migrations_are_numbered_without_a_gap():
    numbers = [int(path.name[:4]) for path in sorted(FOLDER.glob("*.sql"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_columns_that_are_shown_are_those_that_the_tables_have(database):
    have = database.execute("""
        select c.relname, jsonb_object_agg(a.attname, a.atttypid::bigint)
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
            and c.relname <> 'schema_migrations' group by 1""").fetchall()
    ids = dict(database.execute("select name, name::regtype::oid from unnest(%s::text[]) name", (kinds(),)).fetchall())
    declared = {table: {name: ids[kind] for name, kind in own.items()} for table, own in declared_tables().items()}
    assert declared == dict(have)


def kinds():
    return sorted({kind for own in declared_tables().values() for kind in own.values()})


def columns(database, table):
    rows = database.execute(
        "select column_name, data_type, is_nullable = 'NO' from information_schema.columns where table_name = %s",
        (table,),
    )
    return {name: (kind, is_not_null) for name, kind, is_not_null in rows.fetchall()}


NAMED = {
    "facilities": "id name location capacity_mw pue status created_at updated_at",
    "resources": "id facility_id type subtype specifications status metadata created_at updated_at",
    "customers": "id name email tier created_at updated_at",
    "workloads": "customer_id type priority status requirements sla_parameters started_at completed_at cost"
    " scheduled_at updated_at created_at",
    "allocation_headers": "id workload_id status created_at updated_at",
    "allocations": "header_id workload_id resource_id allocated_at released_at usage_metrics cost",
    "price_data": "id timestamp price_type value unit source region metadata created_at stream series revision",
    "profitability_scores": "timestamp resource_id workload_type score expected_revenue estimated_cost net_profit"
    " confidence recommendation",
}


def test_the_tables_have_the_columns_that_the_requirements_name(database):
    assert [(t, c) for t, names in NAMED.items() for c in names.split() if c not in columns(database, t)] == []


def test_types_and_not_null(database):
    facilities = columns(database, "facilities")
    assert facilities["location"] == ("jsonb", True)
    assert facilities["status"] == ("text", True)
    prices = columns(database, "price_data")
    assert prices["value"] == ("double precision", True)  # ADR 4
    assert prices["timestamp"] == ("timestamp with time zone", True)
    assert prices["metadata"] == ("jsonb", True)
    every = database.execute(
        "select count(*) from information_schema.columns where data_type = 'timestamp without time zone'"
    )
    assert every.fetchone() == (0,), "instants are aware"


INDEXES = {
    "idx_resources_facility": "resources USING btree (facility_id)",
    "idx_resources_type_status": "resources USING btree (type, status)",
    "idx_workloads_customer": "workloads USING btree (customer_id)",
    "idx_workloads_status": "workloads USING btree (status)",
    "idx_workloads_type_status": "workloads USING btree (type, status)",
    "idx_allocations_workload": "allocations USING btree (workload_id)",
    "idx_allocations_resource": "allocations USING btree (resource_id)",
    "idx_active_allocations": "allocations USING btree (resource_id) WHERE (released_at IS NULL)",
    "idx_price_data_type_time": 'price_data USING btree (price_type, "timestamp" DESC)',
    "idx_price_data_source": "price_data USING btree (source)",
    "idx_profitability_resource_time": 'profitability_scores USING btree (resource_id, "timestamp" DESC)',
}


def test_the_indexes_that_the_requirements_name(database):
    rows = database.execute("select indexname, indexdef from pg_indexes where indexname = any(%s)", (list(INDEXES),))
    found = dict(rows.fetchall())
    assert {name: definition.partition(" ON public.")[2] for name, definition in found.items()} == INDEXES
    assert [name for name, definition in found.items() if "UNIQUE" in definition] == ["idx_active_allocations"]


@pytest.fixture
def workload(database):
    """A customer's workload and a fleet, in which rows can be tried."""
    apply(database, demo_facilities(1, 20)[0], "tester")
    customer = database.execute("insert into customers (name, email) values ('a', 'a@x') returning id").fetchone()[0]
    return database.execute(
        """insert into workloads (customer_id, type, priority, requirements)
           values (%s, 'model_training', 1, '{}') returning id""",
        (customer,),
    ).fetchone()[0]


ALLOWED = {  # workloads.status: test_workload_lifecycle.py
    "workloads.type": "ai_inference_realtime ai_inference_batch bitcoin_mining model_training",
    "customers.tier": "free pro enterprise",
    "resources.status": "available allocated maintenance failed",
    "resources.type": "GPU ASIC CPU",
    "facilities.status": "planned active maintenance retired",
    "facilities.control_mode": "observe approve auto",
}


def test_the_values_that_a_column_takes(database, workload):
    for place, values in ALLOWED.items():
        statement = sql.SQL("update {} set {} = %s").format(*map(sql.Identifier, place.split(".")))
        for value in values.split():
            database.execute(statement, (value,))
        with pytest.raises(psycopg.errors.CheckViolation):
            database.execute(statement, ("something else",))


def test_values_outside_their_range_are_refused(database, workload):
    for assignment in (
        "workloads set priority = 0",
        "workloads set priority = 11",
        "facilities set capacity_mw = 0",
        "queue_rules set half_life_s = 'NaN'",
        "queue_rules set level_after_s = 'infinity'",
        "queue_levels set weight = 1e-300",
        "tier_quotas set weight = 'NaN'",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            database.execute(f"update {assignment}")
    for assignment in (
        "facilities set location = null",
        "facilities set status = null",
        "workloads set priority = null",
    ):
        with pytest.raises(psycopg.errors.NotNullViolation):
            database.execute(f"update {assignment}")


def test_an_email_belongs_to_one_customer(database, workload):
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute("insert into customers (name, email) values ('b', 'a@x')")


def allocate(database, workload):
    """The first device, to another workload of the same customer each time."""
    workload = database.execute(
        """insert into workloads (customer_id, type, priority, requirements)
           select customer_id, type, priority, requirements from workloads where id = %s returning id""",
        (workload,),
    ).fetchone()[0]
    header = database.execute("insert into allocation_headers (workload_id) values (%s) returning id", (workload,))
    database.execute(
        """insert into allocations (header_id, workload_id, resource_id)
           values (%s, %s, (select id from resources order by id limit 1))""",
        (header.fetchone()[0], workload),
    )


def test_nothing_is_allocated_twice_at_a_time(database, workload):
    allocate(database, workload)
    with pytest.raises(psycopg.errors.UniqueViolation, match="idx_active_allocations"):
        allocate(database, workload)
    database.execute("update allocations set released_at = now()")
    allocate(database, workload)


def test_the_same_megawatt_is_sold_once(database, workload):
    offer = """insert into grid_obligations
        (facility_id, programme, status, mw, tranche, during, baseline_rule, notice_s, duration_s, recovery_s)
        select id, 'ECRS', %s, 5, %s, tstzrange(%s, %s), 'none', 600, 3600, 0 from facilities"""
    noon, two, three = "2025-01-01T12:00Z", "2025-01-01T14:00Z", "2025-01-01T15:00Z"
    database.execute(offer, ("awarded", "a", noon, two))
    database.execute(offer, ("awarded", "b", noon, two))
    database.execute(offer, ("awarded", "a", two, three))
    database.execute(offer, ("offered", "a", noon, three))
    with pytest.raises(psycopg.errors.ExclusionViolation):
        database.execute(offer, ("armed", "a", "2025-01-01T13:59Z", three))
