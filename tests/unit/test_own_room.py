"""The folder of a test process (`tests/support/room.py`): nobody takes that of one who lives, and none is left for ever."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.room import room

NOBODY = (
    4_194_305  # above all numbers of processes: to a look into /proc, one that is in another container is not there
)
LIVING = """
import sys
from pathlib import Path
from tests.support.room import room
with room([Path(sys.argv[1])]) as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def living(tmp_path):
    """Another process that has a room in the same folder."""
    argv = [sys.executable, "-c", LIVING, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_what_a_killed_process_left_goes_and_what_anybody_else_has_stays(living, tmp_path):
    others = tmp_path / "hcp-tests-results", tmp_path / f"hcp-tests-{NOBODY}-unmarked"
    for folder in others:
        folder.mkdir()
    theirs = Path(living.stdout.readline().strip()).rename(tmp_path / f"hcp-tests-{NOBODY}-theirs")
    with room([tmp_path]) as own:
        assert {*tmp_path.iterdir()} == {*others, theirs, own}
    living.kill()
    living.wait()
    with room([tmp_path]) as own:
        assert {*tmp_path.iterdir()} == {*others, own}
    assert {*tmp_path.iterdir()} == {*others}


def test_where_nothing_can_be_written_or_too_little_the_next_will_do(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    for unfit, needed in ((Path("/proc"), 0), (tmp_path / "absent", 0), (small, 1 << 60)):
        with room([unfit, tmp_path], needed) as own:
            assert own.parent == tmp_path
    with room([small, tmp_path], 1) as own:
        assert own.parent == small
    with pytest.raises(OSError, match="/proc"), room([Path("/proc")]):
        pass
