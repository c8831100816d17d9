"""The benchmarks' processes: which deaths count against the figures, and which were meant."""

from pathlib import Path

import pytest

from benchmarks.parts.stack import Stack, own_platform
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.supervisor.child import Child, ProcessSpec


@pytest.fixture
def running(tmp_path):
    """A stack of one process that sleeps."""
    spec = ProcessSpec("sleeper", ("sleep", "600"), {"PATH": "/usr/bin:/bin"}, Path("/"))
    stack = Stack(Settings(state_dir=tmp_path), children={"sleeper": Child(spec, tmp_path / "log", SystemClock())})
    stack.children["sleeper"].start()
    yield stack
    stack.stop()


def test_a_process_that_dies_by_itself_counts_before_it_is_started_again(running):
    assert running.restarts() == 0
    process = running.children["sleeper"].process
    process.kill()
    process.wait()
    assert running.restarts() == 1


def test_a_process_that_is_killed_on_purpose_does_not_count_and_stays_down(running):
    assert running.kill("sleeper").tzinfo is not None
    assert running.restarts() == 0
    assert running.children["sleeper"].pid is None
    with pytest.raises(RuntimeError, match="sleeper does not run"):
        running.kill("sleeper")


@pytest.mark.parametrize("is_kept", [False, True])
def test_what_a_platform_leaves_is_removed_unless_it_is_to_be_kept(tmp_path, is_kept):
    with own_platform(tmp_path / "kept" if is_kept else None, 60, 2, 30.0) as settings:
        left = [settings.state_dir, EmbeddedPostgres(settings).data_dir]
        for folder in left:
            folder.mkdir(parents=True, exist_ok=True)
    assert (settings.devices, settings.facilities, settings.clock_speed) == (60, 2, 30.0)
    assert [folder.exists() for folder in left] == [is_kept, is_kept]
    assert settings.at("x").is_relative_to(tmp_path) is is_kept
    if is_kept:
        EmbeddedPostgres(settings).data_dir.rmdir()
