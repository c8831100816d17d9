"""What each slot of a site can do, as arrays by state and slot: power, hashrate, timing, heat. Made once, from `world.yaml`.

The spread between devices of one model is drawn here; what happens to them is elsewhere.
"""

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from simulators.models import GpuModel, MinerModel, gpu_model, miner_model
from simulators.ramps import PowerArray
from simulators.settings import GroupConfig, SiteConfig
from simulators.streams import FloatArray, stream

CURTAILED = 0
STATE_CODES = 7
ASLEEP_W = {"ASIC": 25.0, "GPU": 15.0}
_POWER_SD, _HASH_SD = 0.015, 0.01

ByteArray = npt.NDArray[np.uint8]


class Tables:
    """The constants of one site's slots."""

    def __init__(self, config: SiteConfig, seed: int) -> None:
        size = config.slots
        self.groups = tuple(config.groups)
        self.models: list[MinerModel | GpuModel] = [_model_of(group) for group in config.groups]
        self.group_of = np.full(size, -1, dtype=np.int16)
        self.power_w: PowerArray = np.zeros((STATE_CODES, size), dtype=np.float32)
        self.hash_th_per_s = np.zeros((STATE_CODES, size), dtype=np.float32)
        self.ramp_up_s = np.zeros((STATE_CODES, size), dtype=np.float32)
        self.ramp_down_s = np.zeros((STATE_CODES, size), dtype=np.float32)
        self.rise_per_w = np.zeros(size, dtype=np.float32)  # °C per watt: a miner's with its fans at full speed
        self.target_c = np.zeros(size, dtype=np.float32)  # what a miner's fans hold its chips at
        self.known_slots = np.zeros(size, dtype=np.uint8)
        self.is_gpu = np.zeros(size, dtype=np.bool_)
        self.first_state = np.zeros(size, dtype=np.uint8)
        self.able = [BitMap() for _ in range(STATE_CODES)]
        for number, group in enumerate(config.groups):
            self._fill(config, group, number, seed)
        self.asleep_w: PowerArray = self.power_w[CURTAILED].copy()

    def _fill(self, config: SiteConfig, group: GroupConfig, number: int, seed: int) -> None:
        span = slice(group.first_slot, group.end_slot)
        power_factor = _spread(seed, "fleet.efficiency", config.site, group, _POWER_SD)
        hash_factor = _spread(seed, "fleet.hashrate", config.site, group, _HASH_SD)
        self.group_of[span] = number
        self.known_slots[span] = 1
        self.is_gpu[span] = group.kind == "GPU"
        listed = {state.state for state in group.states}
        self.able[CURTAILED].add_range(group.first_slot, group.end_slot)
        self.power_w[CURTAILED, span] = ASLEEP_W[group.kind]
        self.ramp_down_s[CURTAILED, span] = 5.0
        for state in group.states:
            self.able[state.state].add_range(group.first_slot, group.end_slot)
            factor = power_factor if state.state != CURTAILED else 1.0
            self.power_w[state.state, span] = state.power_w * factor
            self.hash_th_per_s[state.state, span] = state.hash_rate_th_per_s * hash_factor
            self.ramp_up_s[state.state, span] = state.ramp_up_s
            self.ramp_down_s[state.state, span] = state.ramp_down_s
        model = self.models[number]
        self.target_c[span] = model.chip_target_c if isinstance(model, MinerModel) else 0.0
        self.rise_per_w[span] = self.models[number].rise_c / self.power_w[:, span].max(axis=0)
        self.first_state[span] = CURTAILED if group.kind == "ASIC" else min(listed)


def _model_of(group: GroupConfig) -> MinerModel | GpuModel:
    return miner_model(group.model) if group.kind == "ASIC" else gpu_model(group.model)


def _spread(seed: int, entity: str, site: str, group: GroupConfig, sd: float) -> FloatArray:
    """Factors around 1, one a device, never more than four standard deviations off."""
    draw = stream(seed, entity, site, group.group).normal(1.0, sd, group.devices)
    return np.clip(draw, 1.0 - 4.0 * sd, 1.0 + 4.0 * sd)
