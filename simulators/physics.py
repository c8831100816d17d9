"""What one device is like at an instant: `MinerReading` and `GpuReading`, made from its segment of power and its history.

Holds what the segment alone does not say: work done, the rise of temperature at the segment's start, and since when it is awake.
Everything is a function of these and the instant: a reading changes nothing, and it doesn't matter how often one is taken.
"""

import hashlib
from typing import Final, NamedTuple, TypeVar

import numpy as np

from simulators import faults as f
from simulators import thermal, work
from simulators.memory_rows import NO_ROWS, Rows
from simulators.models import GpuModel, MinerModel
from simulators.ramps import PowerArray, Ramps, Segment
from simulators.readings import GpuReading, MinerReading
from simulators.streams import FloatArray, IntArray
from simulators.tables import Tables

Model = TypeVar("Model", MinerModel, GpuModel)

REJECTED_PER_SHARE: Final = 0.004  # stale and rejected shares (setting; pools show 0.1–1 %)
ERRORS_PER_TH: Final = 2e-6  # chips' wrong nonces per terahash (setting)
IDLE_GPU_STATES: Final = frozenset({0, 1})
IDLE_BOARD_SHARE: Final = 0.15  # of the board's limit that an idle GPU draws (SM-04)
BUSY_BOARD_SHARE: Final = 0.89  # … and a busy one, ± 4 spreads: 0.84 … 0.94, within 0.8 … 0.98 (SM-03)
_NEAR: Final = 1e-3  # power is held in single precision
_WOBBLE_S = 10  # utilisation moves within its band every 10 s


class Asked(NamedTuple):
    """What a reading is asked for: the device, what it says and does, and its surroundings."""

    slot: int
    commanded: int
    inlet_c: float
    faults: frozenset[str]
    at_s: float
    limit_w: float = float("inf")
    xid: int = 0
    rows: Rows = NO_ROWS


class Physics:
    """The histories of one site's devices, and their readings."""

    def __init__(self, site: str, tables: Tables, ramps: Ramps, inlet_c: FloatArray, at_s: float) -> None:
        self._site = site
        self._tables = tables
        self._ramps = ramps
        size = len(tables.first_state)
        everyone = np.arange(size, dtype=np.int64)
        self.work_done = np.zeros(size)  # until the segment's start: TH of a miner, J above idle of a GPU
        self.full_th_per_s: PowerArray = np.zeros(size, dtype=np.float32)  # at the segment's target
        self.awake_since_s = np.full(size, at_s)
        self.rise_c: PowerArray = np.zeros(size, dtype=np.float32)
        self.rise_c[:] = self._equilibrium_c(everyone, ramps.to_w.astype(np.float64), inlet_c)

    def turn(self, index: IntArray, full_th_per_s: PowerArray, inlet_c: FloatArray, at_s: float) -> None:
        """Book what was until now; to be called before the devices' power is sent elsewhere."""
        segment = self._ramps.segment(index, at_s)
        self.work_done[index] = self._work_done(index, segment)
        self.rise_c[index] = self._rise_c(index, segment, inlet_c)
        is_waking = (self.full_th_per_s[index] <= 0) & (full_th_per_s > 0)
        self.awake_since_s[index[is_waking]] = at_s
        self.full_th_per_s[index] = full_th_per_s

    def hashrate_th_per_s(self, index: IntArray, at_s: float) -> FloatArray:
        """What some miners really hash."""
        return self._hashrate(index, self._ramps.segment(index, at_s))

    def temperature_c(self, index: IntArray, inlet_c: FloatArray, at_s: float) -> FloatArray:
        """How hot the chips of some devices are, °C."""
        return inlet_c + self._rise_c(index, self._ramps.segment(index, at_s), inlet_c)

    def hashed_th(self, index: IntArray, at_s: float) -> FloatArray:
        """Hashes that some miners have done since the world began, TH."""
        done = self._work_done(index, self._ramps.segment(index, at_s))
        return np.where(self._tables.is_gpu[index], 0.0, done)

    def miner(self, asked: Asked) -> MinerReading:
        """The reading of one ASIC."""
        slot, at_s = asked.slot, asked.at_s
        group, model = self._of(slot, MinerModel)
        index, inlet_c = np.array([slot]), np.array([asked.inlet_c])
        segment = self._ramps.segment(index, at_s)
        power_w = float(self._ramps.power_of(index, at_s)[0])
        rise_c = float(self._rise_c(index, segment, inlet_c)[0])
        hashrate = float(self._hashrate(index, segment)[0])
        hashed_th = float(self._work_done(index, segment)[0])
        shares = int(hashed_th / work.TH_PER_SHARE)
        rejected = int(shares * REJECTED_PER_SHARE * (0.5 + self._own(slot, "rejects")))
        return MinerReading(
            site=self._site,
            slot=slot,
            model=self._tables.groups[group].model,
            firmware=self._tables.groups[group].firmware,
            state=asked.commanded,
            power_w=power_w,
            hashrate_th_per_s=hashrate,
            nominal_hashrate_th_per_s=float(self._tables.hash_th_per_s[asked.commanded, slot]),
            board_hashrates_th_per_s=self._boards(slot, model, hashrate, asked.faults),
            chip_temperature_c=asked.inlet_c + rise_c,
            board_temperature_c=asked.inlet_c + thermal.BOARD_SHARE * rise_c,
            ambient_c=asked.inlet_c,
            fan_rpm=self._fans(slot, model, power_w, asked),
            uptime_s=max(0.0, at_s - float(self.awake_since_s[slot])),
            accepted_shares=shares - rejected,
            rejected_shares=rejected,
            hardware_errors=int(hashed_th * ERRORS_PER_TH * 2.0 * self._own(slot, "errors")),
            faults=asked.faults,
        )

    def gpu(self, asked: Asked) -> GpuReading:
        """The reading of one GPU: of the board, without its share of the host."""
        slot, at_s = asked.slot, asked.at_s
        group, model = self._of(slot, GpuModel)
        index, inlet_c = np.array([slot]), np.array([asked.inlet_c])
        segment = self._ramps.segment(index, at_s)
        slot_w = float(self._ramps.power_of(index, at_s)[0])
        board = self._board(slot, model)
        rise_c = float(self._rise_c(index, segment, inlet_c)[0])
        is_busy = asked.commanded not in IDLE_GPU_STATES and slot_w > board.idle_w * (1.0 + _NEAR)
        nominal_w = float(self._tables.power_w[asked.commanded, slot])
        speed = min(1.0, max(0.2, slot_w / max(nominal_w, 1.0))) ** (1 / 3)  # as power ~ f · V², V ~ f
        memory = 0.70 + 0.25 * self._own(slot, "memory") if is_busy else 0.05
        above_j = float(self._work_done(index, segment)[0])
        below_j = float(self._ramps.energy_of(index, at_s)[0]) - above_j
        return GpuReading(
            site=self._site,
            slot=slot,
            model=self._tables.groups[group].model,
            state=asked.commanded,
            power_w=board.watts(slot_w),
            power_cap_w=min(model.power_w, board.watts(asked.limit_w)),
            utilization_fraction=self._utilization(slot, at_s, is_busy=is_busy),
            memory_used_mib=float(int(memory * model.memory_mib)),
            memory_total_mib=model.memory_mib,
            temperature_c=asked.inlet_c + rise_c,
            memory_temperature_c=asked.inlet_c + 1.15 * rise_c,
            sm_clock_mhz=model.boost_mhz * speed if is_busy else model.idle_mhz,
            energy_j=below_j * board.below + above_j * board.above,
            is_throttled=is_busy and (f.THROTTLED in asked.faults or asked.inlet_c + rise_c >= model.slowdown_c - 0.5),
            last_xid=asked.xid,
            rows=asked.rows,
            faults=asked.faults,
        )

    def board_limit_w(self, slot: int) -> float:
        """The most that a GPU's board may draw, watts.

        Raises:
            KeyError: the slot holds no GPU.
        """
        return self._of(slot, GpuModel)[1].power_w

    def slot_w(self, slot: int, board_w: float) -> float:
        """What a slot draws when its GPU's board draws so much, watts."""
        board = self._board(slot, self._of(slot, GpuModel)[1])
        idle_w = board.idle_w * board.below
        return board_w / board.below if board_w <= idle_w else board.idle_w + (board_w - idle_w) / board.above

    def _board(self, slot: int, model: GpuModel) -> "Board":
        idle_w = float(self._tables.idle_w[slot])
        group = self._tables.groups[int(self._tables.group_of[slot])]
        top_w = max(state.power_w for state in group.states)
        if not 0.0 < idle_w < top_w:
            share = BUSY_BOARD_SHARE * model.power_w / max(top_w, 1.0)
            return Board(idle_w, share, share)
        below = IDLE_BOARD_SHARE * model.power_w / idle_w
        return Board(idle_w, below, (BUSY_BOARD_SHARE - IDLE_BOARD_SHARE) * model.power_w / (top_w - idle_w))

    def _utilization(self, slot: int, at_s: float, *, is_busy: bool) -> float:
        wobble = self._own(slot, f"use/{int(at_s // _WOBBLE_S)}")
        return 0.85 + 0.14 * wobble if is_busy else 0.05 * wobble

    def _of(self, slot: int, kind: type[Model]) -> tuple[int, Model]:
        group = int(self._tables.group_of[slot]) if 0 <= slot < len(self._tables.group_of) else -1
        model = self._tables.models[group] if group >= 0 else None
        if not isinstance(model, kind):
            message = f"site {self._site}: slot {slot} holds no {kind.__name__.removesuffix('Model')}"
            raise KeyError(message)
        return group, model

    def _hashrate(self, index: IntArray, segment: Segment) -> FloatArray:
        asleep_w = self._tables.asleep_w[index].astype(np.float64)
        return work.share_of_full(segment, asleep_w) * self.full_th_per_s[index]

    def _work_done(self, index: IntArray, segment: Segment) -> FloatArray:
        asleep_w = self._tables.asleep_w[index].astype(np.float64)
        hashed = self.full_th_per_s[index] * work.full_seconds(segment, asleep_w)
        spent = work.joules_above(segment, self._tables.idle_w[index].astype(np.float64))
        return self.work_done[index] + np.where(self._tables.is_gpu[index], spent, hashed)

    def _rise_c(self, index: IntArray, segment: Segment, inlet_c: FloatArray) -> FloatArray:
        begin = self._equilibrium_c(index, segment.from_w, inlet_c)
        end = self._equilibrium_c(index, segment.to_w, inlet_c)
        tau_s = np.where(self._tables.is_gpu[index], thermal.GPU_TAU_S, thermal.MINER_TAU_S)
        return thermal.relax(self.rise_c[index].astype(np.float64), begin, end, segment, tau_s)

    def _equilibrium_c(self, index: IntArray, power_w: FloatArray, inlet_c: FloatArray) -> FloatArray:
        per_w = self._tables.rise_per_w[index].astype(np.float64)
        fanned = thermal.miner_rise_c(power_w, per_w, self._tables.target_c[index].astype(np.float64), inlet_c)
        return np.where(self._tables.is_gpu[index], per_w * power_w, fanned)

    def _boards(self, slot: int, model: MinerModel, hashrate: float, faults: frozenset[str]) -> tuple[float, ...]:
        dead = int(self._own(slot, "board") * model.boards) if f.BOARD_DROPOUT in faults else -1
        each = hashrate / (model.boards - (dead >= 0))
        return tuple(0.0 if number == dead else each for number in range(model.boards))

    def _fans(self, slot: int, model: MinerModel, power_w: float, asked: Asked) -> tuple[int, ...]:
        index, power = np.array([slot]), np.array([power_w])
        if power_w <= 1.2 * float(self._tables.asleep_w[slot]):
            return (0,) * model.fans
        per_w = self._tables.rise_per_w[index].astype(np.float64)
        rise_c = self._equilibrium_c(index, power, np.array([asked.inlet_c]))
        speed = float(thermal.fan_fraction(power, per_w, rise_c)[0]) * model.fan_rpm
        dead = int(self._own(slot, "fan") * model.fans) if f.FAN_FAILURE in asked.faults else -1
        wheels = (speed * (0.97 + 0.06 * self._own(slot, f"fan/{n}")) for n in range(model.fans))
        return tuple(0 if n == dead else int(rpm) // 30 * 30 for n, rpm in enumerate(wheels))

    def _own(self, slot: int, what: str) -> float:
        """A number in [0, 1) of this device's own, the same whenever it is asked for."""
        digest = hashlib.blake2b(f"{self._site}/{slot}/{what}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") / 2.0**64


class Board(NamedTuple):
    """What of a slot's watts the GPU's board draws: one share up to idle, another one above."""

    idle_w: float
    below: float
    above: float

    def watts(self, slot_w: float) -> float:
        """The board's power at a slot's power."""
        return min(slot_w, self.idle_w) * self.below + max(slot_w - self.idle_w, 0.0) * self.above
