"""The world as a process: start and stop, the bulk channel over its socket, kill -9, and the exogenous log."""

import base64
import contextlib
import json
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from pyroaring import BitMap

ROOT = Path(__file__).parents[2]
DEVICES = 2000
GROUP = {
    "group": "a",
    "kind": "ASIC",
    "model": "S21",
    "first_slot": 0,
    "devices": DEVICES,
    "states": [
        {"state": 0, "power_w": 25.0, "ramp_up_s": 5, "ramp_down_s": 20},
        {"state": 3, "power_w": 3500.0, "ramp_up_s": 60, "ramp_down_s": 20},
    ],
}


class WorldProcess:
    """One world in its own short directory (socket paths are bounded)."""

    def __init__(self, folder: Path, speed: float = 60.0, ahead_s: float = 0.0, scenario: str = "calm") -> None:
        self.folder = folder
        self.socket = folder / "b.sock"
        self.ready = folder / "world.json"
        self.transitions = folder / "transitions.jsonl"
        self.exogenous = folder / "exogenous.jsonl"
        self.process: subprocess.Popen[bytes] | None = None
        real_at = datetime.now(UTC) - timedelta(seconds=ahead_s)
        anchor = {"real_at": real_at.isoformat(), "simulated_at": "2025-01-01T00:00:00+00:00", "speed": speed}
        (folder / "clock.json").write_text(json.dumps(anchor))
        site = {"settlement_point": "HB_NORTH", "pue": 1.1, "groups": [GROUP]}
        document = {
            "version": 1,
            "scenario": scenario,
            "anchor": str(folder / "clock.json"),
            "bulk_socket": str(self.socket),
            "ready_file": str(self.ready),
            "transition_log": str(self.transitions),
            "exogenous_log": str(self.exogenous),
            "sites": [{"site": name, **site} for name in ("one", "two")],
        }
        (folder / "world.yaml").write_text(yaml.safe_dump(document))

    def start(self) -> dict:
        self.ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "simulators", "--config", str(self.folder / "world.yaml")]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while not self.ready.exists():
            assert self.process.poll() is None, "the world died at start"
            assert time.monotonic() < until, "the world did not get ready"
            time.sleep(0.01)
        return json.loads(self.ready.read_text())

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def log(self) -> list[dict]:
        return [json.loads(line) for line in self.transitions.read_text().splitlines()]


class Peer:
    """A bare client of the channel, sharing no code with either side."""

    def __init__(self, path: Path, site: str | None = "one") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        if site is not None:
            self.welcome = self.ask(0x01, struct.pack("<HH", 1, len(site)) + site.encode())

    def send(self, kind: int, payload: bytes = b"", request: int = 5) -> None:
        self.socket.sendall(struct.pack("<IBI", 5 + len(payload), kind, request) + payload)

    def receive(self) -> tuple[int, int, bytes]:
        (length,) = struct.unpack("<I", self._exactly(4))
        frame = self._exactly(length)
        kind, request = struct.unpack_from("<BI", frame)
        return kind, request, frame[5:]

    def ask(self, kind: int, payload: bytes = b"") -> tuple[int, bytes]:
        self.send(kind, payload)
        answer, request, body = self.receive()
        assert request == 5
        return answer, body

    def set(self, state: int, slots, ref: uuid.UUID | None = None) -> tuple[BitMap, BitMap]:
        payload = (ref or uuid.uuid4()).bytes + struct.pack("<HB", 3, state) + BitMap(slots).serialize()
        kind, body = self.ask(0x02, payload)
        assert kind == 0x82
        (size,) = struct.unpack_from("<I", body)
        (rest,) = struct.unpack_from("<I", body, 4 + size)
        assert len(body) == 8 + size + rest
        return BitMap.deserialize(body[4 : 4 + size]), BitMap.deserialize(body[8 + size :])

    def commanded(self) -> np.ndarray:
        _, body = self.ask(0x03, b"\x01")
        return np.frombuffer(body[9:], dtype=np.uint8)

    def meter(self) -> tuple[float, float, float]:
        return struct.unpack("<ddd", self.ask(0x04)[1])

    def is_closed(self) -> bool:
        with contextlib.suppress(ConnectionError):
            return self.socket.recv(1) == b""
        return True

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def make_world(folder):
    made = []

    def make(name="w", **options) -> WorldProcess:
        (folder / name).mkdir()
        made.append(WorldProcess(folder / name, **options))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.end(signal.SIGKILL)


def test_it_starts_and_stops_cleanly(make_world):
    world = make_world()
    ready = world.start()
    assert ready["name"] == "world"
    assert ready["pid"] == world.process.pid
    assert ready["urls"]["bulk"] == f"unix:{world.socket}"
    with urllib.request.urlopen(ready["urls"]["http"] + "/healthz", timeout=60) as reply:
        assert json.load(reply)["devices"] == 2 * DEVICES
    assert world.end() == 0
    assert not world.ready.exists()
    assert not world.socket.exists()


def test_a_wrong_configuration_exits_with_2_and_one_clear_line(folder):
    (folder / "world.yaml").write_text("version: 9")
    command = [sys.executable, "-m", "simulators", "--config", str(folder / "world.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "version: Input should be 1" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_dies_with_its_parent(make_world):
    world = make_world()
    code = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-m', 'simulators', '--config', {str(world.folder / 'world.yaml')!r}])\n"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    pid = int(parent.stdout.readline())
    until = time.monotonic() + 60
    while not world.ready.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 60
    while world.ready.exists():
        assert time.monotonic() < until, f"process {pid} outlived its parent"
        time.sleep(0.02)


def test_the_channel_switches_devices_and_logs_each_change_once(make_world):
    world = make_world()
    world.start()
    ref = uuid.uuid4()
    with Peer(world.socket) as peer:
        kind, body = peer.welcome
        assert kind == 0x81
        assert struct.unpack("<HId", body) == (1, DEVICES, 60.0)
        accepted, refused = peer.set(3, [*range(500), DEVICES + 7], ref)
        assert (len(accepted), list(refused)) == (500, [DEVICES + 7])
        assert len(peer.set(3, range(500), ref)[0]) == 500
        assert len(peer.set(5, [1, 2])[1]) == 2
        assert np.count_nonzero(peer.commanded() == 3) == 500
        _, power_w, energy_wh = peer.meter()
        time.sleep(1.2)
        _, later_w, later_wh = peer.meter()
        assert later_w > power_w
        assert later_wh > energy_wh
        assert later_w == pytest.approx((500 * 3500 + 1500 * 25) * 1.1, rel=0.01)
        kind, reading = peer.ask(0x03, b"\x00")
        assert (kind, len(reading)) == (0x83, 9 + 4 * DEVICES)
    (entry,) = world.log()
    assert set(entry) == {"seq", "simulated_at", "real_at", "site", "ref", "assignment", "state", "changed", "slots"}
    assert (entry["seq"], entry["site"], entry["ref"], entry["changed"]) == (1, "one", str(ref), 500)
    assert list(BitMap.deserialize(base64.b64decode(entry["slots"]))) == list(range(500))


BAD_FRAMES = {
    "oversized": (struct.pack("<I", 16 * 1024 * 1024 + 1), 1),
    "too short for a head": (struct.pack("<IB", 1, 4), 1),
    "unknown type": (struct.pack("<IBI", 5, 0x77, 9), 1),
    "short SET": (struct.pack("<IBI", 8, 2, 9) + b"abc", 1),
    "SET with rubbish for slots": (struct.pack("<IBI", 5 + 30, 2, 9) + b"\xff" * 30, 1),
    "READ of nothing known": (struct.pack("<IBIB", 6, 3, 9, 9), 1),
    "METER with a payload": (struct.pack("<IBIB", 6, 4, 9, 0), 1),
    "SUBSCRIBE too often": (struct.pack("<IBII", 9, 5, 9, 10), 1),
}


def test_bad_frames_are_answered_closed_and_hurt_nobody_else(make_world):
    world = make_world()
    world.start()
    with Peer(world.socket, "two") as bystander:
        for name, (raw, code) in BAD_FRAMES.items():
            with Peer(world.socket) as peer:
                peer.socket.sendall(raw)
                kind, _, body = peer.receive()
                assert (kind, struct.unpack_from("<H", body)[0]) == (0xFF, code), name
                assert len(body) > 10, name
                assert peer.is_closed(), name
        openings = [
            (0x04, b"", 3),
            (0x01, struct.pack("<HH", 1, 4) + b"nine", 2),
            (0x01, struct.pack("<HH", 2, 3) + b"one", 4),
            (0x01, b"\x01", 1),
        ]
        for kind, payload, code in openings:
            with Peer(world.socket, None) as peer:
                answer, body = peer.ask(kind, payload)
                assert (answer, struct.unpack_from("<H", body)[0]) == (0xFF, code)
                assert peer.is_closed()
        half = Peer(world.socket)
        half.socket.sendall(struct.pack("<IB", 500, 2))
        half.socket.shutdown(socket.SHUT_WR)
        assert half.is_closed()
        half.socket.close()
        assert len(bystander.set(3, range(10))[0]) == 10


def test_a_subscriber_that_reads_nothing_is_not_queued_for(make_world):
    world = make_world()
    world.start()
    with Peer(world.socket) as slow, Peer(world.socket, "two") as other:
        slow.send(0x05, struct.pack("<I", 100))
        time.sleep(3)
        assert len(other.set(3, range(10))[0]) == 10
        slow.socket.settimeout(1)
        got = 0
        newest = 0.0
        until = time.monotonic() + 2
        while time.monotonic() < until:
            kind, request, body = slow.receive()
            assert (kind, request, len(body)) == (0x83, 0, 9 + 4 * DEVICES)
            (newest,) = struct.unpack_from("<d", body, 1)
            got += 1
        now_s, _, _ = other.meter()
        assert newest > now_s - 60 * 1.5
        assert got < 80


def test_kill_9_loses_no_acknowledged_set(make_world):
    world = make_world()
    draw = random.Random(3)
    expected = np.zeros(DEVICES, dtype=np.uint8)
    energy_wh = 0.0
    for _ in range(4):
        world.start()
        with Peer(world.socket) as peer:
            assert np.array_equal(peer.commanded(), expected)
            assert peer.meter()[2] >= energy_wh
            until = time.monotonic() + draw.uniform(0.05, 1.6)
            while time.monotonic() < until:
                slots, state = draw.sample(range(DEVICES), 300), draw.choice([0, 3])
                peer.set(state, slots)
                expected[slots] = state
            energy_wh = peer.meter()[2]
            world.end(signal.SIGKILL)
    with world.transitions.open("ab") as file:
        file.write(b'{"seq": 99999, "torn')
    world.start()
    with Peer(world.socket) as peer:
        assert np.array_equal(peer.commanded(), expected)
        peer.set(3, range(DEVICES))
    assert world.end() == 0
    sequence = [entry["seq"] for entry in world.log()]
    assert sequence == list(range(1, len(sequence) + 1))


def test_a_lost_state_file_is_rebuilt_from_the_log(make_world):
    world = make_world()
    world.start()
    with Peer(world.socket) as peer:
        peer.set(3, range(700))
        peer.set(0, range(100))
    assert world.end() == 0
    world.transitions.with_suffix(".state").write_bytes(b"rubbish")
    world.start()
    with Peer(world.socket) as peer:
        assert np.flatnonzero(peer.commanded() == 3).tolist() == list(range(100, 700))


def _exogenous(world: WorldProcess, hours: int, *, is_busy: bool, kill_at: int = 0) -> list[bytes]:
    world.start()
    until = time.monotonic() + 60
    while True:
        assert time.monotonic() < until
        lines = world.exogenous.read_bytes().splitlines(keepends=True) if world.exogenous.exists() else []
        if kill_at and len(lines) >= kill_at:
            world.end(signal.SIGKILL)
            with world.exogenous.open("ab") as file:
                file.write(b'{"simulated_at": "20')
            world.start()
            kill_at = 0
        if len(lines) > 12 * hours:
            world.end()
            return lines[: 12 * hours]
        if is_busy:
            with Peer(world.socket) as peer:
                peer.set(random.choice([0, 3]), range(500))
        time.sleep(0.05)


def test_the_exogenous_log_is_byte_equal_at_any_speed_whatever_the_platform_does(make_world):
    def log(name: str, speed: float, ahead_s: float = 0.0, **arguments) -> list[bytes]:
        world = make_world(name, speed=speed, ahead_s=ahead_s, scenario="winter-storm")
        return _exogenous(world, 6, **{"is_busy": False} | arguments)

    slow = log("slow", 3600.0, is_busy=True)
    assert slow == log("fast", 36_000.0)
    assert slow == log("late", 60.0, ahead_s=1000.0)
    assert slow == log("broken", 3600.0, kill_at=10)
    assert json.loads(slow[0])["simulated_at"] == "2025-01-01T00:00:00+00:00"
    assert any("faults" in json.loads(line) for line in slow)
