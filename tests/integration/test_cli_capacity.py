"""`hcp capacity` at a served world: both clouds by the GPU-hour, cheapest first, and words for what is not there."""

import json
from datetime import UTC, datetime

import pytest

from hcp_pipelines.settings import Settings
from tests.support.cli import hcp  # noqa: F401 - a fixture
from tests.support.served import served_world

NOW = datetime(2025, 2, 1, 12, tzinfo=UTC)


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def test_both_clouds_are_shown_by_the_gpu_hour_cheapest_first(hcp, state):  # noqa: F811
    with served_world(Settings(state_dir=state), NOW):
        done = hcp("capacity", "--json", "--state-dir", state)
        table = hcp("capacity", "--gpu", "H100", "--state-dir", state)
        nothing = hcp("capacity", "--gpu", "H1000", "--state-dir", state)
        elsewhere = hcp("capacity", "--aws-region", "eu-west-9", "--json", "--state-dir", state)
    found = json.loads(done.out)
    assert (done.code, found["failures"]) == (0, [])
    assert {offer["provider"] for offer in found["offers"]} == {"aws", "azure"}
    h100 = [offer["usd_per_gpu_hour"] for offer in found["offers"] if offer["gpu_type"] == "H100"]
    assert h100 == sorted(h100)
    assert {12.29, 11.061, 6.98} <= set(h100)
    assert "p5.48xlarge" in table.out
    assert "Standard_NC40ads_H100_v5" in table.out
    assert "A100" not in table.out
    assert "No H1000 is offered there; there are A100, H100, H200, L4." in nothing.out
    assert {offer["provider"] for offer in json.loads(elsewhere.out)["offers"]} == {"azure"}
    assert "aws: " in elsewhere.err
    assert "There is no region eu-west-9 here" in elsewhere.err


def test_a_cloud_that_can_not_be_asked_is_named_beside_the_other(hcp, state):  # noqa: F811
    with served_world(Settings(state_dir=state), NOW):
        done = hcp("capacity", "--azure-region", "moon", "--json", "--state-dir", state)
        assert (done.code, {offer["provider"] for offer in json.loads(done.out)["offers"]}) == (0, {"aws"})
    with served_world(Settings(state_dir=state), NOW, scenario="bad-data", seed=7) as clock:
        clock.at_s += 3 * 3600
        assert "Traceback" not in hcp("capacity", "--state-dir", state).err


def test_without_a_world_and_for_the_real_one_it_says_what_is_missing(hcp, state):  # noqa: F811
    done = hcp("capacity", "--state-dir", state)
    assert (done.code, "Start `hcp up` first" in done.err) == (1, True)
    real = hcp("capacity", "--state-dir", state, HCP_WORLD="real")
    assert (real.code, "HCP_MARKETS_FILE is unset" in real.err) == (2, True)


def test_the_real_clouds_are_asked_by_the_file_of_accounts_and_who_has_none_is_named(hcp, state, tmp_path):  # noqa: F811
    (tmp_path / "key").write_text("hush")
    accounts = tmp_path / "markets.yaml"
    with served_world(Settings(state_dir=state), NOW):
        url = json.loads((state / "run" / "world.json").read_text())["urls"]["http"]
        accounts.write_text(
            f"version: 1\naws: {{key_id: AKID, secret_key_file: key, base_url: '{url}', pricing_url: '{url}'}}\n"
        )
        done = hcp("capacity", "--json", "--state-dir", state, HCP_WORLD="real", HCP_MARKETS_FILE=str(accounts))
    found = json.loads(done.out)
    assert (done.code, {offer["provider"] for offer in found["offers"]}) == (0, {"aws"})
    assert found["failures"] == ["azure: HCP_MARKETS_FILE has no account there (docs/markets.md)"]
