"""Where a new world begins: where it is told to, else where it says itself; a restarted one goes on."""

from datetime import UTC, datetime

import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor.anchor import GENERATED_WORLD_STARTS_AT, note_reached, write_anchor

SUMMER, SPRING = datetime(2025, 7, 28, 15, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("told", "says", "begins"),
    [(None, SUMMER, SUMMER), (SPRING, SUMMER, SPRING), (None, None, GENERATED_WORLD_STARTS_AT)],
)
def test_a_new_world_begins_where_it_is_told_to_or_says_itself(tmp_path, told, says, begins):
    assert write_anchor(Settings(state_dir=tmp_path), told, says).simulated_at == begins


def test_a_restarted_world_goes_on_whatever_another_scenario_says_and_refuses_another_beginning(tmp_path):
    settings = Settings(state_dir=tmp_path)
    note_reached(settings, write_anchor(settings, SPRING, SUMMER))
    for says in (SUMMER, None, SPRING):
        assert write_anchor(settings, None, says).simulated_at > SPRING
        assert write_anchor(settings, None, says).simulated_at < SUMMER
    assert write_anchor(settings, SPRING, SUMMER).simulated_at > SPRING
    with pytest.raises(ConfigError, match="has already reached"):
        write_anchor(settings, SUMMER, None)
