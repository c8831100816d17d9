"""A supervised child: restart with backoff, session clean-up, the lock, the guardian."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import AlreadyRunningError
from hcp_pipelines.runtime.files import folder_id
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor import child as child_module
from hcp_pipelines.supervisor import guardian
from hcp_pipelines.supervisor.child import Child, ProcessSpec, State, check_health
from hcp_pipelines.supervisor.children import Children, write_json
from hcp_pipelines.supervisor.lock import StateLock, owner_pid, refuse_busy_port
from hcp_pipelines.supervisor.watcher import Guardian

SLEEPER = "import time; time.sleep(60)"


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def make_child(tmp_path: Path, code: str, **options) -> Child:
    spec = ProcessSpec(name="probe", argv=(sys.executable, "-c", code), env=dict(os.environ), cwd=tmp_path, **options)
    return Child(spec, tmp_path / "probe.log", SystemClock())


async def test_a_child_that_dies_comes_back_after_its_backoff(tmp_path):
    child = make_child(tmp_path, SLEEPER)
    child.start()
    try:
        async with httpx.AsyncClient() as client:
            await child.check(client)
        child.poll()
        assert child.state is State.READY
        first = child.pid
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: child.poll() or child.state is State.BACKOFF)
        assert "killed by signal 9" in child.reason
        assert wait_until(lambda: child.poll() or child.state is not State.BACKOFF)
        assert child.pid not in (None, first)
        assert child.restarts == 1
    finally:
        child.stop()
        child.reap(2)


def test_who_needs_postgres_is_not_started_again_before_postgres_is_back(tmp_path):
    postgres, daemon = make_child(tmp_path, SLEEPER), make_child(tmp_path, SLEEPER, after=("postgres",))
    known = {"postgres": postgres, "probe": daemon}
    children = Children(Settings(state_dir=tmp_path), SystemClock(), lambda _: None, known)
    postgres.state = daemon.state = State.BACKOFF
    postgres.retry_at_s, daemon.retry_at_s = float("inf"), 0.0
    children.poll()
    assert (daemon.state, daemon.restarts) == (State.BACKOFF, 0)
    postgres.state = State.READY
    try:
        children.poll()
        assert (daemon.state, daemon.restarts) == (State.STARTING, 1)
    finally:
        daemon.stop()
        daemon.reap(2)


def test_a_child_takes_its_grandchildren_with_it(tmp_path):
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{SLEEPER}']).wait()"
    child = make_child(tmp_path, code)
    child.start()
    session = child.process.pid
    assert wait_until(lambda: len(guardian.session_members({session})) == 2)
    child.stop()
    child.reap(2)
    assert guardian.session_members({session}) == []


def test_a_second_platform_on_one_state_directory_is_refused_by_name(tmp_path):
    path = tmp_path / "run" / "supervisor.lock"
    with StateLock(path):
        assert owner_pid(path) == os.getpid()
        with pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()}"), StateLock(path):
            pass
    assert owner_pid(path) is None


def test_a_busy_port_is_named():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AlreadyRunningError, match=str(port)):
            refuse_busy_port(port, "HCP_DAGSTER_PORT", "the Dagster UI")


def listed(process, pid_file, **changes):
    """A file of pids as a supervisor leaves it, of one process."""
    known = {"name": "probe", "pid": process.pid, "start_ticks": guardian.start_ticks(process.pid)}
    known |= {"boot_id": guardian.boot_id(), "folder": folder_id(pid_file.parent)}
    pid_file.write_text(json.dumps([known | changes]))
    return pid_file


def test_the_guardian_ends_what_a_killed_supervisor_left(tmp_path):
    sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True)
    pid_file = listed(sleeper, tmp_path / "pids.json")
    watcher = Guardian(pid_file)
    watcher.__enter__()
    watcher.__exit__()  # the pipe closes without the good-bye byte, as when the supervisor is killed
    assert sleeper.wait(60) in (-signal.SIGTERM, -signal.SIGKILL), (
        "kill follows where a busy machine lets nobody end in time"
    )
    assert not pid_file.exists()


def test_whoever_ends_in_time_is_asked_to_and_not_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(guardian, "GRACE_S", 60.0)
    sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True)
    pid_file = listed(sleeper, tmp_path / "pids.json")
    assert guardian.end_all(pid_file) == 1
    assert sleeper.wait(60) == -signal.SIGTERM


def test_a_dismissed_guardian_ends_nothing(tmp_path):
    sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True)
    try:
        pid_file = listed(sleeper, tmp_path / "pids.json")
        with Guardian(pid_file) as watcher:
            watcher.dismiss()
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.parametrize("changes", [{"start_ticks": 1}, {"boot_id": "the one before"}, {"pid": 1}])
def test_a_recycled_pid_is_left_alone_even_as_the_leader_of_a_session(tmp_path, changes):
    sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True)
    try:
        pid_file = listed(sleeper, tmp_path / "pids.json", **changes)
        assert guardian.end_all(pid_file) == 0
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_what_a_copied_state_directory_lists_is_the_originals_and_left_alone(tmp_path):
    child = make_child(tmp_path, SLEEPER)
    children = Children(Settings(state_dir=tmp_path / "state"), SystemClock(), lambda _: None, {"probe": child})
    child.start()
    try:
        children.write_pids()
        shutil.copytree(tmp_path / "state", tmp_path / "copy")
        assert guardian.end_all(tmp_path / "copy" / "run" / "pids.json") == 0
        assert child.process.poll() is None
        (tmp_path / "state").rename(tmp_path / "moved")
        assert guardian.end_all(tmp_path / "moved" / "run" / "pids.json") == 1, "moved it is the same"
    finally:
        child.stop()
        child.reap()


def test_of_what_an_older_version_wrote_only_processes_with_our_log_are_ours(tmp_path):
    child = Child(make_child(tmp_path, SLEEPER).spec, tmp_path / "state" / "logs" / "probe.log", SystemClock())
    child.start()
    try:
        (tmp_path / "state" / "run").mkdir()
        write_json(tmp_path / "state" / "run" / "pids.json", [child.identity()])
        shutil.copytree(tmp_path / "state", tmp_path / "copy")
        (tmp_path / "state").rename(tmp_path / "moved")
        shutil.copytree(tmp_path / "copy", tmp_path / "state")  # where the original was
        for copy in ("copy", "state"):
            assert guardian.end_all(tmp_path / copy / "run" / "pids.json") == 0
        assert child.process.poll() is None
        assert guardian.end_all(tmp_path / "moved" / "run" / "pids.json") == 1
    finally:
        child.stop()
        child.reap()


def test_what_outlives_the_leader_of_its_session_is_ended(tmp_path):
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', '{SLEEPER}']).pid, flush=True)"
    leader = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True)
    pid_file = listed(leader, tmp_path / "pids.json")
    with leader.stdout:
        left = int(leader.stdout.readline())
    leader.wait()
    assert guardian.session_members({leader.pid}) == [left]
    assert guardian.end_all(pid_file) == 1
    assert guardian.session_members({leader.pid}) == []


def test_a_long_log_is_cut_while_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(child_module, "LOG_MAX_BYTES", 1000)
    child = make_child(tmp_path, SLEEPER)
    children = Children(Settings(state_dir=tmp_path), SystemClock(), lambda _: None, {"probe": child})
    with child_module._open_log(child.log_path) as log:
        for n in range(3):
            log.write(b"%d" % n * 1500)
            log.flush()
            children.cut_logs()
        log.write(b"the end")
    assert child.log_path.read_bytes() == b"the end"
    assert child.log_path.with_suffix(".log.1").read_bytes() == b"2" * 1500


def test_what_may_wait_gives_way_to_what_switches(tmp_path):
    child = make_child(tmp_path, SLEEPER, nice=10)
    child.start()
    try:
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)
        group = Path(f"/proc/{child.pid}/autogroup")
        if group.exists():
            assert group.read_text().endswith(" nice 10\n"), (
                "a session is a group of its own: inside it niceness says nothing to others"
            )
    finally:
        child.stop()
        child.reap()


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, '{"healthy": true, "problems": {}}', ""),
        (
            503,
            '{"healthy": false, "problems": {"a-1": "no gateway", "journal": "full"}}',
            "a-1: no gateway; journal: full",
        ),
        (503, "not ours", "not ours"),
        (500, "[1]", "[1]"),
    ],
)
async def test_what_a_process_says_is_wrong_is_told_as_text(status, body, reason):
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text=body))
    async with httpx.AsyncClient(transport=transport) as client:
        assert await check_health(client, "http://127.0.0.1/healthz") == reason
