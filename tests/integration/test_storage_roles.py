"""Least rights: what each login may not do is refused by the server, whatever the client attempts."""

import stat
from pathlib import Path

import duckdb
import polars as pl
import psycopg
import pytest

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.bootstrap import _make_role
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.postgres import connect, dsn
from hcp_pipelines.storage.roles import HOME_DATABASE, Database, Role
from hcp_pipelines.storage.secrets import password

JOURNAL = """
    insert into switch_journal (event, facility_id, owner, epoch, command_id, assignment, generation, group_id, to_state,
                                devices, reason, simulated_at)
    values ('commanded', 'hou-1', 'a', 1, gen_random_uuid(), 0, 1, 'g', 0, 1, 'test', now())"""
FACILITY = """
    insert into facilities (id, name, location, capacity_mw, pue, settlement_point, document_version, document_digest, document)
    values ('hou-1', 'Houston', '{}', 1, 1, 'HB_HOUSTON', 1, 'x', '{}')"""
TICK = """
    insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, received_at)
    values ('btc.usd', 'coinbase', now(), 'btc', 1, 'USD', 'test', 'good', now())"""
POLICY = """
    insert into policies (facility_id, status, basis_tick_id, solved_at, refresh_due_at, expires_at, inventory_generation,
                          obligations_version, schema_version, digest, body)
    select 'hou-1', 'live', max(id), now(), now(), now(), 1, 0, 1, 'x', '{}' from price_data"""
DENIED = psycopg.errors.InsufficientPrivilege


def refused(settings, role, *statements):
    with connect(settings, role) as connection:
        for statement in statements:
            with pytest.raises(DENIED):
                connection.execute(statement)


@pytest.fixture
def fleet(database):
    database.execute(FACILITY)
    return database


def test_the_feed_records_ticks_and_nothing_else(settings, fleet):
    with connect(settings, Role.FEED) as feed:
        feed.execute(TICK)
    refused(settings, Role.FEED, POLICY, JOURNAL, "update price_data set value = 2", "delete from price_data")
    refused(settings, Role.FEED, "select * from switch_journal", "select * from customers", "create table mine ()")


SOLD = """
    insert into grid_obligations (facility_id, programme, status, mw, tranche, during, baseline_rule, notice_s, duration_s,
                                  recovery_s {more})
    values ('hou-1', 'DR', '{status}', 1, '{tranche}', {during}, 'x', 1, 1, 1 {value})"""
SPAN = "tstzrange(now(), now() + interval '1 hour')"


def sold(status="awarded", during=SPAN, tranche="a", more="", value=""):
    return SOLD.format(status=status, during=during, tranche=tranche, more=more, value=value)


def test_the_feed_takes_obligations_on_and_gives_back_its_own_before_they_are_armed(settings, fleet):
    fleet.execute(sold(tranche="operators"))
    give_back = "update grid_obligations set status = 'withdrawn' where tranche = '{}'".format
    with connect(settings, Role.FEED) as feed:
        for tranche in ("a", "b"):
            feed.execute(sold(tranche=tranche, more=", taken_by", value=", 'hcp_admin'"))
        feed.execute(give_back("a"))
    refused(settings, Role.FEED, give_back("operators"), "update grid_obligations set status = 'settled'")
    refused(settings, Role.FEED, "update grid_obligations set reason = 'x' where tranche = 'b'")
    refused(settings, Role.FEED, sold("deployed", tranche="c"), sold(during="tstzrange(now(), null)", tranche="c"))
    refused(settings, Role.FEED, sold(during="tstzrange(now(), 'infinity')", tranche="c"))
    refused(settings, Role.FEED, sold(tranche="c", more=", baseline_mw", value=", 9"))
    fleet.execute("update grid_obligations set status = 'armed' where tranche = 'b'")
    refused(settings, Role.FEED, give_back("b"))
    rows = fleet.execute("select tranche, status, taken_by from grid_obligations order by id").fetchall()
    expected = [("operators", "awarded", "hcp_admin"), ("a", "withdrawn", "hcp_feed"), ("b", "armed", "hcp_feed")]
    assert rows == expected


def test_the_feed_speaks_in_its_own_name_alone(settings, fleet):
    line = "insert into audit_log (actor, action, subject) values ('{}', 'override.approved', 'override/1')".format
    signal = """
        insert into grid_signals (kind, source, source_event_id, effective_at, received_at)
        values ('deploy', '{}', 'x', now(), now())""".format
    with connect(settings, Role.FEED) as feed:
        feed.execute(line("openadr"))
        feed.execute(signal("openadr"))
    refused(settings, Role.FEED, line("ann"), signal("operator/ann"))
    refused(settings, Role.FEED, "update facilities set obligations_version = 1000000")
    refused(settings, Role.FEED, "update facilities set obligations_version = obligations_version - 1")


def test_control_publishes_policies_and_commands_nothing(settings, fleet):
    fleet.execute(TICK)
    with connect(settings, Role.CONTROL) as control:
        control.execute(POLICY)
    refused(settings, Role.CONTROL, JOURNAL, TICK, "update policies set body = '{}'", "delete from policies")
    refused(settings, Role.CONTROL, "update facility_leases set owner = 'me'")


MODEL = """
    insert into models (name, version, status, digest, trained_until, artefact, actor, reason, created_at)
    values ('waiting', 1, 'champion', 'x', now(), 'x', 'test', 'test', now())"""


def test_control_keeps_models_and_never_rewrites_one(settings, database):
    with connect(settings, Role.CONTROL) as control:
        control.execute(MODEL)
        control.execute("update models set status = 'archived'")
    refused(
        settings,
        Role.CONTROL,
        "update models set artefact = 'y'",
        "update models set digest = 'y'",
        "delete from models",
    )
    with connect(settings, Role.CONTROL) as control:
        control.execute("select let_go_of_models(name, '{1}') from models")
        assert control.execute("select is_kept from models").fetchall() == [(False,)], (
            "but it may empty an archived one"
        )
    refused(settings, Role.API, "select artefact from models", MODEL, "update models set status = 'champion'")
    with connect(settings, Role.OPERATOR) as operator:
        assert operator.execute("update models set status = 'champion' returning is_whole").fetchone() == (False,)
    refused(settings, Role.OPERATOR, "select artefact from models", MODEL, "update models set reason = 'mine'")
    refused(settings, Role.OPERATOR, "select let_go_of_models('waiting', '{1}')")
    for role in (Role.FEED, Role.ALLOCATOR, Role.COLLECTOR, Role.FLEET):
        refused(settings, role, "select version from models", MODEL)


def test_only_who_checks_tokens_reads_their_digests(settings, database):
    for role in (Role.API, Role.OPERATOR):
        with connect(settings, role) as connection:
            connection.execute("select token_sha256 from operators")
    refused(settings, Role.API, "select created_by from operators")
    for role in (Role.FEED, Role.CONTROL, Role.ALLOCATOR, Role.COLLECTOR, Role.FLEET):
        refused(settings, role, "select token_sha256 from operators", "select to_jsonb(o) from operators o")


def test_the_allocator_writes_the_journal_and_never_rewrites_it(settings, fleet):
    fleet.execute(TICK)
    with connect(settings, Role.ALLOCATOR) as allocator:
        allocator.execute(JOURNAL)
    refused(settings, Role.ALLOCATOR, "update switch_journal set devices = 2", "delete from switch_journal")
    refused(
        settings, Role.ALLOCATOR, "truncate switch_journal", POLICY, TICK, "update facilities set control_mode = 'auto'"
    )
    refused(settings, Role.ALLOCATOR, "alter table switch_journal disable trigger all", "drop table switch_journal")


def test_who_follows_discovery_says_where_devices_are_and_never_what_they_are_booked_for(settings, database):
    apply(database, demo_facilities(1, 12)[0], "test")
    with connect(settings, Role.FLEET) as fleet:
        assert fleet.execute("update resources set metadata = '{}', subtype = 'S21'").rowcount == 12
    refused(settings, Role.FLEET, "update resources set status = 'available'", "delete from resources")
    refused(settings, Role.FLEET, "update facilities set control_mode = 'auto'", "update device_groups set devices = 1")
    refused(settings, Role.FLEET, "update inventory_generations set digest = 'x'", "select * from customers")
    refused(settings, Role.FLEET, JOURNAL, TICK, POLICY, "select * from switch_journal")


@pytest.mark.parametrize("table", ["switch_journal", "audit_log"])
def test_history_is_append_only_for_its_owner_too(fleet, table):
    fleet.execute(JOURNAL)
    fleet.execute("insert into audit_log (actor, action, subject) values ('me', 'test', 'x')")
    for statement in (f"update {table} set recorded_at = now()", f"delete from {table}", f"truncate {table}"):
        with pytest.raises(DENIED, match=f"{table} is append-only"):
            fleet.execute(statement)
    assert fleet.execute(f"select count(*) from {table}").fetchone() == (1,)


@pytest.mark.parametrize("role", [Role.API, Role.OPERATOR, Role.COLLECTOR])
def test_readers_read(settings, fleet, role):
    with connect(settings, role) as connection:
        assert connection.execute("select id from facilities").fetchone() == ("hou-1",)
    refused(settings, role, TICK, POLICY, JOURNAL, "delete from facilities", "create table mine ()")


def test_each_role_reaches_its_own_database_alone(postgres):
    for role in Role:
        home = HOME_DATABASE.get(role, Database.HCP)
        for database in (*(d for d in Database if d is not home), "postgres", "template1"):
            address = psycopg.conninfo.make_conninfo(dsn(postgres, role), dbname=str(database))
            if role is Role.ADMIN:
                psycopg.connect(address).close()
                continue
            with pytest.raises(psycopg.OperationalError, match=r"permission denied for database"):
                psycopg.connect(address)


def test_a_refused_database_is_an_error_that_names_it(postgres):
    with pytest.raises(StorageError, match=r'hcp as lake_reader.*permission denied for database "hcp"'):
        connect(postgres, Role.LAKE_READER, Database.HCP)


def test_no_login_but_the_owners_is_privileged(database):
    rows = database.execute(
        """select rolname from pg_roles where rolname = any(%s)
           and (rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls)""",
        ([role.value for role in Role],),
    )
    assert rows.fetchall() == [(Role.ADMIN.value,)]
    memberships = database.execute(
        "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.member where r.rolname = any(%s)",
        ([role.value for role in Role if role is not Role.ADMIN],),
    )
    assert memberships.fetchone() == (0,)


@pytest.mark.parametrize("database", list(Database))
def test_nothing_of_ours_is_granted_to_public(postgres, database):
    with psycopg.connect(
        psycopg.conninfo.make_conninfo(dsn(postgres, Role.ADMIN), dbname=database.value)
    ) as connection:
        rows = connection.execute(
            """select relname from pg_class c, aclexplode(relacl) a
               where a.grantee = 0 and relnamespace = 'public'::regnamespace
               union all select datname from pg_database d, aclexplode(coalesce(datacl, acldefault('d', datdba))) a
               where a.grantee = 0 and datname = current_database()
               union all select 'schema public' from pg_namespace n, aclexplode(nspacl) a
               where a.grantee = 0 and nspname = 'public'"""
        )
        assert rows.fetchall() == []


@pytest.fixture
def readings(postgres):
    lake.write(postgres, "raw.roles_readings", pl.DataFrame({"power_kw": [1.0, 2.0, 3.0]}), "first")
    return "lake.raw.roles_readings"


@pytest.mark.parametrize(
    "statement",
    [
        "insert into {} values (4)",
        "insert into {} select * from range(5000)",
        "delete from {} where power_kw = 2",
        "delete from {}",
        "drop table {}",
        "update {} set power_kw = 0",
        "create table lake.marts.mine as select 1 as one",
        "alter table {} add column more integer",
    ],
)
def test_lake_reader_is_refused_by_the_server_even_where_duckdb_attached_to_write(postgres, readings, statement):
    with lake.attach(postgres, Role.LAKE_READER, read_only=False) as connection:
        with pytest.raises(duckdb.Error, match="permission denied for"):
            connection.execute(statement.format(readings))
        assert connection.execute(f"select sum(power_kw), count(*) from {readings}").fetchone() == (6.0, 3)


def test_lake_reader_writes_nothing_through_plain_sql_either(postgres, readings):
    with connect(postgres, Role.LAKE_READER, Database.LAKE) as connection:
        for statement in (
            "delete from ducklake_data_file",
            "update ducklake_table set table_name = 'x'",
            "insert into ducklake_metadata (key, value) values ('data_path', '/tmp')",
            "drop table ducklake_table",
            "create table mine ()",
            "create temporary table mine ()",
            "create schema mine",
            "select pg_read_file('/etc/passwd')",
            "copy ducklake_table to '/tmp/hcp-copied'",
        ):
            with pytest.raises(DENIED):
                connection.execute(statement)
        limits = connection.execute(
            "select current_setting('idle_in_transaction_session_timeout'), current_setting('statement_timeout')"
        )
        assert limits.fetchone() == ("1min", "5min")


def test_analysts_leave_connections_to_the_platform(database):
    query = "select rolconnlimit, current_setting('max_connections')::int from pg_roles where rolname = 'lake_reader'"
    limit, most = database.execute(query).fetchone()
    assert 0 < limit <= most / 2


def test_the_server_is_never_told_a_password(postgres, monkeypatch):
    statements = []

    class Recorder:
        def __init__(self, connection):
            self.pgconn, self._connection = connection.pgconn, connection

        def execute(self, statement, *parameters):
            statements.append(statement if isinstance(statement, str) else statement.as_string(self._connection))
            return self._connection.execute(statement, *parameters)

    with connect(postgres, Role.ADMIN) as connection:
        _make_role(postgres, Recorder(connection), Role.FEED)
    assert "SCRAM-SHA-256$" in statements[-1]
    assert not [s for s in statements if password(postgres, Role.FEED) in s]
    connect(postgres, Role.FEED).close()


def test_passwords_are_needed_differ_and_lie_closed(postgres):
    folder = postgres.at("secrets")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    found = [path for path in folder.rglob("*") if path.is_file()]  # of operators and of GPU nodes' agents, too
    assert {stat.S_IMODE(file.stat().st_mode) for file in found} == {0o600}
    files = [folder / role.value for role in Role]
    passwords = {file.read_text() for file in files}
    assert len(passwords) == len(Role)
    assert min(map(len, passwords)) >= 24
    for role in Role:
        good = dsn(postgres, role, HOME_DATABASE.get(role, Database.HCP))
        psycopg.connect(good).close()
        for wrong in ("postgres", role.value):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(psycopg.conninfo.make_conninfo(good, password=wrong))


def test_the_socket_is_in_a_closed_directory_and_nothing_listens_on_tcp(postgres):
    server = EmbeddedPostgres(postgres)
    assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    with connect(postgres, Role.ADMIN) as connection:
        assert connection.execute("show listen_addresses").fetchone() == ("",)
        methods = connection.execute("select distinct auth_method from pg_hba_file_rules").fetchall()
    assert methods == [("scram-sha-256",)]


def test_the_analysts_script_is_closed_and_reads(postgres, readings):
    script = postgres.at("analyst.sql")
    assert (
        stat.S_IMODE(script.stat().st_mode)
        == stat.S_IMODE(postgres.at("run", "lake_reader.pgpass").stat().st_mode)
        == 0o600
    )
    secret = password(postgres, Role.LAKE_READER)
    assert secret not in script.read_text()
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        connection.execute(Path(script).read_text())
        assert connection.execute("select count(*) from raw.roles_readings").fetchone() == (3,)
        assert secret not in str(connection.execute("from duckdb_databases()").fetchall())
        with pytest.raises(duckdb.Error, match="read-only"):
            connection.execute("drop table raw.roles_readings")
