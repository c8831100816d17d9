"""The benchmarks' processes: which deaths count against the figures, and which were meant."""

from pathlib import Path

import pytest

from benchmarks.parts.stack import Stack
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.settings import Settings
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
