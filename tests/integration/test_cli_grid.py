"""Grid obligations at the command line on a real database: taken on, refused beforehand, sold once, called and recalled."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from psycopg.errors import CheckViolation

from hcp_pipelines.domain.clock import Anchor
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DispatchRegime, ResourceType
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.fleet.obligations import flexible_of
from hcp_pipelines.operators import grid
from hcp_pipelines.operators.accounts import OperatorRole, add, authenticate, read_token
from hcp_pipelines.operators.availability import CountedOn, counted_on
from hcp_pipelines.operators.grid import Award
from hcp_pipelines.policy.outlook import Outlook
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots
from tests.support.cli import hcp

__all__ = ["hcp"]

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
ALL_ON = CountedOn(Outlook(NOON.timestamp()))


@pytest.fixture
def fleet(settings, database):
    first, second = demo_facilities(2, 120)
    apply(database, first, "test")
    apply(database, second.model_copy(update={"dispatch_regime": DispatchRegime.CLR_BASE_POINT}), "test")
    for name, role in (("ann", "operator"), ("vic", "viewer")):
        add(settings, database, name, OperatorRole(role), "test")
    anchor = settings.at("run", "clock.json")
    anchor.parent.mkdir(exist_ok=True)
    anchor.write_text(Anchor(datetime.now(UTC), NOON, 1.0).dump())
    yield database
    anchor.unlink()


@pytest.fixture
def run(hcp, settings, fleet):
    def command(*arguments, by="ann"):
        return hcp(*arguments, "--state-dir", settings.state_dir, HCP_OPERATOR=by)

    return command


@pytest.fixture
def can_mw(fleet):
    return sum(f.mw for f in flexible_of(load_inventory(fleet, "hou-1")))


def award(run, mw, facility="hou-1", start="2025-03-01T11:00", end="2025-03-01T16:00", by="ann", notice=600, more=()):
    return run(
        "grid", "award", facility, "--programme", "ECRS", "--mw", mw, "--from", start, "--to", end, "--notice", notice,
        "--duration", "3600", "--recovery", "1800", *more, by=by,
    )  # fmt: skip


def actions(database, like="%"):
    rows = database.execute("select actor, action from audit_log where action like %s order by id", (like,)).fetchall()
    return [row for row in rows if not row[1].startswith(("operator.", "facility."))]


def signals(database):
    return database.execute("select kind, facility_id, payload, source from grid_signals order by id").fetchall()


def test_an_award_is_in_the_books_with_its_penalty_and_its_author(run, fleet, can_mw):
    done = award(run, can_mw / 2, more=("--penalty", "9000", "--json"))
    assert done.code == 0, done
    number = json.loads(done.out)["obligation_id"]
    (listed,) = json.loads(run("grid", "list", "--json", by="vic").out)["obligations"]
    assert (listed["obligation_id"], listed["status"], listed["penalty_usd_per_mwh"]) == (number, "awarded", 9000.0)
    assert listed["delivered_fraction"] is None
    assert actions(fleet) == [("ann", "obligation.awarded")]
    table = run("grid", "list", "hou-1").out
    assert ("ECRS" in table, "$/MWh if missed" in table, " 9000 " in table) == (True, True, True), table
    assert "No obligations" in run("grid", "list", "dal-2").out


def test_what_cant_be_met_is_refused_beforehand_with_the_reason(run, fleet, can_mw):
    too_much = award(run, 1.2 * can_mw)
    assert (too_much.code, f"{can_mw:.2f} MW settle within the notice" in too_much.err) == (2, True), too_much
    too_soon = award(run, can_mw / 2, notice=5)
    assert (too_soon.code, "the slowest needs" in too_soon.err) == (2, True)
    over = award(run, can_mw / 2, start="2025-03-01T08:00", end="2025-03-01T09:00")
    assert (over.code, "it is 2025-03-01 12:00Z" in over.err) == (2, True)
    backwards = award(run, can_mw / 2, start="2025-03-01T16:00", end="2025-03-01T14:00")
    assert (backwards.code, "no time" in backwards.err) == (2, True)
    assert actions(fleet) == [("ann", "award.refused")] * 4
    assert fleet.execute("select count(*) from grid_obligations").fetchone() == (0,)


def test_locked_and_quarantined_devices_are_not_counted(run, fleet, can_mw):
    group = load_inventory(fleet, "hou-1").groups[0]
    assert award(run, 0.99 * can_mw, start="2025-03-02T11:00", end="2025-03-02T16:00").code == 0
    locked = f"{group.first_slot}-{group.first_slot + group.devices // 2}"
    assert run("lock", "hou-1", "--device", locked, "--reason", "work").code == 0
    assert award(run, 0.99 * can_mw).code == 2
    assert run("unlock", "1").code == 0
    fleet.execute(
        """insert into owner_memory (facility_id, epoch, simulated_at, memory)
           values ('hou-1', 1, now(), jsonb_build_object('quarantined', jsonb_build_object(%s::text, %s::int)))""",
        (group.group_id, group.devices // 2),
    )
    assert award(run, 0.99 * can_mw).code == 2
    fleet.execute("update owner_memory set memory = '{}'")
    assert award(run, 0.99 * can_mw).code == 0


def test_what_planned_maintenance_takes_away_meanwhile_is_not_sold(run, fleet, can_mw):
    group = next(g for g in load_inventory(fleet, "hou-1").groups if g.type is ResourceType.ASIC)
    for what, begins in (("--site", "2025-03-01T20:00Z"), (("--group", group.group_id), "2025-03-02T20:00Z")):
        part = (what,) if isinstance(what, str) else what
        assert run("maintenance", "plan", "hou-1", *part, "--from", begins, "--for", "4h", "--reason", "x").code == 0
    during = award(run, can_mw / 2, start="2025-03-01T22:00", end="2025-03-02T04:00")
    assert (during.code, "without the devices of maintenance/1" in during.err) == (2, True), during
    emptying = award(run, can_mw / 2, start="2025-03-01T16:00", end="2025-03-01T20:00")
    assert (emptying.code, "maintenance/1" in emptying.err) == (2, True), "it is empty by its beginning"
    own_mw = next(f.mw for f in flexible_of(load_inventory(fleet, "hou-1")) if f.group_id == group.group_id)
    times = {"start": "2025-03-02T20:00", "end": "2025-03-02T22:00"}
    assert award(run, can_mw - 0.9 * own_mw, **times).code == 2
    assert award(run, can_mw - 1.1 * own_mw, **times).code == 0, "the rest of the site is sold"
    assert run("maintenance", "end", "1").code == 0
    assert award(run, 0.99 * can_mw, start="2025-03-01T22:00", end="2025-03-02T04:00").code == 0, "it was called off"
    assert award(run, 0.99 * can_mw, start="2025-03-03T00:00", end="2025-03-03T04:00").code == 0, "it is over by then"


def test_under_a_stop_or_a_deep_curtailment_nothing_is_sold(run, fleet, can_mw):
    for order in (("stop-all", "hou-1"), ("curtail", "hou-1", "--to", "0.01")):
        assert run(*order, "--reason", "storm").code == 0, order
        refused = award(run, can_mw / 2)
        assert (refused.code, f"{order[0].replace('-', '_')}/" in refused.err, "release it first" in refused.err) == (
            2, True, True
        ), refused  # fmt: skip
        fleet.execute("update operator_overrides set released_at = now(), released_by = 'ann'")
    assert award(run, can_mw / 2).code == 0


def test_what_an_override_holds_is_known_to_an_award(run, fleet):
    inventory = load_inventory(fleet, "hou-1")
    group = inventory.groups[0].group_id
    fleet.execute(
        """insert into operator_overrides (facility_id, kind, scope, value, actor, reason, valid_from)
           values ('hou-1', 'override', jsonb_build_object('group_id', %s::text), '{}', 'ann', 'test', %s)""",
        (group, NOON),
    )
    (held,) = counted_on(fleet, inventory, None, NOON, 1.0).outlook.held_on
    assert (held.group_id, held.start_s, held.end_s) == (group, NOON.timestamp(), math.inf)


def test_what_is_asleep_is_sold_only_from_when_it_can_be_on(fleet):
    inventory = load_inventory(fleet, "hou-1")
    slots = np.arange(inventory.slots, dtype=np.uint32)
    for top in (True, False):
        states = np.zeros(inventory.slots, dtype=np.uint8)
        for group in inventory.groups:
            states[group.first_slot :][: group.devices] = group.ladder[-1 if top else 0].state
        state = pb.FacilityState(states=states.tobytes(), observed=states.tobytes(), reachable=encode_slots(slots))
        found = counted_on(fleet, inventory, state, NOON, 1.0)
        flexible = {f.group_id: f.mw if top else 0.0 for f in flexible_of(inventory)}
        assert {g: found.outlook.on_mw[g] for g in flexible} == pytest.approx(flexible)


def test_the_same_megawatts_are_sold_once(run, can_mw):
    assert award(run, can_mw / 4).code == 0
    twice = award(run, can_mw / 4)
    assert (twice.code, "is sold in that time already: obligation/1 (ECRS" in twice.err) == (2, True), twice
    assert award(run, can_mw / 4, more=("--tranche", "b")).code == 0
    sold = award(run, 0.6 * can_mw, more=("--tranche", "c"))
    assert (sold.code, f"{can_mw / 2:.2f} MW of them are sold" in sold.err) == (2, True), sold
    assert award(run, can_mw / 4, start="2025-03-01T16:00", end="2025-03-01T18:00").code == 0


def test_the_grids_word_is_passed_on_in_its_order_only(run, fleet, can_mw):
    assert award(run, can_mw / 2).code == 0
    later = award(run, can_mw / 2, start="2025-03-02T11:00", end="2025-03-02T16:00")
    assert later.code == 0
    early = run("grid", "recall", "1")
    assert (early.code, "is awarded: there is nothing to recall" in early.err) == (2, True)
    ahead = run("grid", "deploy", "2")
    assert (ahead.code, "can't be deployed now" in ahead.err) == (2, True)
    assert "`hcp grid list`" in run("grid", "deploy", "77").err
    assert run("grid", "deploy", "1", "--reason", "EEA 2").code == 0
    fleet.execute("update grid_obligations set status = 'deployed' where id = 1")
    assert run("grid", "withdraw", "1").code == 2
    assert run("grid", "recall", "1").code == 0
    assert run("grid", "withdraw", "2", "--reason", "sold dear elsewhere").code == 0
    said = [(kind, facility, payload) for kind, facility, payload, _ in signals(fleet)]
    assert said == [("deploy", "hou-1", {"obligation_id": 1}), ("recall", "hou-1", {"obligation_id": 1})]
    assert {source for *_, source in signals(fleet)} == {"operator/ann"}
    assert [status for (status,) in fleet.execute("select status from grid_obligations order by id")] == [
        "deployed",
        "withdrawn",
    ]


def test_a_deployment_can_be_recalled_before_its_owner_has_written_it(run, fleet, can_mw):
    assert award(run, can_mw / 2).code == 0
    for status in ("awarded", "armed"):
        fleet.execute("update grid_obligations set status = %s", (status,))
        assert run("grid", "deploy", "1").code == 0
        assert run("grid", "recall", "1").code == 0
        again = run("grid", "recall", "1")
        assert (again.code, f"is {status}: there is nothing to recall" in again.err) == (2, True), again
    assert run("grid", "deploy", "1").code == 0
    fleet.execute(
        "update grid_obligations set recalled_at = (select max(effective_at) from grid_signals) + interval '1 s'"
    )
    assert run("grid", "recall", "1").code == 2, "that event is over by itself"


def test_a_base_point_is_for_facilities_that_follow_them(run, fleet):
    other = run("grid", "base-point", "hou-1", "3")
    assert (other.code, "dispatch_regime clr_base_point" in other.err) == (2, True)
    facility = fleet.execute("select id from facilities where dispatch_regime = 'clr_base_point'").fetchone()[0]
    assert run("grid", "base-point", facility, "3.5").code == 0
    assert signals(fleet) == [("base_point", facility, {"mw": 3.5}, "operator/ann")]


def test_who_may_only_look_promises_nothing(run, fleet, can_mw):
    for done in (
        award(run, can_mw / 2, by="vic"),
        *(run("grid", what, "1", by="vic") for what in ("deploy", "recall", "withdraw")),
        run("grid", "base-point", "hou-1", "1", by="vic"),
    ):
        assert (done.code, "takes an operator" in done.err) == (1, True), done
    assert actions(fleet, "%.refused") == [
        ("vic", f"{what}.refused") for what in ("award", "deploy", "recall", "withdraw", "base_point")
    ]
    assert signals(fleet) == []


def test_two_awards_at_once_do_not_sell_the_same_load_in_two_tranches(settings, fleet, can_mw):
    inventory, ann = load_inventory(fleet, "hou-1"), authenticate(fleet, "ann", read_token(settings, "ann"))

    def sell(connection, tranche):
        asked = Award("ECRS", 0.7 * can_mw, NOON, NOON + timedelta(hours=2), 600.0, 3600.0, 1800.0, 15_000.0, tranche)
        return grid.award(connection, ann, inventory, asked, ALL_ON, NOON, "test")

    with (
        connect(settings, Role.OPERATOR) as first,
        connect(settings, Role.OPERATOR) as second,
        ThreadPoolExecutor(1) as pool,
    ):
        with first.transaction():
            sell(first, "east")
            other = pool.submit(sell, second, "west")
            with pytest.raises(TimeoutError):
                other.result(1.0)
        with pytest.raises(ConfigError, match=r"MW of them are sold"):
            other.result(30.0)
    assert fleet.execute("select tranche from grid_obligations").fetchall() == [("east",)]


def test_an_award_delays_no_row_of_an_owners(settings, fleet, can_mw):
    inventory, ann = load_inventory(fleet, "hou-1"), authenticate(fleet, "ann", read_token(settings, "ann"))
    asked = Award("ECRS", 0.5 * can_mw, NOON, NOON + timedelta(hours=2), 600.0, 3600.0, 1800.0, 15_000.0)
    with connect(settings, Role.OPERATOR) as first, connect(settings, Role.OPERATOR) as second:
        second.execute("set lock_timeout = '5 s'")
        with first.transaction():
            grid.award(first, ann, inventory, asked, ALL_ON, NOON, "test")
            second.execute(
                """insert into grid_signals (kind, facility_id, source, source_event_id, effective_at, received_at)
                   values ('watch', 'hou-1', 'test', 'one', %(now)s, %(now)s)""",
                {"now": NOON},
            )


@pytest.mark.parametrize("column", ["mw", "notice_s", "duration_s", "recovery_s", "penalty_usd_per_mwh"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_the_database_itself_takes_no_number_that_is_none(fleet, column, value):
    row = {"mw": 1.0, "notice_s": 1.0, "duration_s": 1.0, "recovery_s": 1.0, "penalty_usd_per_mwh": 1.0} | {
        column: value
    }
    with pytest.raises(CheckViolation):
        fleet.execute(
            "insert into grid_obligations (facility_id, programme, status, during, baseline_rule, mw, notice_s, duration_s, "
            "recovery_s, penalty_usd_per_mwh) values ('hou-1', 'ECRS', 'awarded', '[2025-03-01,2025-03-02)', 'meter', %(mw)s, "
            "%(notice_s)s, %(duration_s)s, %(recovery_s)s, %(penalty_usd_per_mwh)s)", row,
        )  # fmt: skip
