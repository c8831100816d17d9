"""A facility's slots as arrays: group of each slot, power and settling time of each group's states. Pure."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.wire.slots import Slots, encode_slots

UNKNOWN_STATE = 255
TELLING = frozenset({"bulk", "gpu_node", "kubernetes"})  # drivers whose engines say that work is kept


class OneState(NamedTuple):
    """A state over slots `[n]`: whether a device has it, the IT power it draws there, the simulated seconds it may take."""

    can: npt.NDArray[np.bool_]
    power_kw: npt.NDArray[np.float32]
    settle_s: npt.NDArray[np.float32]


@dataclass(frozen=True)
class SiteShape:
    """Arrays over slots `[n]` and over group × state `[g, s]`."""

    facility_id: str
    generation: int
    group_of_slot: npt.NDArray[np.int64]  # -1 where a slot is empty
    has_state: npt.NDArray[np.bool_]  # [g, s]
    power_kw: npt.NDArray[np.float32]  # [g, s] IT power
    settle_s: npt.NDArray[np.float64]  # [g, s]
    group_ids: tuple[str, ...]
    pue_of_slot: npt.NDArray[np.float32]  # [n]; 0 where a slot is empty
    lowest: npt.NDArray[np.uint8]  # [g] the state of least power
    tells_saved: bytes = b""  # the slots whose driver tells what becomes of work that lets go of them

    @classmethod
    def of(cls, config: FacilityConfig) -> "SiteShape":
        """The arrays of a configured facility."""
        groups = len(config.groups)
        slots = np.full(config.slots, -1, dtype=np.int64)
        has = np.zeros((groups, STATE_COUNT), dtype=bool)
        power = np.full((groups, STATE_COUNT), np.inf, dtype=np.float32)
        settle = np.zeros((groups, STATE_COUNT))
        pue = np.zeros(config.slots, dtype=np.float32)
        for g, group in enumerate(config.groups):
            slots[group.first_slot : group.first_slot + group.devices] = g
            pue[group.first_slot : group.first_slot + group.devices] = group.pue
            for step in group.ladder:
                has[g, step.state] = True
                power[g, step.state] = step.power_kw
                settle[g, step.state] = step.settle_s
        ids = tuple(group.group_id for group in config.groups)
        lowest = power.argmin(axis=1).astype(np.uint8)
        tell = np.array([g for g, group in enumerate(config.groups) if config.driver_of(group).kind in TELLING])
        telling = encode_slots(np.flatnonzero(np.isin(slots, tell)).astype(np.uint32))
        return cls(config.facility_id, config.generation, slots, has, power, settle, ids, pue, lowest, telling)

    @cached_property
    def layout(self) -> str:
        """A digest of groups, slots and ladders: what makes a slot the same place in two generations."""
        digest = hashlib.sha256("\n".join(self.group_ids).encode())
        for part in (self.group_of_slot, self.has_state, self.power_kw, self.settle_s):
            digest.update(part.tobytes())
        return digest.hexdigest()

    @property
    def slots(self) -> int:
        """Number of slots."""
        return len(self.group_of_slot)

    @cached_property
    def is_there(self) -> npt.NDArray[np.bool_]:
        """[n] whether a slot has a device."""
        return self.group_of_slot >= 0

    def in_state(self, state: int) -> OneState:
        """What a state means for each slot; made once for each, since a command looks thousands of them up."""
        known = self._in_state.get(state)
        if known is None:
            groups = self.group_of_slot
            known = self._in_state[state] = OneState(
                self.has_state[groups, state] & self.is_there,
                self.power_kw[groups, state],
                self.settle_s[groups, state].astype(np.float32),
            )
        return known

    @cached_property
    def _in_state(self) -> dict[int, OneState]:
        return {}

    def state_kw(self, slots: Slots, states: "npt.NDArray[np.uint8] | int") -> npt.NDArray[np.float32]:
        """IT power of devices in states; that of the highest where a state is not known, nothing where a slot is empty."""
        groups = self.group_of_slot[slots]
        known: npt.NDArray[np.float32] = self._state_kw[groups, np.minimum(states, STATE_COUNT)]
        return known if (groups >= 0).all() else np.where(groups < 0, np.float32(0), known)

    @cached_property
    def _state_kw(self) -> npt.NDArray[np.float32]:
        """[groups, states + 1] IT power; the last column, and states that a group has not, are its highest."""
        highest = np.where(self.has_state, self.power_kw, 0).max(axis=1, keepdims=True)
        table = np.append(self.power_kw, highest, axis=1)
        known: npt.NDArray[np.float32] = np.where(np.isfinite(table), table, highest).astype(np.float32)
        return known

    def expected_kw(self, slots: Slots, states: "npt.NDArray[np.uint8] | int") -> float:
        """All-in kW of devices in states."""
        return float(np.dot(self.state_kw(slots, states), self.pue_of_slot[slots]))

    def meter_kw(self, power_kw: npt.NDArray[np.float32]) -> float:
        """All-in kW of the devices' own power; those of which nothing is known count as nothing."""
        return float(np.dot(np.nan_to_num(power_kw), self.pue_of_slot))

    def observe(self, power_kw: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """[n] the state whose power is nearest to each device's own; 255 where there is none, or nothing is known of it."""
        observed = np.full(self.slots, UNKNOWN_STATE, dtype=np.uint8)
        there = np.flatnonzero((self.group_of_slot >= 0) & np.isfinite(power_kw))
        distance = np.abs(self.power_kw[self.group_of_slot[there]] - power_kw[there, None])
        observed[there] = np.argmin(distance, axis=1).astype(np.uint8)
        return observed
