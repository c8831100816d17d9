"""Facility files: errors that say what is wrong and where, and a stable round trip."""

import re
from pathlib import Path

import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import ControlMode, DeviceState
from hcp_pipelines.fleet.facility_file import dump_facility, load_facility, parse_facility
from hcp_pipelines.fleet.models import MODELS

MINIMAL = """\
version: 1
facility_id: west-1
name: West 1
location: {lat: 31.8, lon: -102.4}
settlement_point: HB_WEST
capacity_mw: 10
pue: 1.05
feeders:
  - {feeder_id: f1, limit_mw: 10}
groups:
  - {group_id: s21, type: ASIC, model: S21, firmware: luxos, feeder_id: f1, devices: 2000}
"""


def test_defaults_are_the_shipped_ones():
    site = parse_facility(MINIMAL)
    assert site.control_mode is ControlMode.OBSERVE
    assert (site.feeders[0].ramp.up_mw, site.ramps.facility.up_mw, site.ramps.portfolio.down_mw) == (25, 75, 300)
    assert site.feeders[0].ramp.window_s == 300
    assert site.fallback_state(site.groups[0]) is DeviceState.CURTAILED
    ladder = site.groups[0].resolved().ladder
    assert [(s.state, round(s.power_kw, 6)) for s in ladder] == [
        (DeviceState.CURTAILED, 0.025), (DeviceState.MINING_ECO, 2.8), (DeviceState.MINING_FULL, 3.5),
    ]  # fmt: skip
    assert ladder[1].hash_rate_th_per_s == pytest.approx(172)


def test_what_is_written_reads_back_equal_and_stays_the_same():
    site = parse_facility(MINIMAL)
    text = dump_facility(site)
    assert parse_facility(text) == site
    assert dump_facility(parse_facility(text)) == text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("capacity_mw: 10", "capcity_mw: 10", r"site.yaml:6: capcity_mw: unknown key; did you mean 'capacity_mw'\?"),
        ("devices: 2000", "devics: 2000", r"site.yaml:11: groups.0.devics: unknown key; did you mean 'devices'\?"),
        ("pue: 1.05", "pue: 0.9", r"site.yaml:7: pue.value: 0.9: .*greater than or equal to 1"),
        ("model: S21", "model: S99", r"site.yaml:11: groups.0: model 'S99' is not in the table \(S21, "),
        ("firmware: luxos", "firmware: whatsminer", r"firmware 'whatsminer' is not known for 'S21': use one of luxos"),
        ("type: ASIC", "type: GPU", r"model 'S21' is of type ASIC, not GPU"),
        ("devices: 2000", "devices: 2000, driver: miner_api", r"group s21 has 2000 devices and 0 addresses"),
        ("devices: 2000", "devices: 2000, addresses: [10.0.0]", r"'10.0.0' is no range of addresses"),
        ("firmware: luxos", "firmware: braiins, driver: miner_api", r"group s21: miner_api drives ASICs with stock, "),
        ("devices: 2000", "devices: 2000, scheduled: true", r"group s21 is scheduled, but ASICs with the states curtailed"),
        ("devices: 2000", "devices: 2000, topology: {node: 8}", r"group s21: topology is of GPUs, ASICs have none"),
        ("devices: 2000", "devices: 2000, topology: {node: 8, island: 3}", r"islands of 3 GPUs don't divide a node of 8"),
        ("pue: 1.05", "pue: 1.05\ndriver: telepathy", r"site.yaml:8: driver: 'telepathy'"),
        ("feeder_id: f1, devices", "feeder_id: f2, devices", r"group s21 is on feeder 'f2'; there are \['f1'\]"),
        ("limit_mw: 10", "limit_mw: 10000", r"no feeder can carry more than the site \(is one of them in kW\?\)"),
        ("pue: 1.05", "pue: 1.05\nfallback: {s22: curtailed}", r"fallback names group 's22'"),
        ("pue: 1.05", "pue: 1.05\nfallback: {s21: training}", r"fallback of s21: training is not on its ladder"),
        ("pue: 1.05", "pue: 1.05\nfallback: {s21: asleep}", r"site.yaml:8: fallback.s21: 'asleep': .*use one of curtailed"),
        ("pue: 1.05", "pue: 1.05\npue: 1.1", r"site.yaml:8: 'pue' is there twice"),
        ("pue: 1.05", "pue: [", r"site.yaml:\d+: not YAML"),
        ("capacity_mw: 10", "capacity_mw: .nan", r"capacity_mw"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(old, new, message):
    assert old in MINIMAL
    with pytest.raises(ConfigError) as refused:
        parse_facility(MINIMAL.replace(old, new, 1), "site.yaml")
    assert re.search(message, str(refused.value)), refused.value


def test_a_fallback_plan_over_a_limit_is_refused():
    text = MINIMAL.replace("limit_mw: 10", "limit_mw: 5") + "fallback: {s21: mining_full}\n"
    with pytest.raises(ConfigError, match=r"puts 7\.350 MW on feeder f1, whose limit is 5\.0 MW"):
        parse_facility(text)


def test_a_model_of_ones_own_and_measured_figures():
    states = (
        "states: [{state: curtailed, power_kw: 0.03}, {state: mining_full, power_kw: 4.1, hash_rate_th_per_s: 250}]"
    )
    own = parse_facility(MINIMAL.replace("model: S21, firmware: luxos", f"model: Homebrew, {states}"))
    assert own.groups[0].resolved().specifications["efficiency_j_per_th"] == pytest.approx(16.4)
    measured = parse_facility(
        MINIMAL.replace("devices: 2000", "devices: 2000, states: [{state: mining_full, power_kw: 3.6}]")
    )
    assert [round(s.power_kw, 6) for s in measured.groups[0].resolved().ladder] == [0.025, 2.8, 3.6]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: can't be read"):
        load_facility(tmp_path / "none.yaml")


def test_the_example_of_the_documentation_is_valid():
    page = (Path(__file__).parents[2] / "docs" / "facility-file.md").read_text()
    site = parse_facility(page.split("```yaml\n")[1].split("```")[0], "docs/facility-file.md")
    assert parse_facility(dump_facility(site)) == site
    assert site.pue.at(30) == pytest.approx(1.07)
    assert site.groups[1].resolved().ladder[1].power_kw == 2.9
    for model in MODELS:
        assert f"| {model} |" in page


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "site.yaml:2: the alias \\*a0 is not taken"),
        ("a: &a [*a]", "site.yaml:1: the alias \\*a is not taken"),
        ("a: " + "[" * 5000 + "]" * 5000, "site.yaml:1: nested too deep: the limit is 20"),
        ("# " + "x" * 1_000_000, "site.yaml: 1000002 characters; the limit is 1000000"),
    ],
)
def test_a_file_that_would_unfold_is_refused_at_once(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_facility(text, "site.yaml")
