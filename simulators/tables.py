"""What each slot of a site can do, as arrays by state and slot: power, hashrate, timing, heat. Made once, from `world.yaml`.

The spread between devices of one model is drawn here; what happens to them is elsewhere.
"""

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from simulators.models import GpuModel, MinerModel, gpu_model, miner_model
from simulators.ramps import PowerArray
from simulators.settings import GroupConfig, SiteConfig, StateConfig
from simulators.streams import FloatArray, stream

CURTAILED, IDLE = 0, 1
MINING = (2, 3)
STATE_CODES = 7
MINER_IDLE_W = 50.0  # up, and hashing nothing (SM-10)
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
        self.low_w: PowerArray = np.zeros(size, dtype=np.float32)  # of the lowest mining state, and its hashrate
        self.low_th: PowerArray = np.zeros(size, dtype=np.float32)
        self.idle_w: PowerArray = np.zeros(size, dtype=np.float32)  # up, but doing nothing
        self.hot_c: PowerArray = np.zeros(size, dtype=np.float32)  # chips: from here on power is cut back
        self.boards = np.ones(size, dtype=np.uint8)
        self.known_slots = np.zeros(size, dtype=np.uint8)
        self.is_gpu = np.zeros(size, dtype=np.bool_)
        self.first_state = np.zeros(size, dtype=np.uint8)
        self.self_start = np.zeros(size, dtype=np.uint8)  # the state that power alone puts a miner into; 0: none
        self.other_state = np.tile(np.arange(STATE_CODES, dtype=np.uint8)[:, None], size)  # where a wrong wake leads
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
        self.able[CURTAILED].add_range(group.first_slot, group.end_slot)
        self.power_w[CURTAILED, span] = ASLEEP_W[group.kind]
        self.ramp_down_s[CURTAILED, span] = 5.0
        for state in group.states:
            self.able[state.state].add_range(group.first_slot, group.end_slot)
            factor = power_factor if state.state != CURTAILED else 1.0
            self.power_w[state.state, span] = state.power_w * factor
            self.hash_th_per_s[state.state, span] = self._hashrate(number, state) * hash_factor
            self.ramp_up_s[state.state, span] = state.ramp_up_s
            self.ramp_down_s[state.state, span] = state.ramp_down_s
        self._fill_from_model(group, number, span)
        self._fill_from_ladder(group, span)

    def _hashrate(self, number: int, state: StateConfig) -> float:
        """As the file says; where it says nothing, from the power of a mining state and the model's efficiency."""
        model = self.models[number]
        if state.hash_rate_th_per_s or not isinstance(model, MinerModel) or state.state not in MINING:
            return state.hash_rate_th_per_s
        return state.power_w / model.efficiency_j_per_th

    def _fill_from_model(self, group: GroupConfig, number: int, span: slice) -> None:
        model = self.models[number]
        if isinstance(model, MinerModel):
            self.target_c[span], self.boards[span] = model.chip_target_c, model.boards
        self.hot_c[span] = model.slowdown_c
        self.rise_per_w[span] = model.rise_c / np.maximum(self.power_w[:, span].max(axis=0), 1.0)
        self.first_state[span] = CURTAILED if group.kind == "ASIC" else min(state.state for state in group.states)

    def _fill_from_ladder(self, group: GroupConfig, span: slice) -> None:
        """What lies between the states: the idle power, the lowest mining state, and the one next to each."""
        hashing = [s for s in group.states if self.hash_th_per_s[s.state, group.first_slot] > 0]
        mining = sorted(hashing, key=lambda state: state.power_w)
        lowest = mining[0].state if mining else CURTAILED
        self.low_w[span], self.low_th[span] = self.power_w[lowest, span], self.hash_th_per_s[lowest, span]
        idle = next((s.state for s in group.states if s.state == IDLE), CURTAILED)
        self.idle_w[span] = MINER_IDLE_W if group.kind == "ASIC" else self.power_w[idle, span]
        if group.firmware.startswith("whatsminer") and mining:
            self.self_start[span] = mining[-1].state
        for state, other in zip(mining, [*mining[1:], *mining[:-1][-1:]], strict=True) if len(mining) > 1 else ():
            self.other_state[state.state, span] = other.state


def _model_of(group: GroupConfig) -> MinerModel | GpuModel:
    return miner_model(group.model) if group.kind == "ASIC" else gpu_model(group.model)


def _spread(seed: int, entity: str, site: str, group: GroupConfig, sd: float) -> FloatArray:
    """Factors around 1, one a device, never more than four standard deviations off."""
    draw = stream(seed, entity, site, group.group).normal(1.0, sd, group.devices)
    return np.clip(draw, 1.0 - 4.0 * sd, 1.0 + 4.0 * sd)
