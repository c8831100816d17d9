"""What a facility is, and what is known of the hours ahead: plain numbers. MW are IT power unless said otherwise.

All-in power is IT power times the PUE of the interval; limits and prices are the meter's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.errors import ConfigError

Floats = npt.NDArray[np.float64]
SHORTFALL_USD_PER_MWH = 15_000.0  # of reserve that was sold and is not on; OPTIMIZER §2


class InfeasibleError(ConfigError):
    """No plan satisfies the limits; the message names the one that can't be held."""


@dataclass(frozen=True)
class Mode:
    """A state above the lowest: MW of one device, and $/h of one device, affine in the group's index."""

    name: str
    mw: float
    usd_per_hour_per_index: float
    usd_per_hour: float = 0.0


@dataclass(frozen=True)
class Group:
    """Like devices. `wake_*`: dollars of waking one device, affine in the index; minimum times in hours."""

    name: str
    devices: float
    modes: tuple[Mode, ...]  # of rising power
    index: str = "none"
    asleep_mw: float = 0.0
    feeder: str = ""
    wake_usd_per_index: float = 0.0
    wake_usd: float = 0.0
    sleep_usd: float = 0.0
    min_up_h: float = 0.0
    min_down_h: float = 0.0
    is_sheddable: bool = True


@dataclass(frozen=True)
class Training:
    """Work of `work_mwh` that may run in the intervals [release, deadline); what is not done costs its penalty a MWh."""

    name: str
    work_mwh: float
    release: int
    deadline: int
    most_mw: float
    penalty_usd_per_mwh: float


@dataclass(frozen=True)
class SiteSpec:
    """A facility. Inference comes in classes by value; training in as many slots as jobs may be under way at once."""

    groups: tuple[Group, ...]
    feeder_caps_mw: Mapping[str, float] = field(default_factory=dict)
    ramp_mw_per_h: float = np.inf
    ramp_down_mw_per_h: float | None = None  # None: as up
    reserves: tuple[str, ...] = ()
    reserve_most_mw: float = np.inf
    gpu_mw: float = 0.0
    gpu_idle_fraction: float = 0.0
    inference_usd_per_mwh: tuple[float, ...] = ()
    training_slots: int = 0
    gang_mw: tuple[float, ...] = ()  # by slot: all of it runs or none; integers, so for plans made slowly
    reload_usd_per_mw: float = 0.0
    shortfall_usd_per_mwh: float = SHORTFALL_USD_PER_MWH

    def __post_init__(self) -> None:
        if self.gang_mw and len(self.gang_mw) != self.training_slots:
            raise ConfigError(
                f"gang_mw of {len(self.gang_mw)} slots, the facility has {self.training_slots} slots for training"
            )

    @property
    def pairs(self) -> list[tuple[int, Mode]]:
        """(group, mode), in order: the rows of a plan's devices."""
        return [(g, mode) for g, group in enumerate(self.groups) for mode in group.modes]


@dataclass(frozen=True)
class Start:
    """What runs before the first interval: devices awake by group, MW of AI work, all-in MW at the meter (None: what follows)."""

    awake: Floats
    ai_mw: float = 0.0
    load_mw: float | None = None


@dataclass(frozen=True)
class Horizon:
    """A column an interval. Rows: indices by name, `mcpc` by reserve, `healthy` by group (None: all), `demand_mw` by class."""

    hours: Floats
    price_usd_per_mwh: Floats
    indices: Mapping[str, Floats]
    cap_mw: Floats
    pue: Floats
    adder_usd_per_mwh: Floats
    floor_mw: Floats  # sold before: sheddable load that has to be on
    response_cap_mw: Floats  # demand response: above it a violation is paid; inf where there is none
    response_usd_per_mwh: float = SHORTFALL_USD_PER_MWH
    mcpc_usd_per_mw_h: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    healthy: Floats | None = None
    demand_mw: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    training: tuple[Training, ...] = ()

    def __len__(self) -> int:
        """Intervals."""
        return len(self.hours)

    @classmethod
    def of(cls, price_usd_per_mwh: Floats, hours: float = 0.25, cap_mw: float = np.inf, **more: Any) -> "Horizon":
        """A horizon with numbers where nothing changes; what is not named is absent."""
        n = len(price_usd_per_mwh)

        def column(value: Any) -> Floats:
            return np.broadcast_to(np.asarray(value, dtype=float), n).copy()

        return cls(
            hours=column(hours),
            price_usd_per_mwh=np.asarray(price_usd_per_mwh, dtype=float),
            indices={name: column(value) for name, value in more.pop("indices", {}).items()},
            cap_mw=column(cap_mw),
            pue=column(more.pop("pue", 1.0)),
            adder_usd_per_mwh=column(more.pop("adder_usd_per_mwh", 0.0)),
            floor_mw=column(more.pop("floor_mw", 0.0)),
            response_cap_mw=column(more.pop("response_cap_mw", np.inf)),
            **more,
        )

    def cut(self, start: int, end: int) -> "Horizon":
        """The intervals [start, end); training that has none of its time in them is left out."""
        cuts: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, np.ndarray) and value.size:
                cuts[each.name] = value[..., start:end]
        cuts["indices"] = {name: column[start:end] for name, column in self.indices.items()}
        cuts["training"] = tuple(
            replace(job, release=max(job.release - start, 0), deadline=min(job.deadline, end) - start)
            for job in self.training
            if job.release < end and job.deadline > start
        )
        return replace(self, **cuts)

    def index(self, name: str) -> Floats:
        """A column of an index; ones for a group that has none."""
        return np.ones(len(self)) if name == "none" else self.indices[name]
