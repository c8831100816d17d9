"""`hcp facility` and `hcp policy show` on a real database."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.facility_file import dump_facility, load_facility
from hcp_pipelines.fleet.inventory import load_inventories
from hcp_pipelines.fleet.simulated_sites import first_address
from hcp_pipelines.fleet.site_export import world_site
from hcp_pipelines.optimizer.publish import publish
from hcp_pipelines.policy.schema import Affine, Anchor, Block, Couplings, LadderStep, Policy, PolicyGroup
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from simulators.addresses import MAX_SITES, address_of
from tests.support.cli import hcp

__all__ = ["hcp"]


@pytest.fixture
def run(hcp, settings):
    return lambda *arguments: hcp(*arguments, "--state-dir", settings.state_dir)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(dump_facility(demo_facilities(1, 200)[0]))
    return path


def test_apply_list_diff_export(run, file, tmp_path):
    assert run("facility", "apply", file, "--actor", "me").out == "hou-1: applied, inventory generation 1\n"
    assert run("facility", "apply", file).out == "hou-1: unchanged\n"
    listed = run("facility", "list")
    assert listed.code == 0
    assert [word in listed.out for word in ("hou-1", "HB_HOUSTON", "200")] == [True] * 3
    assert run("facility", "diff", file).out == "hou-1: no difference\n"
    assert yaml.safe_load(run("facility", "export", "hou-1").out) == yaml.safe_load(file.read_text())
    assert run("facility", "export", "hou-1", tmp_path / "out.yaml").out.startswith("hou-1: written to ")
    assert load_facility(tmp_path / "out.yaml") == load_facility(file)


def test_what_was_in_force_before_can_be_looked_at_and_put_back(run, file, tmp_path):
    run("facility", "apply", file, "--actor", "me")
    other = tmp_path / "other.yaml"
    other.write_text(dump_facility(load_facility(file).model_copy(update={"capacity_mw": 77.0})))
    run("facility", "apply", other, "--actor", "somebody")
    listed = run("facility", "versions", "hou-1").out
    assert [re.search(rf"\b{n}\b.* {by}\b", listed) is not None for n, by in ((2, "somebody"), (1, "me"))] == [
        True,
        True,
    ]
    assert run("facility", "export", "hou-1", tmp_path / "first.yaml", "--version", "1").code == 0
    assert load_facility(tmp_path / "first.yaml") == load_facility(file)
    assert run("facility", "apply", tmp_path / "first.yaml").code == 0
    assert run("facility", "diff", file).out == "hou-1: no difference\n"
    wrong = run("facility", "export", "hou-1", "--version", "9")
    assert (wrong.code, "hou-1 has no version 9: 1 to 3" in wrong.err) == (2, True)
    assert run("facility", "versions", "nowhere").code == 2


def test_the_list_tells_where_simulated_devices_are(run, database, monkeypatch):
    for document in demo_facilities(3, 30):
        apply(database, document, "tester")
    listed = run("facility", "list").out
    sites = [world_site(inventory)["site"] for inventory in load_inventories(database)]
    for k, site in enumerate(sites):
        (line,) = [line for line in listed.splitlines() if site in line]
        assert f"k = {k}: {address_of(k, 0)}" in line
    monkeypatch.setenv("HCP_WORLD", "real")
    assert "127." not in run("facility", "list").out


def test_simulated_sites_begin_where_the_world_has_them():
    assert [first_address(k) for k in range(MAX_SITES)] == [address_of(k, 0) for k in range(MAX_SITES)]
    assert first_address(MAX_SITES) == ""


def test_diff_shows_what_apply_would_change_and_changes_nothing(run, file):
    run("facility", "apply", file)
    file.write_text(file.read_text().replace("settlement_point: HB_HOUSTON", "settlement_point: HB_WEST", 1))
    shown = run("facility", "diff", file)
    assert (shown.code, "HB_WEST" in shown.out) == (0, True)
    assert run("facility", "diff", file).out == shown.out


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("capacity_mw:", "capcity_mw:", ["capcity_mw", "did you mean 'capacity_mw'"]),
        ("value: 1.", "value: -1.", ["pue.value", "-1.", "greater than or equal to 1"]),
        ("feeders:", "feeders: [", ["not YAML"]),
    ],
)
def test_a_broken_file_is_refused_with_the_place_and_the_value(run, file, database, old, new, words):
    file.write_text(file.read_text().replace(old, new, 1))
    done = run("facility", "apply", file)
    assert (done.code, done.out) == (2, "")
    place = done.err.split(": ")[1]
    assert place.startswith(f"{file}:"), "file and line"
    assert [word for word in words if word not in done.err] == []
    assert "docs/facility-file.md" in done.err
    assert database.execute("select count(*) from facilities").fetchone() == (0,)


def test_of_several_files_none_is_applied_if_one_is_broken(run, file, database, tmp_path):
    (tmp_path / "broken.yaml").write_text("version: 1\n")
    assert run("facility", "apply", file, tmp_path / "broken.yaml").code == 2
    assert database.execute("select count(*) from facilities").fetchone() == (0,)


def test_of_several_files_none_is_applied_if_one_does_not_fit_what_is_known(run, file, database, tmp_path):
    odd = tmp_path / "odd.yaml"
    odd.write_text(file.read_text().replace("hou-1", "hou-2").replace("HB_HOUSTON", "HB_HOSTON"))
    done = run("facility", "apply", file, odd)
    assert (done.code, done.out, "did you mean 'HB_HOUSTON'?" in done.err) == (2, "", True)
    assert database.execute("select count(*) from facilities").fetchone() == (0,)


def test_a_resource_node_is_taken_and_remarked_on(run, file):
    file.write_text(file.read_text().replace("HB_HOUSTON", "SOLARA_ALL"))
    for command in ("diff", "apply"):
        done = run("facility", command, file)
        assert (done.code, "look at this: hou-1: settlement_point 'SOLARA_ALL'" in done.err) == (0, True)


def test_a_missing_file_and_an_unknown_facility(run, tmp_path):
    done = run("facility", "apply", tmp_path / "none.yaml")
    assert (done.code, f"{tmp_path / 'none.yaml'}" in done.err) == (2, True)
    done = run("facility", "export", "nowhere")
    assert done.code in (1, 2)
    assert "nowhere" in done.err
    assert "Traceback" not in done.err


TICK = """
    insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, received_at)
    values ('power.rt_lmp', 'HB_HOUSTON', now(), 'electricity', 20, 'USD/MWh', 'test', 'good', now()) returning id"""
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
OFF, FULL = DeviceState.CURTAILED, DeviceState.MINING_FULL


def a_policy(tick_id):
    """Ten miners of 3.5 kW that go on below 60 and off above 70 $/MWh at a hashprice of 50."""
    group = PolicyGroup(
        group_id="s21", feeder_id="f1", devices=10,
        ladder=(LadderStep(state=OFF, power_kw=0.0), LadderStep(state=FULL, power_kw=3.5)),
    )  # fmt: skip
    block = Block(
        group_id="s21", from_state=OFF, to_state=FULL, devices=10, mw=0.035, order=0, index="hashprice",
        on=Affine(slope=1.0, offset=10.0), off=Affine(slope=1.0, offset=20.0), wake_cost_usd_per_mw=0.0,
    )  # fmt: skip
    return Policy(
        facility_id="hou-1", settlement_point="HB_HOUSTON", basis_tick_id=tick_id, solved_at=NOON,
        refresh_due_at=NOON + timedelta(hours=1), expires_at=NOON + timedelta(hours=6),
        input_age_s={"power.rt_lmp": 0.0, "btc.usd": 0.0},
        inventory_generation=1, run_id="run-7", groups=(group,), blocks=(block,), couplings=Couplings(cap_mw=4.0),
        anchor=Anchor(
            decision_price_usd_per_mwh=20.0, indices={"hashprice": 50.0},
            devices_by_state={"s21": {FULL.label: 10}}, target_by_state={"s21": {FULL.label: 10}},
        ),
    )  # fmt: skip


@pytest.fixture
def policy(run, file, settings, database):
    run("facility", "apply", file)
    policy = a_policy(database.execute(TICK).fetchone()[0])
    with connect(settings, Role.CONTROL) as connection:
        publish(connection, policy, "live")
    return policy


def test_policy_show_says_which_blocks_go_on_and_off_at_which_price(run, policy):
    done = run("policy", "show", "hou-1")
    assert done.code == 0, done.err
    assert [
        w for w in ("hou-1", "run-7", "s21", "60.00", "70.00", "hashprice", "cap 4.00 MW") if w not in done.out
    ] == []
    assert run("policy", "show").out == done.out


def test_policy_show_as_json_is_the_policy_as_published(run, policy):
    [shown] = json.loads(run("policy", "show", "--json").out)
    assert Policy.model_validate(shown["policy"]) == policy
    assert shown["run_id"] == "run-7"


def test_policy_show_without_a_policy_says_where_to_look(run, settings):
    done = run("policy", "show", "hou-1")
    assert (done.code, done.out) == (1, "")
    assert [word in done.err for word in ("hou-1", "hcp status", "hcp facility list")] == [True] * 3
