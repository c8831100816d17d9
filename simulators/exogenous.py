"""The exogenous log: what happened to the world whatever the platform did. Equal to the byte at any clock speed.

One JSON object a line on a fixed grid of simulated time: prices, weather, and what has begun since the line before: faults, falls
of the grid's frequency, what the grid asks for. Depends on scenario, seed, recording, start and the layout of the sites alone.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from simulators.clock import epoch_s, iso
from simulators.fault_schedule import FaultSchedule
from simulators.series import GENERATED, RECORDED, World

STEP_S = 300
_HOUR_S = 3600
MAX_STEPS_AT_ONCE = 288


class ExogenousLog:
    """Appends every grid instant that has passed."""

    def __init__(
        self, path: Path, world: World, start_s: float, schedules: Mapping[str, FaultSchedule] | None = None
    ) -> None:
        """`schedules`: what befalls the devices, by site."""
        self._path = path
        self._world = world
        self._schedules = schedules or {}
        path.parent.mkdir(parents=True, exist_ok=True)
        last_s = self._resume()
        self._next_s = last_s + STEP_S if last_s is not None else int(-(-start_s // STEP_S) * STEP_S)

    def write_until(self, now_s: float) -> bool:
        """Write the grid instants up to now, at most a day of them at once; whether more are due."""
        ends_s = min(int(now_s // STEP_S) * STEP_S, self._next_s + (MAX_STEPS_AT_ONCE - 1) * STEP_S)
        if ends_s < self._next_s:
            return False
        instants_s = range(self._next_s, ends_s + 1, STEP_S)
        text = "".join(self._entry(at_s) for at_s in instants_s)
        with self._path.open("a") as file:
            file.write(text)
        self._next_s = ends_s + STEP_S
        return self._next_s <= now_s

    def _entry(self, at_s: int) -> str:
        starts_s = np.array([at_s], dtype=np.int64)
        values: dict[str, object] = {}
        for point in self._world.points:
            price = self._world.lmp(point, starts_s)
            values[f"power.rt_lmp/{point}"] = [float(price.values[0]), _source(bool(price.is_recorded[0]))]
            values[f"weather.temperature/{point}"] = list(self._world.temperature_c(point, at_s))
        values["btc.usd"] = list(self._world.btc_usd(at_s))
        if at_s % _HOUR_S == 0:
            values |= self._hourly(at_s, starts_s)
        entry: dict[str, object] = {"simulated_at": iso(at_s), "values": values}
        if faults := [fault for site in self._schedules for fault in self._faults(site, at_s)]:
            entry["faults"] = faults
        if dips := [
            {"from": iso(s), "nadir_hz": dip.nadir_hz}
            for dip, s in self._world.script.dips_between(at_s - STEP_S, at_s)
        ]:
            entry["grid.frequency"] = dips
        if calls := [
            {
                "from": iso(s),
                "kind": call.kind,
                "programme": call.programme,
                "level": call.level,
                "minutes": call.minutes,
            }
            for _, call, s in self._world.script.calls_between(at_s - STEP_S, at_s)
        ]:
            entry["grid.calls"] = calls
        return json.dumps(entry) + "\n"

    def _faults(self, site: str, at_s: int) -> Iterator[dict[str, object]]:
        """What has begun at a site since the line before."""
        for each in self._schedules[site].between(at_s - STEP_S, at_s):
            fault: dict[str, object] = {"site": site, "unit": each.unit, "fault": each.kind}
            fault |= {"devices": len(each.slots), "from": iso(each.start_s), "until": iso(each.end_s)}
            yield fault | ({"xid": each.xid} if each.xid else {})

    def _hourly(self, at_s: int, starts_s: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> dict[str, object]:
        values: dict[str, object] = {}
        for point in self._world.points:
            price = self._world.day_ahead(point, starts_s)
            values[f"power.da_spp/{point}"] = [float(price.values[0]), _source(bool(price.is_recorded[0]))]
        blocks, source = self._world.blocks(at_s, 1)
        values["btc.network/height"] = [blocks[0].height, source]
        values["btc.network/difficulty"] = [blocks[0].difficulty, source]
        offers, source = self._world.gpu_offers(at_s)
        for name in sorted({offer.gpu_type.name for offer in offers}):
            rates = [offer.usd_per_gpu_hour for offer in offers if offer.gpu_type.name == name]
            values[f"gpu.spot/{name}"] = [float(np.median(rates)), source]
        return values

    def _resume(self) -> int | None:
        """The last instant already written; a torn last line is cut off."""
        if not self._path.exists():
            return None
        with self._path.open("r+b") as file:
            size = file.seek(0, 2)
            tail_at = max(0, size - 1024 * 1024)
            file.seek(tail_at)
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            file.truncate(tail_at + whole)
        lines = tail[:whole].splitlines()
        return int(epoch_s(json.loads(lines[-1])["simulated_at"])) if lines else None


def _source(is_recorded: bool) -> str:
    return RECORDED if is_recorded else GENERATED
