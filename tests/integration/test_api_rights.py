"""What the API's login may do in Postgres: all that it writes, one by one, and nothing else; and what it is refused."""

import psycopg
import pytest

from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

# What the API runs, by table: whoever grants it more says here what for.
WRITES = {
    "users": {"INSERT", "UPDATE (disabled_at, is_password_generated, password_hash, session_version)"},
    "api_keys": {"INSERT", "UPDATE (revoked_at)"},
    "customers": {"INSERT"},
    "idempotent_replies": {"INSERT", "UPDATE (reply, status)", "DELETE"},
    "audit_log": {"INSERT"},
}
UNREAD = ("alerts", "alert_deliveries", "paper_plans", "process_cursors", "models")
ORDERS = (
    "insert into operators (name, role, token_sha256, created_by) values ('me', 'admin', 'x', 'me')",
    "update operators set disabled_at = null",
    "insert into operator_overrides default values",
    "update operator_overrides set status = 'active', approved_by = 'x', decided_at = now()",
    "insert into lockouts (facility_id, scope, feeder_id, holder, reason) values ('hou-1', 'feeder', 'x', 'x', 'x')",
    "update lockouts set removed_at = now()",
    "update facilities set lockouts_version = lockouts_version + 1",
    "update facilities set obligations_version = obligations_version + 1",
    "insert into approvals (facility_id, what, subject, mw, requested_by, expires_at) values ('hou-1', 'x', 'x', 1, 'x', now())",
    "update approvals set decision = 'approved', decided_by = 'x', decided_at = now()",
    "update grid_obligations set mw = 0",
    "insert into grid_signals default values",
    "update customers set tier = 'enterprise'",
    "update users set role = 'admin'",
    "update users set customer_id = null",
    "update api_keys set expires_at = null",
    "update api_keys set user_id = gen_random_uuid()",
    "delete from users",
    "delete from audit_log",
    "update workloads set status = 'completed'",
    "update workloads set customer_id = gen_random_uuid()",
    "update tier_quotas set max_gpus = 1000000",
    "update queue_rules set max_waiting = 0",
    "insert into switch_journal default values",
    "insert into policies default values",
    "insert into desired_state default values",
    "update facility_leases set owner = 'me'",
    "select artefact from models",
    "select created_by from operators",
    "create table mine ()",
)
_GRANTED = """
    select table_name, privilege_type, null from information_schema.role_table_grants
    where grantee = 'hcp_api' and privilege_type <> 'SELECT'
    union
    select g.table_name, g.privilege_type, string_agg(g.column_name, ', ' order by g.column_name)
    from information_schema.role_column_grants g
    where g.grantee = 'hcp_api' and g.privilege_type not in ('SELECT')
      and not exists (select from information_schema.role_table_grants t
                      where t.grantee = g.grantee and t.table_name = g.table_name and t.privilege_type = g.privilege_type)
    group by 1, 2"""


@pytest.fixture
def fleet(database):
    apply(database, demo_facilities(1, 12)[0], "test")
    return database


def test_the_api_writes_what_is_listed_and_nothing_else(database):
    found = {}
    for table, privilege, columns in database.execute(_GRANTED):
        found.setdefault(table, set()).add(f"{privilege} ({columns})" if columns else privilege)
    submitted = found.pop("workloads")
    assert [one.split(" ")[0] for one in submitted] == ["INSERT"], "work is taken in, and cancelled by a function alone"
    assert found == WRITES


def test_the_api_is_refused_orders_and_what_is_none_of_its_business(settings, fleet):
    with connect(settings, Role.API) as connection:
        for statement in (*ORDERS, *(f"select * from {table}" for table in UNREAD)):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
