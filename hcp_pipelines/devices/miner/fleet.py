"""All miners of a facility by slot: who they are, when to ask them again, what each was told last. No loops here."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hcp_pipelines.devices.issues import DeviceIssue, is_too_hot
from hcp_pipelines.devices.miner.device import MinerDevice
from hcp_pipelines.devices.miner.evidence import full_w, power_of, state_of
from hcp_pipelines.devices.miner.limits import issues_of
from hcp_pipelines.devices.miner.telemetry import Level, MinerGroup, Telemetry
from hcp_pipelines.devices.site import Evidence
from hcp_pipelines.devices.work import rounds_to_wait
from hcp_pipelines.wire.slots import Slots

SILENT_ROUNDS_MAX = 8  # a device that does not answer is asked again after 1, 2, 4, 8, 8 … rounds
READ_MODES_EACH = 12  # rounds: the mode beside power and hashrate, which costs a second exchange
IDENTIFY_AGAIN_AFTER = 3  # failures in a row: it may be another device by now
UNKNOWN_STATE = 255


@dataclass(slots=True, eq=False)
class Miner:
    """One slot's miner."""

    slot: int
    address: str
    group: MinerGroup
    device: MinerDevice | None = None
    telemetry: Telemetry | None = None  # None: the last poll failed
    failures: int = 0
    next_round: int = 0
    mode_failures: int = 0
    next_modes: int = 0  # the round from which on its mode is asked for again
    ticket: int = 0  # of the newest command for it; an older one is not carried out
    told: int = UNKNOWN_STATE
    told_at_s: float = float("-inf")  # simulated
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def answered(self, telemetry: Telemetry, *, with_modes: bool = True) -> None:
        """A poll went well."""
        self.telemetry, self.failures = telemetry, 0
        if with_modes:
            self.mode_failures, self.next_modes = 0, 0

    def failed(self, round_number: int, *, with_modes: bool = False) -> None:
        """A poll went wrong: the last reading is worth nothing now. A mode that can't be read is asked for ever more rarely."""
        self.telemetry, self.failures = None, self.failures + 1
        self.next_round = round_number + rounds_to_wait(self.failures, SILENT_ROUNDS_MAX)
        if with_modes:
            self.mode_failures += 1
            self.next_modes = round_number + READ_MODES_EACH * rounds_to_wait(self.mode_failures, SILENT_ROUNDS_MAX)
        if self.failures >= IDENTIFY_AGAIN_AFTER:
            self.device = None

    def is_on_its_way(self, level: Level, now_s: float) -> bool:
        """Whether it was told the same just now and may still need time."""
        return self.told == level.state and now_s < self.told_at_s + level.settle_s


class MinerFleet:
    """The miners by slot; slots of other groups are empty."""

    def __init__(self, groups: Sequence[MinerGroup], slots: int) -> None:
        self.slots = slots
        self._last_ticket = 0
        self.by_slot: dict[int, Miner] = {
            slot: Miner(slot, address, group)
            for group in groups
            for slot, address in enumerate(group.addresses, start=group.first_slot)
        }
        self.full_w = np.zeros(slots, dtype=np.float32)  # the most that each draws by design
        for group in groups:
            self.full_w[_slots(group)] = full_w(group.levels)
        self.slots_of_feeder = {
            feeder_id: np.concatenate([_slots(g) for g in groups if g.feeder_id == feeder_id])
            for feeder_id in {g.feeder_id for g in groups}
        }

    def give_ticket(self, slots: Sequence[int]) -> int:
        """The number of a new command; for these slots none before it is carried out any more."""
        self._last_ticket += 1
        for slot in slots:
            if slot in self.by_slot:
                self.by_slot[slot].ticket = self._last_ticket
        return self._last_ticket

    def power(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """[n] watts and evidence by slot; NaN where nobody answered, 0 where there is no miner."""
        power = np.zeros(self.slots, dtype=np.float32)
        evidence = np.zeros(self.slots, dtype=np.uint8)
        for slot, miner in self.by_slot.items():
            if miner.telemetry is None:
                power[slot] = np.nan
                evidence[slot] = Evidence.NONE
            else:
                power[slot], evidence[slot] = power_of(miner.telemetry, miner.group.levels)
        return power, evidence

    def told(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """[n] TH/s and °C of the hottest chip by slot; NaN where nobody answered, or a miner doesn't say."""
        hashrate, temperature = (np.full(self.slots, np.nan, dtype=np.float32) for _ in range(2))
        for slot, miner in self.by_slot.items():
            if miner.telemetry is not None:
                hashrate[slot] = miner.telemetry.hash_rate_th_per_s
                if miner.telemetry.chip_temperature_celsius is not None:
                    temperature[slot] = miner.telemetry.chip_temperature_celsius
        return hashrate, temperature

    def issues(self) -> Iterator[tuple[int, DeviceIssue]]:
        """What is wrong with the miners that the last round read, by slot."""
        for slot, miner in self.by_slot.items():
            if miner.telemetry is not None:
                yield from ((slot, issue) for issue in issues_of(miner.telemetry, miner.group.model))

    def hot(self) -> Slots:
        """Slots of the miners that the last round read above their model's temperature, rising."""
        hot = [
            slot
            for slot, miner in sorted(self.by_slot.items())
            if miner.telemetry is not None and is_too_hot(issues_of(miner.telemetry, miner.group.model))
        ]
        return np.array(hot, dtype=np.uint32)

    def states(self) -> npt.NDArray[np.uint8]:
        """[n] the state each miner says it is in; 255 where it doesn't, or there is none."""
        states = np.full(self.slots, UNKNOWN_STATE, dtype=np.uint8)
        for slot, miner in self.by_slot.items():
            told = state_of(miner.telemetry, miner.group.levels) if miner.telemetry else None
            if told is not None:
                states[slot] = told
        return states


def _slots(group: MinerGroup) -> npt.NDArray[np.int64]:
    return np.arange(group.first_slot, group.first_slot + len(group.addresses), dtype=np.int64)
