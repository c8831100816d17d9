"""Settings: unknown names are refused with the nearest, values with their bounds; a real world runs in real time."""

import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings, child_environment, refuse_unknown_names


def test_a_misspelt_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"HCP_CLOCK_SPED is not a setting of HCP\. Did you mean HCP_CLOCK_SPEED"):
        refuse_unknown_names({"HCP_CLOCK_SPED": "1", "PATH": "/bin"})


@pytest.mark.parametrize(
    ("name", "value"), [("clock_speed", 0), ("devices", 2), ("world", "mars"), ("dagster_port", 0)]
)
def test_a_value_out_of_bounds_names_itself(name, value):
    with pytest.raises(ConfigError, match=f"HCP_{name.upper()}={value!r}"):
        Settings.load(**{name: value})


def test_a_real_world_runs_at_speed_one_and_at_no_other():
    assert Settings.load(world="real").clock_speed == 1
    assert Settings.load(world="real", clock_speed=1).clock_speed == 1
    with pytest.raises(ConfigError, match=r"HCP_CLOCK_SPEED=60.*a real world runs at speed 1"):
        Settings.load(world="real", clock_speed=60)


def test_a_child_gets_every_setting_and_nothing_else_of_ours(monkeypatch):
    monkeypatch.setenv("HCP_SEED", "11")
    monkeypatch.setenv("HCP_NONSENSE", "1")
    environment = child_environment(Settings(seed=12, devices=50), HCP_PROCESS_NAME="x")
    assert (environment["HCP_SEED"], environment["HCP_DEVICES"]) == ("12", "50")
    assert environment["HCP_PROCESS_NAME"] == "x"
    assert "HCP_NONSENSE" not in environment
