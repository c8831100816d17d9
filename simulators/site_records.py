"""What a site is given, gives back and leaves behind: plain records, and what is read off its configuration once."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pyroaring import BitMap

from simulators.fault_schedule import FaultSchedule
from simulators.settings import GroupConfig, SiteConfig
from simulators.streams import IntArray
from simulators.weather import Weather


class SetResult(NamedTuple):
    """What a SET did: `changed` are in the state asked for, `diverted` woke into another one, by that."""

    accepted: BitMap
    refused: BitMap
    changed: BitMap
    diverted: dict[int, BitMap]


class SiteState(NamedTuple):
    """Everything of a site that outlives the process; arrays by name. `groups`: their keys, `digest`: of all that it is."""

    digest: str
    groups: tuple[str, ...]
    at_s: float
    energy_wh: float
    arrays: dict[str, np.ndarray]


class Surroundings(NamedTuple):
    """What a site is not the cause of."""

    weather: Weather
    schedule: FaultSchedule | None = None


def group_key(site: str, seed: int, group: GroupConfig) -> str:
    """Identifies the devices of a group: what is remembered of them is only taken over by the same ones.

    The same are those of one group, model, firmware, first slot and count that can be in the same states.
    """
    codes = sorted(state.state for state in group.states)
    what = (seed, site, group.group, group.kind, group.model, group.firmware, group.first_slot, group.devices, codes)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]


def digest_of(config: SiteConfig, seed: int) -> str:
    """Identifies a site's devices and all that they can do: a saved state of the same digest is taken over as it is."""
    text = f"{seed}/{config.site}/" + "/".join(group.model_dump_json() for group in config.groups)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def kept_slots(groups: Sequence[GroupConfig]) -> BitMap:
    """The slots of some groups."""
    kept = BitMap()
    for group in groups:
        kept.add_range(group.first_slot, group.end_slot)
    return kept


def merged(
    own: "np.ndarray[Any, Any]", saved: "np.ndarray[Any, Any]", kept: IntArray, others: float | None = None
) -> "np.ndarray[Any, Any]":
    """One's own array with the saved values of some slots; `others`: what stands at all the others, unless that is one's own.

    >>> merged(np.array([1, 2, 3]), np.array([7, 8]), np.array([1])).tolist()
    [1, 8, 3]
    """
    made = own.copy() if others is None else np.full_like(own, others)
    made[kept] = saved[kept]
    return made
