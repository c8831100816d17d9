"""What a site is given, gives back and leaves behind: plain records, and what is read off its configuration once."""

import hashlib
from typing import NamedTuple

import numpy as np
from pyroaring import BitMap

from simulators.fault_schedule import FaultSchedule
from simulators.settings import SiteConfig
from simulators.streams import IntArray
from simulators.weather import Weather


class SetResult(NamedTuple):
    """What a SET did: `changed` are in the state asked for, `diverted` woke into another one, by that."""

    accepted: BitMap
    refused: BitMap
    changed: BitMap
    diverted: dict[int, BitMap]


class SiteState(NamedTuple):
    """Everything of a site that outlives the process; arrays by name."""

    digest: str
    at_s: float
    energy_wh: float
    arrays: dict[str, np.ndarray]


class Surroundings(NamedTuple):
    """What a site is not the cause of."""

    weather: Weather
    schedule: FaultSchedule | None = None


def slots_of_feeders(config: SiteConfig) -> dict[str, IntArray]:
    """The slots behind each feeder."""
    names = dict.fromkeys(group.feeder for group in config.groups if group.feeder is not None)
    runs = [(group.feeder, np.arange(group.first_slot, group.end_slot, dtype=np.int64)) for group in config.groups]
    return {name: np.concatenate([index for feeder, index in runs if feeder == name]) for name in names}


def digest_of(config: SiteConfig, seed: int) -> str:
    """Identifies the device layout: a saved state is only taken over by the same one."""
    text = f"{seed}/{config.site}/" + "/".join(
        f"{group.group}:{group.kind}:{group.first_slot}:{group.devices}" for group in config.groups
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
