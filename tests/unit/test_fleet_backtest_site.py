"""A facility file as the back-test sees it: all-in megawatts, and limits that bind."""

import pytest
from click.testing import CliRunner

from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.backtest_site import mixed_site
from hcp_pipelines.fleet.facility_file import parse_facility
from hcp_pipelines.optimizer.backtest.mixed import limits, ramps

FILE = """\
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
  - {group_id: h100, type: GPU, model: H100 SXM5, feeder_id: f1, devices: 1000}
"""
MINERS = "  - {group_id: s21, type: ASIC, model: S21, firmware: luxos, feeder_id: f1, devices: 2000}\n"


def test_power_is_all_in_and_ai_work_is_in_proportion_to_the_gpus():
    site = mixed_site(parse_facility(FILE))
    assert [group.name for group in site.groups] == ["s21"]
    assert site.groups[0].mw == pytest.approx(2000 * 3.5 * 1.05 / 1000)
    assert site.groups[0].efficiency_j_per_th == pytest.approx(17.5 * 1.05)
    gpu_mw = 1000 * 1.3 * 1.05 / 1000
    assert sum(each.peak_mw for each in site.ai.classes) == pytest.approx(9 * gpu_mw / 15)
    assert sum(job.most_mw for job in site.ai.daily) == pytest.approx(6 * gpu_mw / 15)
    assert site.peaks.usd_per_mw == 16_250


def test_without_gpus_there_is_no_ai_work():
    text = "\n".join(line for line in FILE.splitlines() if "h100" not in line)
    site = mixed_site(parse_facility(text))
    assert site.ai.classes == site.ai.daily == ()


def test_limits_that_bind_are_the_sites():
    text = FILE.replace("capacity_mw: 10", "capacity_mw: 8").replace("limit_mw: 10", "limit_mw: 7")
    site = mixed_site(parse_facility(text))
    assert (site.limit_mw, site.groups[0].feeder) == (8, "f1")
    assert site.feeder_limits_mw == {"f1": pytest.approx(7 - 1.365)}
    assert limits.binds(site)
    assert not limits.binds(mixed_site(parse_facility(FILE)))


def test_ramps_are_the_tighter_of_facility_and_portfolio_by_the_hour():
    ramps_of = (
        "pue: 1.05\nramps: {facility: {up_mw: 1, down_mw: 2, window_s: 600}, portfolio: {up_mw: 9, down_mw: 0.5}}"
    )
    site = mixed_site(parse_facility(FILE.replace("pue: 1.05", ramps_of)))
    assert (site.ramp_up_mw_per_h, site.ramp_down_mw_per_h) == pytest.approx((6, 6))
    assert ramps.bind(site, 0.25)
    assert not ramps.bind(mixed_site(parse_facility(FILE)), 0.25), "the shipped ones are 75 MW in five minutes"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"capacity_mw: 10": "capacity_mw: 1.3", "limit_mw: 10": "limit_mw: 1.3"},
            r"GPUs draw 1\.4 MW .* feeder f1 has 1\.3 MW",
        ),
        ({MINERS: ""}, "has no miners"),
        (
            {"pue: 1.05": "pue: 1.05\nramps: {facility: {up_mw: 0.2, down_mw: 9}}"},
            r"AI work comes and goes by up to 1\.4 MW, the ramps let 0\.6 MW change in 15 minutes",
        ),
        (
            {"limit_mw: 10}": "limit_mw: 10, ramp: {up_mw: 9, down_mw: 1}}"},
            r"feeder f1 may change by 3\.0 MW in 15 minutes, 8\.7 MW are behind it",
        ),
        ({"pue: 1.05": "pue: 1.05\ndwell: {min_down_s: 1800}"}, "minimum times of 0 s up, 1800 s down"),
        ({"pue: 1.05": "pue: 1.05\ndwell: {starts_per_hour: 1}"}, "at most 1 starts an hour"),
    ],
)
def test_what_is_not_in_the_back_test_is_refused(changes, says):
    text = FILE
    for before, after in changes.items():
        text = text.replace(before, after)
    with pytest.raises(ConfigError, match=says):
        mixed_site(parse_facility(text))


def test_a_file_is_no_single_megawatt(tmp_path):
    (tmp_path / "west.yaml").write_text(FILE)
    arguments = ["backtest", "--facility", str(tmp_path / "west.yaml"), "--from", "2024-03-01", "--to", "2024-03-05"]
    with pytest.raises(ConfigError, match="leave --preset asic-1mw out"):
        CliRunner().invoke(cli, [*arguments, "--preset", "asic-1mw"], catch_exceptions=False)
    with pytest.raises(ConfigError, match="mixed-100mw needs prices, capacity prices"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
