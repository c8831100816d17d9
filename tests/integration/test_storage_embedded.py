"""The embedded server: it keeps its data through stops and kills, ends with its owner, and opens nobody's directories."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psycopg
import pytest

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.runtime.files import folder_id
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import embedded
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.postgres import address, connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.doctor import examine_clusters
from tests.support.binaries import BINARIES

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, what):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def remove(server):
    if server.data_dir.parent.name.startswith("hcp-"):  # as root it has a home of its own
        shutil.rmtree(server.data_dir.parent, ignore_errors=True)


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory):
    """A prepared state directory with one table, its server stopped."""
    path = tmp_path_factory.mktemp("embedded") / "state"
    server = EmbeddedPostgres(Settings(state_dir=path))
    server.prepare()
    server.spawn()
    try:
        server.wait_ready()
        with psycopg.connect(server.admin_dsn()) as connection:
            connection.execute("create table kept (n integer)")
            connection.execute("insert into kept values (1)")
        server.stop()
        yield path
    finally:
        server.stop()
        remove(server)


@pytest.fixture
def server(state_dir):
    server = EmbeddedPostgres(Settings(state_dir=state_dir))
    server.prepare()
    yield server
    server.stop()


def kept(server):
    with psycopg.connect(server.admin_dsn()) as connection:
        return connection.execute("select count(*) from kept").fetchone()[0]


def test_preparing_again_keeps_the_data_and_stopping_twice_is_nothing(server, state_dir):
    server.spawn()
    server.wait_ready()
    assert kept(server) == 1
    with psycopg.connect(server.admin_dsn()) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("select 'hush-hush' from nowhere_at_all")
    server.stop()
    log = (state_dir / "logs" / "postgres.log").read_text()
    assert ("nowhere_at_all" in log, "hush-hush" in log) == (True, False), "what failed, without what it held"
    server.stop()
    assert not (server.data_dir / "postmaster.pid").exists()


def test_it_comes_back_after_kill_9_and_nothing_that_was_committed_is_lost(server):
    process = server.spawn()
    server.wait_ready()
    with psycopg.connect(server.admin_dsn()) as connection:
        connection.execute("insert into kept values (2)")
    process.kill()
    process.wait()
    server.spawn()
    server.wait_ready()
    assert kept(server) == 2
    with psycopg.connect(server.admin_dsn()) as connection:
        connection.execute("delete from kept where n = 2")


def test_an_orphan_of_the_same_directory_is_ended_before_another_starts(server, state_dir):
    orphan = server.spawn()
    server.wait_ready()
    successor = EmbeddedPostgres(Settings(state_dir=state_dir))
    successor.prepare()
    assert orphan.wait(5) == 0, "ended by a fast shutdown"
    successor.spawn()
    try:
        successor.wait_ready()
        assert kept(successor) == 1
    finally:
        successor.stop()


def test_a_pid_file_that_names_another_process_is_not_believed(server):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        (server.data_dir / "postmaster.pid").write_text(f"{bystander.pid}\n{server.data_dir}\n")
        server.spawn()
        server.wait_ready()
        assert kept(server) == 1
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only as root does the server run as another account")
def test_from_a_venv_that_nobody_may_enter_it_runs_on_a_copy(tmp_path, monkeypatch):
    wheel = BINARIES.parent
    monkeypatch.setattr(embedded, "_is_reachable", lambda path: path != wheel)
    server = EmbeddedPostgres(Settings(state_dir=tmp_path / "state"))
    try:
        server.prepare()
        process = server.spawn()
        server.wait_ready()
        program = Path(f"/proc/{process.pid}/exe").resolve()
        assert program.is_relative_to(server.data_dir.parent)
        assert program.stat().st_uid == 0  # nobody runs it, and can't change it
    finally:
        server.stop()
        remove(server)


IN_A_NAMESPACE = ("unshare", "--user", "--map-root-user")
PREPARE = """
import sys
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.embedded import EmbeddedPostgres
try:
    EmbeddedPostgres(Settings(state_dir=sys.argv[1])).prepare()
except StorageError as error:
    print(error)
"""


def may_make_namespaces():
    if shutil.which("unshare") is None:
        return False
    return subprocess.run((*IN_A_NAMESPACE, "true"), capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_make_namespaces(), reason="user namespaces may not be made here")
def test_root_of_a_namespace_without_nobody_is_told_what_to_do(tmp_path):
    argv = (*IN_A_NAMESPACE, sys.executable, "-c", PREPARE, str(tmp_path / "state"))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    said = ("'nobody' (65534)", "user namespace", "unshare -Un --map-current-user --keep-caps", "HCP_DATABASE_URL")
    assert [word for word in said if word not in done.stdout] == []
    assert list(tmp_path.iterdir()) == [], "nothing is left"


OWNER = """
import sys, time
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Settings(state_dir=sys.argv[1]))
server.prepare()
process = server.spawn()
server.wait_ready()
print(process.pid, flush=True)
time.sleep(600)
"""


def test_it_ends_cleanly_with_an_owner_who_is_killed(server, state_dir):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, state_dir], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    pid = int(owner.stdout.readline())
    assert is_running(pid)
    owner.kill()
    owner.communicate()
    wait_for(lambda: not is_running(pid), "the server outlives its owner")
    assert "database system is shut down" in (state_dir / "logs" / "postgres.log").read_text().splitlines()[-1]


def test_a_server_that_can_not_start_is_an_error_that_names_the_log(server, state_dir):
    configuration = server.data_dir / "postgresql.conf"
    good = configuration.read_text()
    configuration.write_text(good + "\nno_such_setting = 1\n")
    try:
        server.spawn()
        with pytest.raises(StorageError, match=r"ended with 1.*See .*postgres\.log"):
            server.wait_ready()
    finally:
        configuration.write_text(good)


def test_the_password_of_the_set_up_is_not_left_lying_about(server, state_dir):
    assert not list(server.data_dir.parent.glob("*password*"))
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    record = json.loads((state_dir / "run" / "postgres.json").read_text())
    where = {"socket_dir": str(server.socket_dir), "port": server.port, "data_dir": str(server.data_dir)}
    assert record == where | {"folder": folder_id(state_dir / "run")}


@pytest.mark.parametrize("is_of_an_older_version", [False, True])
def test_no_command_on_a_copy_of_a_state_directory_meets_the_originals_server(
    server, state_dir, tmp_path, is_of_an_older_version
):
    for part in ("run", "secrets"):
        shutil.copytree(state_dir / part, tmp_path / "copy" / part, ignore=shutil.ignore_patterns(".s.*"))
    for path in (state_dir / "run" / "postgres.json", tmp_path / "copy" / "run" / "postgres.json"):
        if is_of_an_older_version:
            record = json.loads(path.read_text())
            del record["folder"]
            path.write_text(json.dumps(record))
    with pytest.raises(StorageError, match=f"{tmp_path / 'copy'} is a copy.*{server.socket_dir}.*`hcp up` here"):
        connect(Settings(state_dir=tmp_path / "copy"), Role.ADMIN)
    assert address(Settings(state_dir=state_dir)) == {"host": str(server.socket_dir), "port": str(server.port)}


def test_no_directory_on_the_way_is_opened(tmp_path, postgres):
    state = tmp_path / "home" / "deep" / "state"
    state.mkdir(parents=True)
    for folder, mode in ((tmp_path / "home", 0o700), (tmp_path / "home" / "deep", 0o750), (state, 0o711)):
        folder.chmod(mode)
    ways = [*BINARIES.parents, *state.parents, state, BINARIES]
    before = {path: path.stat().st_mode for path in ways}
    server = EmbeddedPostgres(Settings(state_dir=state))
    server.prepare()
    server.spawn()
    try:
        server.wait_ready()
        assert {path: path.stat().st_mode for path in ways} == before
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        assert server.data_dir != EmbeddedPostgres(postgres).data_dir
    finally:
        server.stop()
        remove(server)


def test_a_state_directory_whose_cluster_is_gone_does_not_begin_anew_beside_its_lake(tmp_path):
    lake = tmp_path / "state" / "lake" / "raw"
    lake.mkdir(parents=True)
    (lake / "ducklake-1.parquet").touch()
    server = EmbeddedPostgres(Settings(state_dir=tmp_path / "state"))
    with pytest.raises(StorageError, match=r"PostgreSQL's data of .* put them back"):
        server.prepare()
    assert not server.data_dir.exists()


def test_a_socket_directory_made_open_before_is_closed(tmp_path):
    (tmp_path / "state" / "run").mkdir(mode=0o755, parents=True)
    server = EmbeddedPostgres(Settings(state_dir=tmp_path / "state"))
    server._make_own_directories()
    try:
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
    finally:
        remove(server)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers live apart from their state directory")
class TestAsRoot:
    def test_the_server_is_nobody_and_sees_a_home_of_its_own(self, server):
        process = server.spawn()
        server.wait_ready()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in Path(f"/proc/{process.pid}/status").read_text()
        seen = {path: path.stat() for path in (server.data_dir.parent, server.data_dir, server.socket_dir)}
        assert [s.st_uid for s in seen.values()] == [0, NOBODY, NOBODY]
        assert [stat.S_IMODE(s.st_mode) for s in seen.values()] == [0o711, 0o700, 0o700]
        assert stat.S_IMODE((server.data_dir.parent / "belongs-to").stat().st_mode) == 0o600

    def test_nobody_can_not_make_root_write_elsewhere(self, tmp_path):
        """As in a home of an earlier version, which was nobody's altogether."""
        home = self.prepared(tmp_path / "state")
        try:
            (tmp_path / "of-root").write_text("as it was")
            (home / "belongs-to").unlink()
            (home / "belongs-to").symlink_to(tmp_path / "of-root")
            os.chown(home, NOBODY, NOBODY)
            assert self.prepared(tmp_path / "state") == home
            assert (tmp_path / "of-root").read_text() == "as it was"
            assert home.stat().st_uid == 0
        finally:
            shutil.rmtree(home)

    def prepared(self, state):
        server = EmbeddedPostgres(Settings(state_dir=state))
        server._make_own_directories()
        return server.data_dir.parent

    @pytest.fixture
    def elsewhere(self, tmp_path, monkeypatch):
        """A folder that is none of the temporary directory."""
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        return tmp_path / "elsewhere"

    def test_no_start_removes_the_cluster_of_a_state_directory_that_may_come_back(self, elsewhere, server):
        """One that gave way to a fresh one, a moved one, one of a disk that is away, and a copy of a cluster."""
        homes = {name: self.prepared(elsewhere / name) for name in ("gave-way", "moved", "copied", "removed")}
        mount = elsewhere / "mount" / "state"
        homes["away"] = self.prepared(mount)
        shutil.rmtree(mount)  # as its mount point is with the disk away
        homes["copy"] = Path(shutil.copytree(homes["copied"], f"{homes['copied']}.bak"))
        for name in ("gave-way", "moved"):
            (elsewhere / name).rename(elsewhere / f"{name}.old")
        shutil.rmtree(elsewhere / "removed")
        homes["fresh"] = self.prepared(elsewhere / "gave-way")
        try:
            server.prepare()
            EmbeddedPostgres(Settings(state_dir=elsewhere / "gave-way"))._make_own_directories()
            assert [name for name, home in homes.items() if not home.exists()] == []
            found = examine_clusters(server.data_dir.parent.parent, server._settings.at())
            told = [name for name, home in homes.items() if f"`rm -r {home}` if you" in found.found]
            assert (found.is_well, told) == (True, ["gave-way", "moved", "removed", "away", "copy"])
        finally:
            for home in homes.values():
                shutil.rmtree(home)

    def test_the_cluster_of_a_removed_state_directory_of_the_temporary_one_is_removed_too(self, tmp_path, server):
        gone, remade, stays = (self.prepared(tmp_path / name) for name in ("gone", "remade", "stays"))
        copy = Path(shutil.copytree(gone, f"{gone}.bak"))
        shutil.rmtree(tmp_path / "gone")
        shutil.rmtree(tmp_path / "remade")
        fresh = self.prepared(tmp_path / "remade")
        server.prepare()
        try:
            assert [path.exists() for path in (gone, remade, stays, fresh, copy)] == [False, False, True, True, True]
            assert server.data_dir.exists()
        finally:
            for path in (stays, fresh, copy):
                shutil.rmtree(path)

    def test_a_copy_of_a_state_directory_never_meets_the_originals_cluster(self, tmp_path, server):
        """Started, it would end the original's server; removed, it would take the original's data with it."""
        server.prepare()
        process = server.spawn()
        server.wait_ready()
        state, copy = server._settings.at(), tmp_path / "copy"
        copy.mkdir()
        shutil.copy(state / "postgres-id", copy)
        with pytest.raises(StorageError, match=f"{copy} is a copy of {state}"):
            EmbeddedPostgres(Settings(state_dir=copy)).prepare()
        shutil.rmtree(copy)
        other = EmbeddedPostgres(Settings(state_dir=tmp_path / "other"))
        other.prepare()
        try:
            assert process.poll() is None
            assert (server.data_dir / "PG_VERSION").exists()
        finally:
            shutil.rmtree(other.data_dir.parent)

    def test_a_state_directory_that_was_moved_takes_its_cluster_along(self, tmp_path):
        home = self.prepared(tmp_path / "before")
        (home / "data").mkdir()
        (home / "data" / "PG_VERSION").write_text("what was there before")
        (tmp_path / "before").rename(tmp_path / "after")
        server = EmbeddedPostgres(Settings(state_dir=tmp_path / "after"))
        try:
            server.prepare()
            assert server.data_dir.parent == home
            assert (home / "belongs-to").read_text() == str(tmp_path / "after")
            assert (server.data_dir / "PG_VERSION").read_text() == "what was there before"
        finally:
            shutil.rmtree(home)


AS_NORMAL_USER = """
import json, os, sys
import hcp_pipelines.storage.bootstrap as bootstrap, hcp_pipelines.storage.embedded as embedded
import encodings.idna, importlib.readers, polars, psycopg, pydantic.networks, pydantic_settings.sources
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.roles import Role
os.setgroups([]); os.setgid(65534); os.setuid(65534)
settings = Settings(state_dir=sys.argv[1])
server = embedded.EmbeddedPostgres(settings)
server.prepare()
process = server.spawn()
try:
    server.wait_ready()
    bootstrap.bootstrap(settings)
    lake.write(settings, "raw.readings", polars.DataFrame({"power_kw": [1.0]}), "a")
    with lake.attach(settings, Role.LAKE_READER, read_only=True) as connection:
        rows = connection.execute("select count(*) from lake.raw.readings").fetchone()[0]
finally:
    server.stop()
print(json.dumps({"rows": rows, "data_dir": str(server.data_dir), "socket_dir": str(server.socket_dir), "uid": os.getuid()}))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="all other tests here run as a normal user already")
def test_as_a_normal_user_everything_is_in_the_state_directory():
    """The imports come first, as root: the interpreter itself may be where a normal user can't go."""
    if not all(path.stat().st_mode & stat.S_IXOTH for path in (BINARIES, *BINARIES.parents)):
        pytest.skip(f"{BINARIES} can't be reached by a normal user")
    home = Path(tempfile.mkdtemp(prefix="hcp-as-normal-user-"))  # pytest's own directories are closed to others
    try:
        os.chown(home, NOBODY, NOBODY)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(AS_NORMAL_USER), home / "state"],
            cwd=ROOT, env={"HOME": str(home), "PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads(done.stdout.splitlines()[-1])
        assert found == {
            "rows": 1, "uid": NOBODY, "data_dir": f"{home}/state/postgres", "socket_dir": f"{home}/state/run"
        }  # fmt: skip
        assert {path.stat().st_uid for path in (home / "state").rglob("*")} == {NOBODY}
        modes = {
            name: stat.S_IMODE((home / "state" / name).stat().st_mode)
            for name in ("run", "postgres", "secrets", "lake")
        }
        assert set(modes.values()) == {0o700}, modes
    finally:
        shutil.rmtree(home, ignore_errors=True)
