"""The world is asked about its file before it takes its place: a refusal says why, and the file before stays."""

import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor import configuration
from hcp_pipelines.supervisor.anchor import refuse_other_world


def write(tmp_path, **settings):
    configuration._write_world(Settings(state_dir=tmp_path, **settings), [])
    return tmp_path / "world" / "world.yaml"


def test_an_unknown_scenario_is_refused_and_the_known_ones_are_named(tmp_path):
    path = write(tmp_path)
    before = path.read_text()
    with pytest.raises(ConfigError, match=r"HCP_WORLD=sim: .*'nonsense' is unknown; there are bad-data, .*calm"):
        write(tmp_path, scenario="nonsense")
    assert path.read_text() == before


def test_a_recording_that_is_not_there_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match="there is no such folder"):
        refuse_other_world(Settings(state_dir=tmp_path / "state", world=f"replay:{tmp_path / 'nowhere'}"))
