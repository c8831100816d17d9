"""The platform under chaos: its processes by name, relays in the gateways' places, clocks, orders, and its health over time.

What is done to it is in `injecting.py`; how it is judged in `judging.py`.
"""

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg
import yaml

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.operators.progress import read_gateway
from hcp_pipelines.runtime.process import read_clock
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.faults.chaos.plan import ALLOCATORS
from tests.faults.chaos.relay import Relay
from tests.faults.chaos.sampling import Meters
from tests.faults.records import Final, Span
from tests.support.platform import RunningPlatform

WATCH_EACH_S = 0.25
UNSEEN_S = 10.0  # an obligation may have ended so long before it was seen: Postgres was away
READY_WITHIN_S = 180.0
READ_AGAIN = 20


class Seen(NamedTuple):
    """A process as the supervisor told of it."""

    real_s: float
    name: str
    pid: int | None
    is_healthy: bool


class Watch(threading.Thread):
    """Notes whenever a process' pid or health changes."""

    def __init__(self, platform: RunningPlatform) -> None:
        super().__init__(name="watch", daemon=True)
        self._platform, self._ends = platform, threading.Event()
        self.seen: list[Seen] = []
        self.armed: list[Span] = []
        self._armed_since_s: dict[tuple[int, str, float], float] = {}

    def run(self) -> None:
        """Until `stop`."""
        last: dict[str, tuple[int | None, bool]] = {}
        while not self._ends.wait(WATCH_EACH_S):
            with contextlib.suppress(psycopg.Error, OSError, StorageError):
                self._note_armed()
            for row in self._platform.status()["processes"]:
                now = (row["pid"], row["healthy"])
                if last.get(row["name"]) != now:
                    last[row["name"]] = now
                    self.seen.append(Seen(time.time(), row["name"], *now))

    def stop(self) -> None:
        """No more."""
        self._ends.set()
        self.join(10)

    def _note_armed(self) -> None:
        """Obligations that have become armed, or ended; when Postgres is away nothing becomes either.

        One whose interval is over has ended, though nobody may own the facility who could write it.
        """
        now = read_clock(self._platform.settings).now()
        now_s, armed = time.time(), set(self._platform.query(_ARMED, now))
        for key in armed - self._armed_since_s.keys():
            self._armed_since_s[key] = now_s
        for key in self._armed_since_s.keys() - armed:
            _, facility_id, mw = key
            self.armed.append(Span("obligation", facility_id, self._armed_since_s.pop(key), now_s - UNSEEN_S, mw=mw))

    def ran_through(self, name: str, from_s: float, until_s: float) -> bool:
        """Whether a process was the same, and well, all the time."""
        return not any(s.name == name and from_s <= s.real_s <= until_s for s in self.seen)

    def back_after_s(self, name: str, at_s: float, pid: int | None) -> float | None:
        """How long until another process of that name was healthy."""
        back = (s.real_s for s in self.seen if s.name == name and s.real_s > at_s and s.is_healthy and s.pid != pid)
        first = next(back, None)
        return None if first is None else first - at_s


class Stage:
    """A running platform with relays before its gateways."""

    def __init__(self, platform: RunningPlatform, seed: int) -> None:
        self.platform, self.settings = platform, platform.settings
        rows = platform.query("select facility_id, gateway, address from gateway_endpoints order by 1")
        self.facilities = tuple(row[0] for row in rows)
        self.gateways = tuple(sorted({row[1] for row in rows}))
        self._addresses = {facility: address for facility, _, address in rows}
        self._gateway_of = {facility: gateway for facility, gateway, _ in rows}
        sockets = {gateway: Path(address.removeprefix("unix:")) for _, gateway, address in rows}
        self.relays = {
            name: Relay(path.with_name(f"relay-{name}.sock"), path, seed + n)
            for n, (name, path) in enumerate(sorted(sockets.items()))
        }
        self.anchor = self.settings.at("run", "clock.json")
        self.watch = Watch(platform)
        self.meters = Meters(self.settings.socket_dir() / "bulk.sock", list(self.facilities))

    def __enter__(self) -> "Stage":
        """Allocators reach their gateways through the relays from here on."""
        self._set_addresses({f: self.relays[g].address for f, g in self._gateway_of.items()})
        self._restart_allocators()
        self.watch.start()
        self.meters.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Allocators find the gateways where they were."""
        self.watch.stop()
        self.meters.stop()
        try:
            self._set_addresses(self._addresses)
            self._restart_allocators()
        finally:
            for relay in self.relays.values():
                relay.close()

    def pid(self, name: str) -> int | None:
        """Of a process that runs now."""
        return self.platform.row(name)["pid"]

    def facilities_of(self, gateway: str) -> list[str]:
        """Facilities behind a gateway."""
        return [facility for facility, name in self._gateway_of.items() if name == gateway]

    def gateway_file(self, name: str) -> Path:
        """A gateway's site file."""
        return self.settings.at("edge", f"{name}.yaml")

    def shifted_anchor(self, seconds: float) -> str:
        """The anchor's text, with a clock that is ahead by so many real seconds."""
        raw = json.loads(self.anchor.read_text())
        at = datetime.fromisoformat(raw["real_at"]) - timedelta(seconds=seconds)
        return json.dumps(raw | {"real_at": at.isoformat()})

    def edit_gateway(self, name: str, anchor: Path) -> None:
        """Have a gateway read that anchor at its next start."""
        path = self.gateway_file(name)
        document = yaml.safe_load(path.read_text()) | {"anchor": str(anchor)}
        fresh = path.with_suffix(".chaos")
        fresh.write_text(yaml.safe_dump(document, sort_keys=False))
        fresh.replace(path)

    def wait_calm(self, seconds: float) -> float:
        """Wait until everything is healthy and no command is without an answer; how long that took."""
        began_s = time.monotonic()
        self.platform.wait(self._is_calm, seconds, "everything healthy and settled")
        return time.monotonic() - began_s

    def finals(self) -> list[Final]:
        """What gateways hold to be their devices' states, and what the devices say; read again while they differ."""
        for _ in range(READ_AGAIN):
            found = [self._final(facility_id) for facility_id in self.facilities]
            if all(one.told == one.drawn for one in found):
                break
            time.sleep(1)
        return found

    def _final(self, facility_id: str) -> Final:
        with connect(self.settings, Role.OPERATOR) as connection:
            state = read_gateway(self.settings, connection, facility_id)
        return Final(facility_id, tuple(state.states), self.meters.told(facility_id), ())

    def _is_calm(self) -> bool:
        status = self.platform.status()
        is_well = status["ready"] and all(p["healthy"] for p in status["processes"])
        return is_well and self.platform.query(_OPEN)[0][0] == 0

    def _restart_allocators(self) -> None:
        """Both at once: they read the addresses with their next leases."""
        with ThreadPoolExecutor(len(ALLOCATORS)) as pool:
            list(pool.map(self.platform.kill9, ALLOCATORS))

    def _set_addresses(self, addresses: dict[str, str]) -> None:
        deadline_s = time.monotonic() + READY_WITHIN_S
        while True:
            with (
                contextlib.suppress(psycopg.Error, StorageError, OSError),
                connect(self.settings, Role.ADMIN) as connection,
            ):
                for facility_id, address in addresses.items():
                    connection.execute(_ADDRESS, (address, facility_id))
                return
            if time.monotonic() > deadline_s:
                raise AssertionError("Postgres takes no addresses")
            time.sleep(WATCH_EACH_S)


_ARMED = "select id, facility_id, mw from grid_obligations where status = 'armed' and upper(during) > %s"
_ADDRESS = "update gateway_endpoints set address = %s where facility_id = %s"
_OPEN = """
    select count(*) from switch_journal c
    where c.event = 'commanded' and c.recorded_at < clock_timestamp() - interval '5 s' and not exists (
        select from switch_journal a where (a.command_id, a.assignment) = (c.command_id, c.assignment)
        and a.event in ('acked', 'expired'))"""
