"""What a model is made of, beyond what `world.yaml` says of it: boards, fans, efficiency, memory, clocks, heat.

Sources: makers' figures for power, efficiency, memory and clocks; board and fan counts as owners' software has them; thermal
figures are settings of ours, chosen so that each machine stands at a usual temperature in a usual hall.
"""

from typing import NamedTuple


class MinerModel(NamedTuple):
    """One ASIC model. `rise_c`: chips above inlet air at full power with the fans at full speed."""

    model: str
    efficiency_j_per_th: float
    boards: int = 3
    fans: int = 4
    fan_rpm: int = 6000
    chip_target_c: float = 75.0
    rise_c: float = 40.0
    slowdown_c: float = 85.0  # chips: from here on the firmware takes power back


class GpuModel(NamedTuple):
    """One GPU model. `power_w`: the board's limit, as opposed to a slot's power, which includes its share of the host."""

    model: str
    power_w: float
    memory_mib: float
    boost_mhz: float
    idle_mhz: float
    rise_c: float = 38.0  # die above inlet air at the board's limit
    slowdown_c: float = 87.0


_MINERS = (
    MinerModel("S21", 17.5),
    MinerModel("S21 Pro", 15.0),
    MinerModel("S21 XP", 13.5),
    MinerModel("S19 XP", 21.5),
    MinerModel("M60S", 18.5, fans=2, fan_rpm=7000, slowdown_c=95.0),
)
_GPUS = (
    GpuModel("H100 SXM5", 700.0, 81_559.0, 1980.0, 345.0),
    GpuModel("H100 PCIe", 350.0, 81_559.0, 1755.0, 345.0),
    GpuModel("H200", 700.0, 143_771.0, 1980.0, 345.0),
    GpuModel("A100 SXM4", 400.0, 81_920.0, 1410.0, 210.0),
    GpuModel("B200", 1000.0, 183_359.0, 1965.0, 120.0),
)


def miner_model(name: str) -> MinerModel:
    """The model of that name; an unknown one is taken for an S21."""
    return next((one for one in _MINERS if one.model == name), _MINERS[0]._replace(model=name))


def gpu_model(name: str) -> GpuModel:
    """The model of that name; an unknown one is taken for an H100 SXM5."""
    return next((one for one in _GPUS if one.model == name), _GPUS[0]._replace(model=name))
