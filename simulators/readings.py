"""The truth about one simulated device at an instant, as its protocol servers read it. Plain values; no physics here.

What a device *says* may differ from this (a lying miner, a stale exporter): that is the protocol server's work. The meter and
the pool are made of the truth.
"""

from dataclasses import dataclass, field

from simulators.memory_rows import NO_ROWS, Rows


@dataclass(frozen=True, slots=True)
class MinerReading:
    """One ASIC. `faults` holds names of `simulators.faults`."""

    site: str
    slot: int
    model: str  # as in the model table: 'S21', 'M60S', …
    firmware: str  # profile name: 'stock', 'whatsminer', 'luxos', …
    state: int  # commanded state code
    power_w: float
    hashrate_th_per_s: float
    nominal_hashrate_th_per_s: float  # of the commanded state, all boards healthy
    board_hashrates_th_per_s: tuple[float, ...]  # three boards; 0 where one is dead
    chip_temperature_c: float
    board_temperature_c: float
    ambient_c: float
    fan_rpm: tuple[int, ...]
    uptime_s: float
    accepted_shares: int
    rejected_shares: int
    hardware_errors: int
    faults: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU of an 8-GPU node. Fractions are 0 to 1, memory in MiB."""

    site: str
    slot: int
    model: str
    state: int
    power_w: float
    power_cap_w: float
    utilization_fraction: float
    memory_used_mib: float
    memory_total_mib: float
    temperature_c: float
    memory_temperature_c: float
    sm_clock_mhz: float
    energy_j: float
    is_throttled: bool
    last_xid: int  # 0: none since the last reset
    rows: Rows = NO_ROWS
    faults: frozenset[str] = field(default_factory=frozenset)
