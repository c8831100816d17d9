"""What one device is like at an instant: `MinerReading` and `GpuReading`, made from its segment of power and its history.

Holds what the segment alone does not say: hashes done, the rise of temperature at the segment's start, and since when it is
awake. Everything is a function of these and the instant: a reading changes nothing, and it doesn't matter how often one is taken.
"""

import hashlib
from typing import TypeVar

import numpy as np

from simulators import thermal, work
from simulators.models import GpuModel, MinerModel
from simulators.ramps import Ramps, Segment
from simulators.readings import GpuReading, MinerReading
from simulators.streams import FloatArray, IntArray
from simulators.tables import CURTAILED, Tables

Model = TypeVar("Model", MinerModel, GpuModel)

_REJECTED_PER_SHARE = 0.004  # stale and rejected shares (setting; pools show 0.1–1 %)
_ERRORS_PER_TH = 2e-6  # chips' wrong nonces per terahash (setting)
_IDLE_GPU_STATES = frozenset({0, 1})
_WOBBLE_S = 10  # utilisation moves within its band every 10 s


class Physics:
    """The histories of one site's devices, and their readings."""

    def __init__(self, site: str, tables: Tables, ramps: Ramps, inlet_c: float, at_s: float) -> None:
        self._site = site
        self._tables = tables
        self._ramps = ramps
        size = len(tables.first_state)
        everyone = np.arange(size, dtype=np.int64)
        self.hashed_th = np.zeros(size)  # until the segment's start
        self.full_th_per_s = tables.hash_th_per_s[tables.first_state, everyone]  # at the segment's target
        self.awake_since_s = np.full(size, at_s)
        self.rise_c = self._equilibrium_c(everyone, ramps.to_w.astype(np.float64), inlet_c).astype(np.float32)

    def turn(self, index: IntArray, state: int, inlet_c: float, at_s: float) -> None:
        """Book what was until now; to be called before the devices' power is sent elsewhere."""
        segment = self._ramps.segment(index, at_s)
        self.hashed_th[index] = self._hashed_th(index, segment)
        self.rise_c[index] = self._rise_c(index, segment, inlet_c)
        is_waking = self.full_th_per_s[index] <= 0
        self.full_th_per_s[index] = self._tables.hash_th_per_s[state, index]
        if state != CURTAILED:
            self.awake_since_s[index[is_waking]] = at_s

    def miner(self, slot: int, state: int, inlet_c: float, faults: frozenset[str], at_s: float) -> MinerReading:
        """The reading of one ASIC."""
        group, model = self._of(slot, MinerModel)
        index = np.array([slot])
        segment = self._ramps.segment(index, at_s)
        power_w = float(self._ramps.power_of(index, at_s)[0])
        rise_c = float(self._rise_c(index, segment, inlet_c)[0])
        share = float(work.share_of_full(segment, self._asleep_w(index))[0])
        hashrate = share * float(self.full_th_per_s[slot])
        hashed_th = float(self._hashed_th(index, segment)[0])
        shares = int(hashed_th / work.TH_PER_SHARE)
        rejected = int(shares * _REJECTED_PER_SHARE * (0.5 + self._own(slot, "rejects")))
        return MinerReading(
            site=self._site,
            slot=slot,
            model=self._tables.groups[group].model,
            firmware=self._tables.groups[group].firmware,
            state=state,
            power_w=power_w,
            hashrate_th_per_s=hashrate,
            nominal_hashrate_th_per_s=float(self._tables.hash_th_per_s[state, slot]),
            board_hashrates_th_per_s=(hashrate / model.boards,) * model.boards,
            chip_temperature_c=inlet_c + rise_c,
            board_temperature_c=inlet_c + thermal.BOARD_SHARE * rise_c,
            ambient_c=inlet_c,
            fan_rpm=self._fans(slot, model, power_w, inlet_c),
            uptime_s=max(0.0, at_s - float(self.awake_since_s[slot])),
            accepted_shares=shares - rejected,
            rejected_shares=rejected,
            hardware_errors=int(hashed_th * _ERRORS_PER_TH * 2.0 * self._own(slot, "errors")),
            faults=faults,
        )

    def gpu(self, slot: int, state: int, inlet_c: float, faults: frozenset[str], at_s: float) -> GpuReading:
        """The reading of one GPU: of the board, without its share of the host."""
        group, model = self._of(slot, GpuModel)
        index = np.array([slot])
        segment = self._ramps.segment(index, at_s)
        board = model.power_w / float(self._tables.power_w[:, slot].max())
        rise_c = float(self._rise_c(index, segment, inlet_c)[0])
        is_busy = state not in _IDLE_GPU_STATES
        wobble = self._own(slot, f"use/{int(at_s // _WOBBLE_S)}")
        memory = 0.70 + 0.25 * self._own(slot, "memory") if is_busy else 0.05
        return GpuReading(
            site=self._site,
            slot=slot,
            model=self._tables.groups[group].model,
            state=state,
            power_w=float(self._ramps.power_of(index, at_s)[0]) * board,
            power_cap_w=model.power_w,
            utilization_fraction=0.85 + 0.14 * wobble if is_busy else 0.05 * wobble,
            memory_used_mib=float(int(memory * model.memory_mib)),
            memory_total_mib=model.memory_mib,
            temperature_c=inlet_c + rise_c,
            memory_temperature_c=inlet_c + 1.15 * rise_c,
            sm_clock_mhz=model.boost_mhz if is_busy else model.idle_mhz,
            energy_j=float(self._ramps.energy_of(index, at_s)[0]) * board,
            is_throttled=False,
            last_xid=0,
            faults=faults,
        )

    def _of(self, slot: int, kind: type[Model]) -> tuple[int, Model]:
        group = int(self._tables.group_of[slot]) if 0 <= slot < len(self._tables.group_of) else -1
        model = self._tables.models[group] if group >= 0 else None
        if not isinstance(model, kind):
            message = f"site {self._site}: slot {slot} holds no {kind.__name__.removesuffix('Model')}"
            raise KeyError(message)
        return group, model

    def _asleep_w(self, index: IntArray) -> FloatArray:
        return self._tables.asleep_w[index].astype(np.float64)

    def _hashed_th(self, index: IntArray, segment: Segment) -> FloatArray:
        return self.hashed_th[index] + self.full_th_per_s[index] * work.full_seconds(segment, self._asleep_w(index))

    def _rise_c(self, index: IntArray, segment: Segment, inlet_c: float) -> FloatArray:
        begin = self._equilibrium_c(index, segment.from_w, inlet_c)
        end = self._equilibrium_c(index, segment.to_w, inlet_c)
        tau_s = np.where(self._tables.is_gpu[index], thermal.GPU_TAU_S, thermal.MINER_TAU_S)
        return thermal.relax(self.rise_c[index].astype(np.float64), begin, end, segment, tau_s)

    def _equilibrium_c(self, index: IntArray, power_w: FloatArray, inlet_c: float) -> FloatArray:
        per_w = self._tables.rise_per_w[index].astype(np.float64)
        fanned = thermal.miner_rise_c(power_w, per_w, self._tables.target_c[index].astype(np.float64), inlet_c)
        return np.where(self._tables.is_gpu[index], per_w * power_w, fanned)

    def _fans(self, slot: int, model: MinerModel, power_w: float, inlet_c: float) -> tuple[int, ...]:
        index, power = np.array([slot]), np.array([power_w])
        if power_w <= 2.0 * float(self._tables.asleep_w[slot]):
            return (0,) * model.fans
        per_w = self._tables.rise_per_w[index].astype(np.float64)
        rise_c = self._equilibrium_c(index, power, inlet_c)
        speed = float(thermal.fan_fraction(power, per_w, rise_c)[0]) * model.fan_rpm
        return tuple(int(speed * (0.97 + 0.06 * self._own(slot, f"fan/{n}"))) // 30 * 30 for n in range(model.fans))

    def _own(self, slot: int, what: str) -> float:
        """A number in [0, 1) of this device's own, the same whenever it is asked for."""
        digest = hashlib.blake2b(f"{self._site}/{slot}/{what}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") / 2.0**64
