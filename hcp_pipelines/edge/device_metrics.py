"""What a reading says of a facility's devices as metrics: by facility and group, never by device; those are in the lake."""

import numpy as np
import numpy.typing as npt

from hcp_pipelines.devices.site import Evidence, Reading
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.low_hashrate import MINING, LowHashrate
from hcp_pipelines.edge.shape import SiteShape

Values = npt.NDArray[np.float32]


class DeviceMetrics:
    """Tells one facility's."""

    def __init__(self, shape: SiteShape) -> None:
        self._shape, self._low = shape, LowHashrate(shape.slots)
        self._issues: set[tuple[str, str]] = set()  # that were told once: those that are over are told as none
        self._groups = [
            (group_id, bool(shape.has_state[g, list(MINING)].any()), _run_of(shape, g))
            for g, group_id in enumerate(shape.group_ids)
        ]

    def tell(self, reading: Reading, power_kw: Values, states: npt.NDArray[np.uint8]) -> None:
        """Set what this reading says; `power_kw` is its power by slot, `states` what each was told last."""
        facility_id = self._shape.facility_id
        metrics.POWER_WATTS.labels(facility_id).set(float(np.nansum(power_kw)) * 1000)
        self._issues |= reading.issues.keys()
        for issue, severity in self._issues:
            metrics.ISSUES.labels(facility_id, issue, severity).set(len(reading.issues.get((issue, severity), ())))
        if reading.evidence is not None:
            there = reading.evidence[: self._shape.slots][self._shape.is_there]
            for evidence in Evidence:
                count = int((there == evidence).sum())
                metrics.EVIDENCE.labels(facility_id, evidence.name.lower()).set(count)
        for group_id, is_mining, run in self._groups:
            labels = (facility_id, group_id)
            tell = _tell_miners if is_mining else _tell_gpus
            tell(labels, power_kw[run], _of(reading.hashrate_th_per_s, run), _of(reading.temperature_celsius, run))
        if reading.hashrate_th_per_s is not None and self._low.is_due(reading.simulated_at_s):
            self._tell_low(reading.hashrate_th_per_s, states, reading.simulated_at_s)

    def _tell_low(self, hashrate: Values, states: npt.NDArray[np.uint8], at_s: float) -> None:
        for group_id, is_mining, run in self._groups:
            if is_mining:
                miners = self._low.look(run, states[run], hashrate[run], at_s)
                metrics.ASIC_LOW_HASHRATE.labels(self._shape.facility_id, group_id).set(miners)


def _tell_miners(labels: tuple[str, str], power_kw: Values, hashrate: Values | None, heat: Values | None) -> None:
    watts = _sum(power_kw) * 1000
    metrics.ASIC_POWER_WATTS.labels(*labels).set(watts)
    if hashrate is not None:
        total = _sum(hashrate)
        metrics.ASIC_HASHRATE.labels(*labels).set(total)
        metrics.ASIC_EFFICIENCY.labels(*labels).set(watts / total if total > 0 else np.nan)
    if heat is not None:
        metrics.ASIC_HOTTEST.labels(*labels).set(_most(heat))


def _tell_gpus(labels: tuple[str, str], power_kw: Values, _: Values | None, heat: Values | None) -> None:
    metrics.GPU_POWER_WATTS.labels(*labels).set(_sum(power_kw) * 1000)
    if heat is not None:
        metrics.GPU_HOTTEST.labels(*labels).set(_most(heat))


def _run_of(shape: SiteShape, group: int) -> slice:
    """The slots of a group, which are a contiguous run."""
    slots = np.flatnonzero(shape.group_of_slot == group)
    return slice(int(slots[0]), int(slots[-1]) + 1)


def _of(values: Values | None, run: slice) -> Values | None:
    return None if values is None else values[run]


def _sum(values: Values) -> float:
    """Those that tell nothing count as nothing."""
    return float(np.nansum(values, dtype=np.float64))


def _most(values: Values) -> float:
    """The highest; not a number where none is told."""
    return float(np.fmax.reduce(values)) if len(values) else float("nan")
