"""What a miner says of itself at an instant: the truth of `MinerReading`, as its firmware tells it; a lying one adds to it.

Every surface of a miner (4028, web, V3) is made of one `Report`, so they agree with each other whatever it says. Nothing of a
dialect is here.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from simulators.faults import FAN_FAILURE
from simulators.miners.identity import Hardware
from simulators.readings import MinerReading
from simulators.work import SHARE_DIFFICULTY

ECO, FULL = 2, 3
MINING_STATES: Final = (ECO, FULL)
_SENSORS: Final = (-3, -3, 3, 3)  # inlet side, outlet side


class Board(NamedTuple):
    """One hash board; of a dead one there are no chips."""

    number: int  # from 0
    rate_ghs: float
    ideal_ghs: float
    chips: int
    pcb_c: tuple[int, ...]
    chip_c: tuple[int, ...]
    hardware_errors: int

    @property
    def is_dead(self) -> bool:
        """Whether the control board doesn't find it."""
        return self.chips == 0


@dataclass(frozen=True, slots=True)
class Report:
    """The figures a miner gives at `now_s`, its own clock."""

    now_s: int
    state: int  # that its configuration asks for
    power_w: float
    rate_ghs: float
    ideal_ghs: float  # of the present mode; asleep: of full power
    factory_ghs: float
    boards: tuple[Board, ...]
    frequency_mhz: int
    chip_c: float
    board_c: float
    ambient_c: float
    fans: tuple[int, ...]
    elapsed_s: int
    accepted: int
    rejected: int
    hardware_errors: int
    has_fan_failure: bool
    has_work: bool  # from a pool

    @property
    def is_mining(self) -> bool:
        """Whether the configuration asks for hashing, whatever comes of it."""
        return self.state in MINING_STATES

    @property
    def total_mh(self) -> float:
        """Megahashes of the accepted shares."""
        return self.accepted * SHARE_DIFFICULTY * 2.0**32 / 1e6

    @property
    def rejected_percent(self) -> float:
        """Rejected shares, percent of all."""
        total = self.accepted + self.rejected
        return 100.0 * self.rejected / total if total else 0.0


def report_of(
    reading: MinerReading,
    hardware: Hardware,
    factory_ths: float,
    state: int,
    lie: float,
    now_s: int,
    *,
    has_work: bool,
) -> Report:
    """The report of a reading. `state`: of the configuration; `lie`: times the hashes done that it claims, 1 for honest ones."""
    ideal_ghs = 1000.0 * (reading.nominal_hashrate_th_per_s or factory_ths)
    return Report(
        now_s=now_s,
        state=state,
        power_w=reading.power_w,
        rate_ghs=1000.0 * lie * reading.hashrate_th_per_s,
        ideal_ghs=ideal_ghs,
        factory_ghs=1000.0 * factory_ths,
        boards=_boards(reading, hardware, ideal_ghs, lie),
        frequency_mhz=round(hardware.frequency_mhz * ideal_ghs / max(1000.0 * factory_ths, 1.0)),
        chip_c=reading.chip_temperature_c,
        board_c=reading.board_temperature_c,
        ambient_c=reading.ambient_c,
        fans=reading.fan_rpm,
        elapsed_s=int(reading.uptime_s),
        accepted=int(lie * reading.accepted_shares),
        rejected=reading.rejected_shares,
        hardware_errors=reading.hardware_errors,
        has_fan_failure=FAN_FAILURE in reading.faults,
        has_work=has_work,
    )


def _boards(reading: MinerReading, hardware: Hardware, ideal_ghs: float, lie: float) -> tuple[Board, ...]:
    rates = reading.board_hashrates_th_per_s
    is_hashing = any(rate > 0 for rate in rates)
    pcb_c = tuple(max(1, round(reading.board_temperature_c) + offset) for offset in _SENSORS)
    chip_c = tuple(max(1, round(reading.chip_temperature_c) + offset) for offset in _SENSORS)
    return tuple(
        Board(
            number=number,
            rate_ghs=1000.0 * lie * rate,
            ideal_ghs=ideal_ghs / len(rates),
            chips=0 if is_hashing and rate <= 0 else hardware.chips_per_board,
            pcb_c=pcb_c,
            chip_c=chip_c,
            hardware_errors=reading.hardware_errors // len(rates),
        )
        for number, rate in enumerate(rates)
    )
