"""Facility files in a real database: idempotent, permanent slots, refusals, export equal to what was applied."""

import psycopg
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.admission import remarks
from hcp_pipelines.fleet.apply import apply, diff, export
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.groups import StateOverride
from hcp_pipelines.fleet.inventory import load_inventories, load_inventory
from hcp_pipelines.fleet.obligations import flexible_of
from hcp_pipelines.fleet.site_export import edge_facility, world_site
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from simulators.power_plant.cooling import pue
from simulators.settings import SiteConfig
from tests.support.fleet import inventory_of


@pytest.fixture
def demo(database):
    facilities = demo_facilities(3, 2000)
    for facility in facilities:
        assert apply(database, facility, "tester").changed
    return facilities


def with_devices(facility, group_id, devices):
    groups = tuple(g.model_copy(update={"devices": devices}) if g.group_id == group_id else g for g in facility.groups)
    return facility.model_copy(update={"groups": groups})


def count(database, query, *values):
    return database.execute(query, values).fetchone()[0]


def test_applying_again_changes_nothing_and_export_gives_it_back(database, demo):
    before = count(database, "select count(*) from audit_log")
    for facility in demo:
        result = apply(database, facility, "tester")
        assert (result.changed, result.generation, result.version) == (False, 1, 1)
        assert export(database, facility.facility_id) == facility
        assert diff(database, facility) == []
    assert count(database, "select count(*) from audit_log") == before == 3
    assert count(database, "select count(*) from resources") == 2000


def test_the_inventory_is_what_the_file_says(database, demo):
    inventories = load_inventories(database)
    assert [i.facility_id for i in inventories] == ["hou-1", "hub-1", "nor-1"]
    hou = load_inventory(database, "hou-1")
    assert hou.devices == hou.slots == demo[0].devices
    assert hou.feeder_limits_mw == {f.feeder_id: f.limit_mw for f in demo[0].feeders}
    assert {(r.scope, r.scope_id): r.up_mw for r in hou.ramps} == {
        ("facility", "hou-1"): 75.0, ("feeder", "feeder-1"): 25.0, ("feeder", "feeder-2"): 25.0, ("portfolio", "all"): 300.0,
    }  # fmt: skip
    assert hou.fallback["h100"] is DeviceState.INFERENCE_BATCH
    for group in hou.groups:
        powers = [s.power_kw for s in group.ladder]
        assert powers == sorted(powers)
    rows = database.execute(
        "select group_id, min(slot), count(*) from resources where facility_id = 'hou-1' group by 1"
    ).fetchall()
    assert {(g.group_id, g.first_slot, g.devices) for g in hou.groups} == set(rows)


def test_the_exports_carry_slots_and_power(database, demo):
    hou = load_inventory(database, "hou-1")
    edge, world = edge_facility(hou, "unix:/x"), world_site(hou)
    assert (edge["generation"], edge["driver"]["site"], world["site"]) == (1, "hou-1", "hou-1")
    for edge_group, world_group in zip(edge["groups"], world["groups"], strict=True):
        assert edge_group["first_slot"] == world_group["first_slot"]
        watts = [round(s["power_kw"] * 1000, 3) for s in edge_group["ladder"]]
        assert watts == [round(s["power_w"], 3) for s in world_group["states"]]
        for step, state in zip(edge_group["ladder"], world_group["states"], strict=True):
            assert step["settle_s"] > max(state["ramp_up_s"], state["ramp_down_s"])
    limits = {f["feeder"]: (f["limit_w"], f["is_interruptible"]) for f in world["feeders"]}
    watts = {feeder_id: pytest.approx(mw * 1e6) for feeder_id, mw in hou.feeder_limits_mw.items()}
    assert limits == {"feeder-1": (watts["feeder-1"], True), "feeder-2": (watts["feeder-2"], False)}
    assert {(g["feeder"], g["kind"]) for g in world["groups"]} == {("feeder-1", "ASIC"), ("feeder-2", "GPU")}
    assert set(edge["fallback"]) == {g["group_id"] for g in edge["groups"]}


def test_the_files_feeders_and_the_slope_of_its_pue_reach_the_world(database):
    big = demo_facilities(1, 30_000)[0]
    feeders = tuple(f.model_copy(update={"interruptible": f.feeder_id == "feeder-s21-2"}) for f in big.feeders)
    warm = big.pue.model_copy(update={"slope_per_celsius": 0.003, "above_celsius": 22.0})
    apply(database, big.model_copy(update={"pue": warm, "feeders": feeders}), "tester")
    world = world_site(load_inventory(database, "hou-1"))
    assert [f["feeder"] for f in world["feeders"] if f["is_interruptible"]] == ["feeder-s21-2"]
    site = SiteConfig.model_validate(world)
    for outdoor_celsius in (10.0, 40.0):
        for load_fraction in (0.1, 1.0):
            assert pue(site.plant.cooling, site.pue, outdoor_celsius, load_fraction) == pytest.approx(
                warm.at(outdoor_celsius)
            )
    even = big.model_copy(update={"pue": warm.model_copy(update={"slope_per_celsius": 0.0})})
    apply(database, even, "tester")
    assert "plant" not in world_site(load_inventory(database, "hou-1"))


def test_a_grown_group_makes_a_generation_and_the_others_keep_their_slots(database, demo):
    before = {g.group_id: g.first_slot for g in load_inventory(database, "hou-1").groups}
    grown = with_devices(demo[0], "m60s", 230)
    assert diff(database, grown) == [f"groups[m60s].devices: {demo[0].groups[1].devices} → 230"]
    result = apply(database, grown, "tester")
    assert (result.generation, result.version) == (2, 2)
    after = load_inventory(database, "hou-1")
    assert {g.group_id: g.first_slot for g in after.groups if g.group_id != "m60s"} == {
        g: slot for g, slot in before.items() if g != "m60s"
    }
    slots = "select count(*) from resources where facility_id = 'hou-1' and generation = %s"
    assert count(database, slots, 2) == after.devices
    assert count(database, slots, 1) == 0
    assert count(database, "select count(*) from device_groups where facility_id = 'hou-1'") == 8


def test_a_group_that_is_scheduled_from_now_on_keeps_its_generation(database, demo):
    groups = tuple(g.model_copy(update={"scheduled": g.type == "GPU"}) for g in demo[0].groups)
    done = apply(database, demo[0].model_copy(update={"groups": groups}), "tester")
    assert (done.changed, done.generation, done.version) == (True, 1, 2)
    gpus = {g.group_id for g in demo[0].groups if g.type == "GPU"}
    assert gpus
    assert load_inventory(database, "hou-1").scheduled == gpus


def test_a_change_of_limits_keeps_the_generation(database, demo):
    wider = demo[0].model_copy(update={"capacity_mw": demo[0].capacity_mw + 1})
    assert (apply(database, wider, "tester").generation, load_inventory(database, "hou-1").capacity_mw) == (
        1, wider.capacity_mw,
    )  # fmt: skip


def test_the_smallest_portfolio_ramp_of_all_files_holds(database, demo):
    ramps = demo[0].ramps
    slow = ramps.model_copy(update={"portfolio": ramps.portfolio.model_copy(update={"up_mw": 40.0})})
    apply(database, demo[0].model_copy(update={"ramps": slow}), "tester")
    apply(database, with_devices(demo[1], "h100", 5), "tester")
    assert count(database, "select up_mw from ramp_budgets where scope = 'portfolio'") == 40.0


def sell(database, mw, day, tranche="all"):
    database.execute(
        """insert into grid_obligations (facility_id, programme, status, mw, tranche, during, baseline_rule, notice_s,
               duration_s, recovery_s) values ('hou-1', 'RRS', 'armed', %s, %s, %s, 'none', 0, 3600, 0)""",
        (mw, tranche, f"[2025-01-{day:02}, 2025-01-{day + 1:02})"),
    )


def test_a_fallback_plan_below_what_is_sold_is_refused_whole(database, demo):
    sell(database, 1.0, 1)
    with pytest.raises(ConfigError, match=r"keeps 0\.000 MW on that can be shed, but 1\.000 MW are sold"):
        apply(database, with_devices(demo[0], "s21", 5), "tester")
    assert load_inventory(database, "hou-1").generation == 1
    assert export(database, "hou-1") == demo[0]


def test_obligations_one_after_the_other_are_not_added_up_and_those_at_once_are(database, demo):
    mining = {g.group_id: DeviceState.MINING_FULL for g in demo[0].groups if g.type == "ASIC"}
    awake = demo[0].model_copy(update={"fallback": demo[0].fallback | mining})
    could_mw = sum(f.mw for f in flexible_of(inventory_of(awake)))
    assert awake.fallback_sheddable_mw() == pytest.approx(could_mw)
    sell(database, 0.6 * could_mw, 1)
    sell(database, 0.6 * could_mw, 2)
    apply(database, awake, "tester")
    sell(database, 0.6 * could_mw, 2, tranche="east")
    with pytest.raises(ConfigError, match="can be shed"):
        apply(database, with_devices(awake, "s21", 5), "tester")


def test_what_gpus_draw_and_what_miners_draw_asleep_is_no_load_that_can_be_shed(demo):
    assert demo[0].fallback_mw()["feeder-1"] > 0, "asleep they draw something"
    assert demo[0].fallback_mw()["feeder-2"] > 0
    assert demo[0].fallback_sheddable_mw() == 0


def test_apply_announces_the_facility(database, settings):
    with connect(settings, Role.OPERATOR) as listener:
        listener.execute("listen hcp_facility")
        apply(database, demo_facilities(1, 10)[0], "tester")
        assert [n.payload for n in listener.notifies(timeout=60, stop_after=1)] == ["hou-1"]


def test_least_rights_readers_can_read_and_only_read(database, demo, settings):
    for role in (Role.OPERATOR, Role.CONTROL, Role.ALLOCATOR):
        with connect(settings, role) as connection:
            assert len(load_inventories(connection)) == 3
            assert export(connection, "hou-1") == demo[0]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("delete from device_groups")


def test_an_unknown_facility_is_named(database):
    with pytest.raises(ConfigError, match="no facility 'x-1'"):
        export(database, "x-1")
    with pytest.raises(ConfigError, match="no facility 'x-1'"):
        load_inventory(database, "x-1")


def reached(facility, addresses, firmware="luxos", meters=None):
    """The facility with its first group as miners at addresses of their own, and nothing else."""
    changes = {"devices": len(addresses), "driver": "miner_api", "addresses": tuple(addresses), "firmware": firmware}
    own = facility.groups[0].model_copy(update=changes)
    api = facility.miner_api.model_copy(update={"meters": meters})
    return facility.model_copy(update={"groups": (own,), "fallback": {}, "miner_api": api})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: reached(f, ["10.1.0.1"], "luxos@2099"), r"hou-1: group s21: firmware 'luxos@2099' is not known; there is "
         r"luxos, luxos@2024-01, luxos@estimate \(docs/protocols.md\)"),
        (lambda f: reached(f, ["10.1.0.1"], "braiins@1"), r"firmware 'braiins@1' is not known; there is braiins \("),
        (lambda f: f.model_copy(update={"settlement_point": "HB_NORHT"}), r"'HB_NORHT' is no hub .*did you mean 'HB_NORTH'\?"),
        (lambda f: f.model_copy(update={"settlement_point": "lz_q"}), r"'lz_q' is no hub .*There are HB_BUSAVG, .*LZ_WEST"),
    ],
)  # fmt: skip
def test_what_is_known_to_be_wrong_is_refused_by_diff_and_apply(database, change, words):
    wrong = change(demo_facilities(1, 100)[0])
    for attempt in (lambda: diff(database, wrong), lambda: apply(database, wrong, "tester")):
        with pytest.raises(ConfigError, match=words):
            attempt()
    assert load_inventories(database) == []


def test_a_file_that_was_taken_before_more_was_known_stays_readable(database, demo):
    database.execute(
        """update facilities set document = jsonb_set(document, '{groups,0,firmware}', '"luxos@2099"') where id = 'hou-1'"""
    )
    assert load_inventory(database, "hou-1").document.groups[0].firmware == "luxos@2099"


def test_an_address_belongs_to_one_facility(database, demo):
    hou, nor, hub = demo
    apply(database, reached(hou, ["10.1.0.1", "10.1.0.2", "10.1.0.3"]), "tester")
    own = reached(nor, ["10.1.0.9", "10.1.0.3", "10.1.0.2"])
    for attempt in (lambda: diff(database, own), lambda: apply(database, own, "tester")):
        with pytest.raises(ConfigError, match=r"nor-1: address 10\.1\.0\.2 and 1 more: hou-1 has it already"):
            attempt()
    assert load_inventory(database, "nor-1").devices == nor.devices
    apply(database, reached(hou, ["10.1.0.1"]), "tester")
    assert apply(database, own, "tester").changed, "given up by the other one"
    apply(database, reached(hou, ["10.1.0.1", "10.1.0.4"]), "tester")
    database.execute("update facilities set status = 'retired' where id = 'nor-1'")
    assert apply(database, reached(hub, ["10.1.0.9"]), "tester").changed, "a retired facility's devices are free"


def test_an_address_that_a_scan_has_found_counts(database, demo):
    apply(database, reached(demo[0], ["10.1.0.1"]), "tester")
    database.execute(
        """update device_groups set specifications = jsonb_set(specifications, '{addresses}', '["10.1.0.7-10.1.0.8"]')
           where facility_id = 'hou-1' and generation = 2"""
    )
    with pytest.raises(ConfigError, match=r"address 10\.1\.0\.8: hou-1 has it"):
        apply(database, reached(demo[1], ["10.1.0.8"]), "tester")
    assert apply(database, reached(demo[1], ["10.1.0.1"]), "tester").changed


def test_a_revenue_meter_measures_one_facility(database, demo):
    apply(database, reached(demo[0], ["10.1.0.1"], meters="10.9.0.1:502"), "tester")
    with pytest.raises(ConfigError, match=r"nor-1: miner_api\.meters 10\.9\.0\.1:502: hou-1 has it already"):
        diff(database, reached(demo[1], ["10.1.0.2"], meters="10.9.0.1:502"))
    assert diff(database, reached(demo[1], ["10.1.0.2"], meters="10.9.0.2:502"))


def test_what_may_be_right_is_remarked_on():
    hou = demo_facilities(1, 100)[0]
    assert remarks(hou) == []
    states = hou.groups[0].resolved().ladder
    own = {
        "model": "S21-XP",
        "firmware": "vnish@1",
        "states": tuple(StateOverride(state=s.state, power_kw=s.power_kw) for s in states),
    }
    odd = hou.model_copy(update={"settlement_point": "SOLARA_ALL", "groups": (hou.groups[0].model_copy(update=own),)})
    first, second, third = remarks(odd)
    assert "hou-1: settlement_point 'SOLARA_ALL' is none of ERCOT's hubs and load zones" in first
    assert "group s21: model 'S21-XP' is not in the table, where 'S21 XP' is" in second
    assert "group s21: of firmware 'vnish@1' nothing is known" in third
