"""Operators at the command line on a real database: who may order, what is kept of it, and what a second person decides."""

import asyncio
import io
import json
import stat
import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import yaml
from psycopg.types.json import Jsonb
from rich.console import Console

from hcp_pipelines.allocator.standing import read_standing
from hcp_pipelines.cli.screen import status_screen
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.inventory import load_inventories, load_inventory
from hcp_pipelines.operators.accounts import OperatorRole, add, disable
from hcp_pipelines.orchestration.standing import standing_directives
from hcp_pipelines.storage.bootstrap import bootstrap
from hcp_pipelines.storage.postgres import connect, reading
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.storage.secrets import secrets_dir
from hcp_pipelines.supervisor.status import read_loop
from tests.support.cli import hcp

__all__ = ["hcp"]

GROUP = "s21"
MOST = """
    select override_most_mw(%s, jsonb_build_object('group_id', %s::text),
                            jsonb_build_object('state', %s::text, 'devices', %s::int))"""
PAPER = """
    insert into paper_plans (facility_id, control_mode, tick_id, policy_id, decision_price_usd_per_mwh, hours, usd_actual,
        usd_paper, wake_usd, devices, mw_actual, mw_paper, simulated_at)
    values (%s, 'observe', %s, 1, 40, 0.5, 10, 12.5, 1, 7, 2, 1, now() - %s::interval)"""


@pytest.fixture
def fleet(settings, database):
    for document in demo_facilities(2, 120):
        apply(database, document, "test")
    for name, role in (("ann", "operator"), ("bob", "operator"), ("root", "admin"), ("vic", "viewer")):
        add(settings, database, name, OperatorRole(role), "test")
    return database


@pytest.fixture
def run(hcp, settings, fleet):
    def command(*arguments, by="ann", **environment):
        return hcp(*arguments, "--state-dir", settings.state_dir, HCP_OPERATOR=by, **environment)

    return command


@pytest.fixture
def group(fleet):
    row = fleet.execute(
        "select group_id from device_groups where facility_id = 'hou-1' and type = 'ASIC' order by first_slot limit 1"
    )
    return row.fetchone()[0]


def audit(database, action):
    rows = database.execute("select actor, subject, detail from audit_log where action = %s order by id", (action,))
    return rows.fetchall()


def orders(database):
    return database.execute("select kind, status, actor, released_by from operator_overrides order by id").fetchall()


def limit(database, mw):
    """As `hcp up` writes it: who types an order has no say in it."""
    database.execute("update approval_limit set mw = %s", (mw,))


def test_an_operators_token_is_in_a_closed_file_and_nowhere_else(hcp, settings, database):
    made = hcp("operator", "add", "ann.b", "--role", "operator", "--state-dir", settings.state_dir)
    path = secrets_dir(settings) / "operators" / "ann.b.token"
    listed = secrets_dir(settings) / "operators.yaml"
    token = path.read_text()
    assert (made.code, len(token) >= 40, token in made.out + made.err) == (0, True, False)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, listed)] == [0o600, 0o600]
    known = yaml.safe_load(listed.read_text())["operators"]["ann.b"]
    stored = database.execute("select role, token_sha256 from operators where name = 'ann.b'").fetchone()
    assert (known["role"], known["token_sha256"]) == stored
    assert token not in listed.read_text() + str(audit(database, "operator.added"))
    again = hcp("operator", "add", "ann.b", "--role", "admin", "--state-dir", settings.state_dir)
    assert (again.code, "exists already" in again.err, path.read_text()) == (2, True, token)
    for name in ("../x", "Ann", "a/b", "", "x" * 42):
        assert hcp("operator", "add", name, "--role", "admin", "--state-dir", settings.state_dir).code == 2
    gone = hcp("operator", "disable", "ann.b", "--state-dir", settings.state_dir)
    assert (gone.code, path.exists()) == (0, False)
    assert "ann.b" not in yaml.safe_load(listed.read_text())["operators"]
    assert "disabled" in hcp("operator", "list", "--state-dir", settings.state_dir).out


def test_nobody_wrong_tokens_and_open_files_order_nothing(run, settings, fleet, tmp_path):
    stop = ("stop-all", "--reason", "drill")
    nobody = run(*stop, by="")
    assert (nobody.code, "hcp operator add" in nobody.err) == (2, True)
    stranger = run(*stop, "--as", "eve")
    assert (stranger.code, "hcp operator add eve" in stranger.err) == (2, True)
    forged = tmp_path / "token"
    forged.write_text("guess")
    forged.chmod(0o600)
    wrong = run(*stop, HCP_OPERATOR_TOKEN_FILE=str(forged))
    assert (wrong.code, "the token is another one" in wrong.err) == (1, True)
    forged.chmod(0o644)
    assert "chmod 600" in run(*stop, HCP_OPERATOR_TOKEN_FILE=str(forged)).err
    unknown = tmp_path / "t2"
    unknown.write_text("guess")
    unknown.chmod(0o600)
    assert run(*stop, "--as", "eve", HCP_OPERATOR_TOKEN_FILE=str(unknown)).code == 1
    assert [(actor, detail["reason"]) for actor, _, detail in audit(fleet, "operator.refused")] == [
        ("ann", "wrong token"),
        ("eve", "unknown or disabled"),
    ]
    assert orders(fleet) == []


def test_who_may_only_look_orders_nothing_and_the_attempt_is_kept(run, fleet):
    for command in (
        ("stop-all", "--reason", "x"),
        ("curtail", "hou-1", "--to", "0", "--reason", "x"),
        ("lock", "hou-1", "--site", "--reason", "x"),
        ("release", "--all"),
        ("unlock", "1"),
        ("approve", "1"),
    ):
        refused = run(*command, by="vic")
        assert (refused.code, "takes an operator or an admin" in refused.err) == (1, True), command
    actions = [a for (a,) in fleet.execute("select distinct action from audit_log where actor = 'vic'").fetchall()]
    expected = ["approve", "curtail", "lock", "release", "stop_all", "unlock"]
    assert sorted(actions) == [f"{action}.refused" for action in expected]
    assert orders(fleet) == []
    assert fleet.execute("select count(*) from lockouts").fetchone() == (0,)
    assert run("directives", by="vic").code == 0


@pytest.mark.parametrize("reason", ["", "  ", "x" * 301, "two\nlines", "\x1b[2J"])
def test_a_reason_is_a_line_of_text(run, fleet, reason):
    assert run("stop-all", "--reason", reason).code == 2
    assert orders(fleet) == []


def test_stop_all_is_of_the_whole_portfolio_until_it_is_released(run, fleet):
    stopped = json.loads(run("stop-all", "--reason", "fire drill", "--json").out)
    assert [o["facility_id"] for o in stopped["orders"]] == ["hou-1", "nor-1"]
    shown = json.loads(run("directives", "--json").out)["directives"]
    assert [(d["name"], d["reason"], d["valid_until"]) for d in shown] == [
        (o["name"], "fire drill", None) for o in stopped["orders"]
    ]
    first = stopped["orders"][0]["name"]
    assert run("release", first, by="bob").out == f"hou-1: {first} released\n"
    twice = run("release", first, by="bob")
    assert (twice.code, "does not stand" in twice.err) == (2, True)
    assert run("release", "--all").out.count("released") == 1
    assert [(status, by) for _, status, _, by in orders(fleet)] == [("standing", "bob"), ("standing", "ann")]
    assert run("directives").out == "Nothing stands: the policies decide.\n"


def test_the_status_says_how_much_stands(run, settings, fleet):
    run("stop-all", "--reason", "x")
    run("lock", "hou-1", "--site", "--reason", "x")
    loop = read_loop(settings)
    assert loop["standing"] == {"orders": 2, "locks": 1, "approvals": 0}
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(status_screen([], {}, loop))
    assert "operators: orders 2, locks 1 (hcp directives)" in console.export_text()


def test_releasing_something_that_does_not_stand_releases_nothing(run, fleet):
    run("stop-all", "hou-1", "--reason", "x")
    assert run("release", "1", "99").code == 2
    assert orders(fleet)[0][3] is None


def test_an_id_of_another_kind_ends_nothing(run, fleet):
    """Numbers of orders and of lockouts are counted apart: the wrong word must not free a device that somebody works on."""
    run("lock", "hou-1", "--site", "--reason", "x")
    run("stop-all", "hou-1", "--reason", "x")
    for arguments, said in (
        (("unlock", "stop_all/1"), "no lockout"),
        (("release", "lockout/1"), "stop_all/1 does"),
        (("release", "curtail/1"), "stop_all/1 does"),
    ):
        refused = run(*arguments)
        assert (refused.code, said in refused.err) == (2, True), refused.err
    assert orders(fleet)[0][3] is None
    assert run("unlock", "lockout/1").code == 0
    assert run("release", "stop_all/1").code == 0


@pytest.mark.parametrize("mw", ["nan", "inf", "1e400"])
def test_megawatts_are_finite(run, fleet, mw):
    refused = run("curtail", "hou-1", "--mw", mw, "--reason", "x")
    assert (refused.code, "not a finite number" in refused.err) == (2, True), refused.err
    assert orders(fleet) == []


def test_what_holds_at_a_gateway_that_is_away_is_not_said_to_be_released(run, fleet):
    run("stop-all", "hou-1", "--reason", "x")
    fleet.execute(
        "insert into gateway_endpoints (facility_id, address, gateway) values ('hou-1', 'unix:/nonexistent/e', 'edge')"
    )
    done = run("release", "--all")
    assert (done.code, done.out) == (1, "hou-1: stop_all/1 released\n")
    assert "direct orders may still hold at hou-1 (hou-1: its gateway does not answer" in done.err
    alone = run("release", "direct/nor-1")
    assert (alone.code, "no gateway here has facility 'nor-1'; there are hou-1" in alone.err) == (2, True)
    seen = run("release", "direct/hou-1", by="vic")
    assert (seen.code, "vic is a viewer" in seen.err) == (1, True)


@pytest.mark.parametrize(("typed", "hours"), [((), 12), (("--for", "3d"), 72), (("--until", "2090-01-01T00:00"), None)])
def test_a_drain_lasts_as_long_as_the_operator_says(run, fleet, typed, hours):
    assert run("drain", "hou-1", "--reason", "rebuild", *typed).code == 0
    rows = fleet.execute("select valid_until, valid_until - valid_from from operator_overrides").fetchall()
    assert len(rows) == fleet.execute("select count(*) from device_groups where facility_id = 'hou-1'").fetchone()[0]
    if hours is None:
        assert {until.year for until, _ in rows} == {2090}
    else:
        assert {lasts.total_seconds() for _, lasts in rows} == {hours * 3600}
    assert run("drain", "hou-1", "--reason", "x", "--for", "1h", "--until", "2090-01-01").code == 2


def test_an_override_has_to_end_and_a_curtailment_need_not(run, fleet, group):
    ordered = ("override", "hou-1", "--group", group, "--state", "curtailed", "--reason", "x")
    endless = run(*ordered)
    assert (endless.code, "has to end" in endless.err) == (2, True)
    assert (run(*ordered, "--until", "2001-01-01").code, run(*ordered, "--for", "2 hours").code) == (2, 2)
    assert run(*ordered, "--for", "2h", "--until", "2090-01-01").code == 2
    assert run(*ordered, "--for", "2h", "--devices", "3").code == 0
    assert run("curtail", "hou-1", "--to", "0.1", "--reason", "hot", "--within", "30").code == 0
    assert run("curtail", "hou-1", "--to", "0.1", "--mw", "1", "--reason", "hot").code == 2
    rows = fleet.execute(
        "select scope, value, valid_until - valid_from, reason from operator_overrides order by id"
    ).fetchall()
    assert rows[0][:2] == ({"group_id": group}, {"state": "curtailed", "devices": 3})
    assert rows[0][2].total_seconds() == 7200
    assert (rows[1][1], rows[1][2]) == ({"cap_mw": 0.1, "within_s": 30.0}, None)


def test_by_how_much_needs_the_meter(run):
    blind = run("curtail", "hou-1", "--mw", "1", "--reason", "hot")
    assert (blind.code, "no gateway is known" in blind.err) == (1, True)


def test_who_is_disabled_while_another_is_added_is_in_no_list_afterwards(settings, fleet):
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    with connect(settings, Role.OPERATOR) as one, connect(settings, Role.OPERATOR) as other:
        with one.transaction():
            add(settings, one, "amy", OperatorRole.OPERATOR, "test")
            disabling = threading.Thread(target=disable, args=(settings, other, "bob", "test"))
            disabling.start()
            while disabling.is_alive() and fleet.execute(waiting).fetchone() == (0,):
                time.sleep(0.01)
        disabling.join(30)
    listed = yaml.safe_load((secrets_dir(settings) / "operators.yaml").read_text())["operators"]
    assert ("amy" in listed, "bob" in listed) == (True, False)


@pytest.mark.parametrize(
    "typed",
    [
        ("approve", "1"),
        ("grid", "deploy", "1"),
        ("edge", "stop", "hou-1"),
        ("alerts", "ack", "1"),
    ],
)
@pytest.mark.parametrize("reason", ["two\nlines", "x" * 301, "\x1b[31mred"])
def test_a_reason_is_one_line_wherever_it_is_given(run, typed, reason):
    refused = run(*typed, "--reason", reason)
    assert (refused.code, "printable characters" in refused.err) == (2, True)


def test_maintenance_is_planned_under_the_ramps_listed_and_called_off_by_who_planned_it(run, settings, fleet, group):
    typed = ("maintenance", "plan", "hou-1", "--group", group, "--reason", "a pump")
    for wrong in (
        typed,
        (*typed, "--site", "--for", "2h"),
        ("maintenance", "plan", "hou-1", "--for", "2h", "--reason", "x"),
    ):
        assert run(*wrong).code == 2
    early = run(*typed, "--from", "2001-01-01T00:00:00Z", "--for", "2h")
    assert (early.code, "at the earliest" in early.err) == (2, True)
    assert run(*typed, "--until", "2001-01-01T00:00:00Z").code == 2
    assert run(*typed, "--for", "2h", by="vic").code == 1
    placed = json.loads(run(*typed, "--for", "2h", "--json").out)
    empties, begins, ends = (datetime.fromisoformat(placed[f"{step}_at"]) for step in ("empties", "begins", "ends"))
    assert (ends - begins, begins > empties) == (timedelta(hours=2), True)
    assert "left alone from" in run("maintenance", "plan", "hou-1", "--site", "--for", "1d", "--reason", "x").out
    windows = json.loads(run("maintenance", "list", "--json").out)["windows"]
    all_empty_at, all_begun_at = (
        max(datetime.fromisoformat(w[f"{step}_at"]) for w in windows) for step in ("empties", "begins")
    )
    assert run(*typed, "--for", "31d").code == 2
    assert run(*typed, "--until", "2090-01-01").code == 2
    assert run(*typed, "--from", "9999-12-31T20:00:00Z", "--for", "1d").code == 2
    for step, instant, said, locks in (
        ("emptying", all_empty_at, "emptying, NOT locked yet", 0),
        ("begun", all_begun_at, "maintenance, ends by itself", 2),
    ):
        fleet.execute("select advance_maintenance(array['hou-1'], %s)", (instant,))
        assert [
            (lock["name"], lock["maintenance"], lock["is_emptying"])
            for lock in json.loads(run("directives", "--json").out)["lockouts"]
        ] == [(f"lockout/{n}", f"maintenance/{n}", step == "emptying") for n in (1, 2)]
        assert run("directives").out.count(said) == 2
        assert read_loop(settings)["standing"]["locks"] == locks
        assert set(standing_directives(fleet, instant)["status"]) == {said}
    listed = json.loads(run("maintenance", "list", "--json").out)["windows"]
    assert {w["state"] for w in listed} == {"not confirmed by its gateway"}, "nobody has heard of the gateway"
    assert f"group {group}" in run("maintenance", "list").out
    assert run("maintenance", "end", "maintenance/1", by="bob").code == 1
    assert run("maintenance", "end", "maintenance/1").code == 0
    assert run("maintenance", "end", "1").code == 2
    assert run("maintenance", "end", "x").code == 2
    assert run("unlock", "2", by="root").code == 0  # a window ends with its lock
    assert json.loads(run("maintenance", "list", "--json").out)["windows"] == []
    over = json.loads(run("maintenance", "list", "--all", "--json").out)["windows"]
    assert {(w["name"], w["ended_by"]) for w in over} == {("maintenance/1", "ann"), ("maintenance/2", "root")}
    later = run(*typed, "--from", (begins + timedelta(days=2)).isoformat(), "--for", "2h", "--json")
    assert run("maintenance", "end", json.loads(later.out)["name"], by="root").code == 0
    assert [(actor, subject) for actor, subject, _ in audit(fleet, "maintenance.end_refused")] == [
        ("bob", "maintenance/1")
    ]  # fmt: skip


REMEMBERED = """
    insert into owner_memory (facility_id, epoch, simulated_at, memory) values ('hou-1', 1, now() - interval '3 hours', %s)
    on conflict (facility_id) do update set memory = excluded.memory"""


def test_what_comes_into_quarantine_has_a_case_until_a_person_says_what_became_of_it(run, settings, fleet, group):
    def in_repair():
        async def read():
            async with reading(settings, Role.ALLOCATOR) as connection:
                return await read_standing(connection, ["hou-1"], datetime.now(UTC))

        return asyncio.run(read())["hou-1"].in_repair

    def remember(*slots):
        fleet.execute(REMEMBERED, (Jsonb({"failed_slots": slots} if slots else {}),))

    def cases(*more):
        return json.loads(run("repair", "list", "--json", *more).out)["cases"]

    inventory = load_inventory(fleet, "hou-1")
    first = next(g for g in inventory.groups if g.group_id == group).first_slot
    remember(first, first + 1)
    remember(first, first + 1, first + 2)
    found = [(c["slot"], c["group_id"], c["opened_by"], c["model"] != "") for c in cases()]
    assert found == [(first + n, group, "quarantine", True) for n in (2, 1, 0)]
    assert run("repair", "close", "repair/1", "--outcome", "replaced", "--reason", "x", by="vic").code == 1
    closed = run(
        "repair", "close", "repair/1", "--outcome", "repaired", "--part", "hash board", "--reason", "board 2 dead"
    )
    assert (closed.code, f"of slot {first}: repaired; no longer in quarantine" in closed.out) == (0, True)
    assert in_repair() == (first + 1, first + 2), "as the facility's owner reads it"
    assert run("repair", "close", "1", "--outcome", "repaired", "--reason", "again").code == 2
    assert run("repair", "close", "x", "--outcome", "repaired", "--reason", "again").code == 2
    assert run("repair", "close", "2", "--outcome", "nothing_found", "--part", "x" * 101, "--reason", "x").code == 2
    remember(first, first + 2)
    assert {c["slot"] for c in cases()} == {first + 1, first + 2}, "what is in quarantine still is no news"
    remember()
    remember(first)
    assert {c["slot"] for c in cases("--facility", "hou-1")} == {first, first + 1, first + 2}, "it has come again"
    assert cases("--facility", "dal-1") == []
    remember(*range(first + 10, first + 16))
    assert len(cases()) == 3, "so many at once are no broken devices"
    opened = run("repair", "open", "hou-1", "--device", f"{first},{first + 9}", "--reason", "a fan rattles")
    assert (opened.code, opened.out.count("repair/")) == (0, 1)
    (one,) = [t for t in json.loads(run("repair", "times", "--json").out)["groups"] if t["closed"]]
    assert (one["open"], one["closed"], one["parts"]) == (4, 1, 1)
    assert one["mean_time_to_repair_s"] == pytest.approx(3 * 3600, rel=0.1)
    assert "mean hours to repair" in run("repair", "times").out
    assert "hash board" in run("repair", "list", "--all").out
    assert [(actor, detail["part"]) for actor, _, detail in audit(fleet, "repair.closed")] == [("ann", "hash board")]
    case = opened.out.split("repair/")[1].strip()
    assert "stays in quarantine" in run("repair", "close", case, "--outcome", "retired", "--reason", "burnt").out
    assert in_repair() == (first, first + 1, first + 2, first + 9)


def test_an_override_above_the_limit_waits_for_another_person(run, fleet, group):
    ordered = (
        "override",
        "hou-1",
        "--group",
        group,
        "--state",
        "curtailed",
        "--for",
        "2h",
        "--reason",
        "test",
        "--json",
    )
    limit(fleet, 0.05)
    small = json.loads(run(*ordered, "--devices", "1").out)["orders"]
    assert small[0]["approval_id"] is None
    asked = json.loads(run(*ordered, HCP_APPROVAL_MW="inf").out)["orders"][0]
    number = str(asked["approval_id"])
    assert [status for _, status, _, _ in orders(fleet)] == ["standing", "pending"]
    own = run("approve", number, "--reason", "mine")
    assert (own.code, "another person has to decide" in own.err) == (1, True)
    assert [a for a, _, _ in audit(fleet, "approval.refused")] == ["ann"]
    assert run("approve", number, "--reason", "agreed", by="bob").out == f"hou-1: {asked['name']}: approved\n"
    row = fleet.execute("select status, approved_by, decision_reason from operator_overrides where id = 2").fetchone()
    assert row == ("standing", "bob", "agreed")
    twice = run("approve", number, by="root")
    assert (twice.code, "was approved already" in twice.err) == (2, True)


def overridden(run, devices, group, by="ann"):
    typed = (
        "--group",
        group,
        "--state",
        "curtailed",
        "--devices",
        str(devices),
        "--for",
        "2h",
        "--reason",
        "x",
        "--json",
    )
    return json.loads(run("override", "hou-1", *typed, by=by).out)["orders"][0]


def test_several_small_overrides_are_one_large_one(run, fleet, group):
    each = fleet.execute(MOST, ("hou-1", group, "curtailed", 1)).fetchone()[0]
    limit(fleet, 5.5 * each)
    assert overridden(run, 3, group)["approval_id"] is None
    asked = overridden(run, 3, group)
    assert asked["approval_id"] is not None, "six devices in parts"
    assert overridden(run, 2, group)["approval_id"] is None, "what waits is not done"
    assert overridden(run, 1, group)["approval_id"] is not None
    assert overridden(run, 5, group, by="bob")["approval_id"] is None, "another person"
    run("approve", str(asked["approval_id"]), by="bob")
    run("release", "1")
    assert overridden(run, 3, group)["approval_id"] is None, "approved or released, they count no more"
    fleet.execute("update operator_overrides set created_at = created_at - interval '16 minutes'")
    assert overridden(run, 5, group)["approval_id"] is None


def test_the_limit_is_that_of_who_runs_the_platform(settings, fleet):
    bootstrap(settings.model_copy(update={"approval_mw": 7.0}))
    assert fleet.execute("select mw from approval_limit").fetchall() == [(7.0,)]


def test_a_drain_is_weighed_as_one_and_waits_as_one(run, fleet):
    groups = [g for (g,) in fleet.execute("select group_id from device_groups where facility_id = 'hou-1'").fetchall()]
    typed = ("drain", "hou-1", "--reason", "x", "--json")
    run(*typed)
    total, largest = fleet.execute("select sum(mw_change), max(mw_change) from operator_overrides").fetchone()
    run("release", "--all")
    limit(fleet, (total + largest) / 2)
    placed = json.loads(run(*typed).out)["orders"]
    assert len(placed) == len(groups) > 1
    assert all(p["approval_id"] is not None for p in placed)


@pytest.mark.parametrize("devices", [1, 7, None])
def test_what_an_override_changes_at_most_is_weighed_by_the_database_and_counts_from_the_farthest_state(fleet, devices):
    for inventory in load_inventories(fleet):
        for group in inventory.groups:
            number = devices or group.devices
            mw = [inventory.all_in_mw(group, step.state, number) for step in group.ladder]
            for step, own in zip(group.ladder, mw, strict=True):
                row = fleet.execute(MOST, (inventory.facility_id, group.group_id, step.state.label, devices)).fetchone()
                assert row[0] == pytest.approx(max(abs(own - other) for other in mw))


def test_an_override_of_nothing_that_there_is_weighs_as_much_as_the_facility(fleet, group):
    capacity = fleet.execute("select capacity_mw from facilities where id = 'hou-1'").fetchone()[0]
    states = fleet.execute("select pg_get_functiondef('override_most_mw'::regproc)").fetchone()[0]
    assert ", ".join(f"'{state.label}'" for state in DeviceState) in states
    for one in ((None, "curtailed", None), (group, "flying", None)):
        assert fleet.execute(MOST, ("hou-1", *one)).fetchone()[0] == capacity
    whole = fleet.execute(MOST, ("hou-1", group, "curtailed", None)).fetchone()
    assert all(fleet.execute(MOST, ("hou-1", group, "curtailed", n)).fetchone() == whole for n in (0, -5, 10**9))


def test_no_statement_of_the_orders_own_role_makes_an_override_stand(settings, run, fleet, group):
    limit(fleet, 1e-6)
    assert overridden(run, 1, group)["approval_id"] is not None
    place = """insert into operator_overrides (facility_id, kind, scope, value, mw_change, actor, approved_by, reason, valid_from,
                                               status, created_at)
               values ('hou-1', 'override', %s, '{"state": "curtailed"}', 0, 'ann', 'bob', 'x', now(), 'standing', '2001-01-01')
               returning status, approved_by"""
    with connect(settings, Role.OPERATOR) as api:
        assert api.execute(place, (Jsonb({"group_id": group}),)).fetchone() == ("pending", None)
        for statement in (
            "update operator_overrides set status = 'standing'",
            "update operator_overrides set status = 'standing', approved_by = 'bob'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="was not approved"):
                api.execute(statement)
        api.execute("update operator_overrides set released_at = now(), released_by = 'ann'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="was released"):
            api.execute("update operator_overrides set released_at = null, released_by = null")


def test_a_rejected_override_never_stands(run, fleet, group):
    ordered = ("override", "hou-1", "--group", group, "--state", "curtailed", "--for", "2h", "--reason", "x", "--json")
    limit(fleet, 0.05)
    asked = json.loads(run(*ordered).out)["orders"][0]
    shown = json.loads(run("directives", "--json").out)
    assert [a["approval_id"] for a in shown["approvals"]] == [asked["approval_id"]]
    assert run("approve", str(asked["approval_id"]), "--reject", "--reason", "no", by="bob").out.endswith("rejected\n")
    assert orders(fleet)[0][1] == "rejected"
    assert run("release", "--all").out == "nothing stood\n"
    assert json.loads(run("directives", "--json").out) == {"directives": [], "lockouts": [], "approvals": []}


def test_nobody_decides_too_late_or_on_what_was_released(run, fleet, group):
    ordered = ("override", "hou-1", "--group", group, "--state", "curtailed", "--for", "2h", "--reason", "x")
    limit(fleet, 0.05)
    run(*ordered)
    run(*ordered)
    run("release", "1")
    released = run("approve", "1", by="bob")
    assert (released.code, "was released meanwhile" in released.err) == (2, True)
    fleet.execute("update approvals set expires_at = '2001-01-01T00:00Z' where id = 2")
    late = run("approve", "2", by="bob")
    assert (late.code, "could be given until" in late.err) == (2, True)
    assert [status for _, status, _, _ in orders(fleet)] == ["pending", "pending"]


def test_the_database_itself_keeps_actor_and_approver_apart(fleet):
    with pytest.raises(psycopg.errors.CheckViolation):
        fleet.execute(
            """insert into approvals (facility_id, what, subject, mw, requested_by, expires_at, decision, decided_by, decided_at)
               values ('hou-1', 'policy', '1', 1, 'ann', now(), 'approved', 'ann', now())"""
        )


def test_a_lock_is_removed_by_its_holder_or_an_admin(run, fleet):
    assert run("lock", "hou-1", "--device", "3,5", "--reason", "hands inside").out == "hou-1: lockout/1 stands\n"
    run("lock", "hou-1", "--feeder", "feeder-1", "--reason", "works")
    run("lock", "nor-1", "--site", "--reason", "works")
    stranger = run("unlock", "lockout/1", by="bob")
    assert (stranger.code, "only ann or an admin" in stranger.err) == (1, True)
    assert [(a, d["holder"]) for a, _, d in audit(fleet, "lockout.removal_refused")] == [("bob", "ann")]
    assert (run("unlock", "1").code, run("unlock", "2", by="root").code) == (0, 0)
    assert run("unlock", "1").code == 2
    rows = fleet.execute("select scope, removed_by from lockouts order by id").fetchall()
    assert rows == [("device", "ann"), ("feeder", "root"), ("site", None)]
    version = fleet.execute("select lockouts_version from facilities where id = 'hou-1'").fetchone()
    assert version == (4,)
    assert "lockout/3" in run("directives").out


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="nothing"),
        pytest.param(("--site", "--feeder", "feeder-1"), id="two things"),
        pytest.param(("--feeder", "nope"), id="an unknown feeder"),
        pytest.param(("--device", "100000"), id="a slot that is none"),
    ],
)
def test_a_lock_of_nothing_is_wrong_usage(run, fleet, options):
    assert run("lock", "hou-1", *options, "--reason", "x").code == 2
    assert run("lock", "nowhere", "--site", "--reason", "x").code == 2
    assert fleet.execute("select count(*) from lockouts").fetchone() == (0,)


def test_each_role_does_its_part_and_no_other(settings, fleet, run):
    run("stop-all", "hou-1", "--reason", "x")
    ask = """insert into approvals (facility_id, what, subject, mw, requested_by, expires_at)
             values ('hou-1', 'wave', 'x', 1, 'allocator-a', now())"""
    with connect(settings, Role.ALLOCATOR) as allocator:
        allocator.execute(ask)
    denied = {
        Role.ALLOCATOR: (
            "update approvals set decision = 'approved', decided_by = 'x', decided_at = now()",
            "update operator_overrides set released_at = now()",
            "insert into lockouts (facility_id, scope, feeder_id, holder, reason) values ('hou-1', 'feeder', 'x', 'x', 'x')",
            "update lockouts set removed_at = now()",
            ask.replace("expires_at)", "expires_at, decision, decided_by, decided_at)").replace(
                "now())", "now(), 'approved', 'bob', now())"
            ),
            "update facility_leases set facility_id = 'x'",
            "insert into facility_leases (facility_id, owner, epoch) values ('hou-1', 'x', 9)",
            "update grid_obligations set mw = 0",
            "update grid_obligations set penalty_usd_per_mwh = 0",
            "update approval_limit set mw = 1",
            "select * from operators",
        ),
        Role.FEED: ("select * from operators", "select * from approvals"),
        Role.COLLECTOR: ("select * from operators", ask),
        Role.OPERATOR: (
            "update operator_overrides set actor = 'bob'",
            "update operator_overrides set value = '{}'",
            "update approval_limit set mw = 1e9",
            "update approvals set mw = 0",
            "update approvals set requested_by = 'bob'",
            "delete from operators",
        ),
    }
    for role, statements in denied.items():
        with connect(settings, role) as connection:
            for statement in statements:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)


def test_what_stood_is_never_deleted(fleet, run):
    run("stop-all", "--reason", "x")
    run("lock", "hou-1", "--site", "--reason", "x")
    for table in ("operator_overrides", "lockouts", "approvals"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            fleet.execute(f"delete from {table}")


def test_what_the_policies_would_have_earned_is_shown_by_day(hcp, settings, fleet):
    def observed(*arguments):
        return hcp("observed", *arguments, "--state-dir", settings.state_dir)

    second = fleet.execute("select id from facilities where id <> 'hou-1'").fetchone()[0]
    nothing = observed()
    assert (nothing.code, "control_mode auto" in nothing.out) == (0, True)
    for facility, tick, ago in (
        ("hou-1", 1, "3 days"),
        ("hou-1", 2, "3 days"),
        (second, 1, "3 days"),
        ("hou-1", 3, "40 days"),
    ):
        fleet.execute(PAPER, (facility, tick, ago))
    days = json.loads(observed("--json").out)["days"]
    found = [(d["facility_id"], d["hours"], d["gain_usd"], d["devices"]) for d in days]
    assert found == sorted([(second, 0.5, 2.5, 7), ("hou-1", 1.0, 5.0, 14)])
    assert len(json.loads(observed("hou-1", "--last", "50d", "--json").out)["days"]) == 2
    assert "on paper $" in observed("hou-1").out
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        fleet.execute("update paper_plans set usd_paper = 0")
