"""The hard filters: whoever fails one is out, whatever it would score. Each says what failed in words."""

from collections.abc import Iterator

import numpy as np

from hcp_pipelines.workloads.routing.needs import Place
from hcp_pipelines.workloads.routing.room import GroupFacts


def why_not(group: GroupFacts, place: Place, latency_ms: float, usd_per_gpu_hour: float, energy_usd: float) -> str:
    """The first filter that a group doesn't pass; empty: it may be had.

    Args:
        group: the group.
        place: what is asked for.
        latency_ms: from the client to there.
        usd_per_gpu_hour: what a device-hour earns there, NaN: not known.
        energy_usd: what a device-hour draws, NaN: there is no price.
    """
    return next((words for _, words in _failed(group, place, latency_ms, usd_per_gpu_hour, energy_usd)), "")


def _failed(
    group: GroupFacts, place: Place, latency_ms: float, usd_per_gpu_hour: float, energy_usd: float
) -> Iterator[tuple[bool, str]]:
    yield from filter(_has_failed, _of_devices(group, place))
    yield from filter(_has_failed, _of_site(group, place))
    yield from filter(_has_failed, _of_moment(group, place, latency_ms, usd_per_gpu_hour, energy_usd))


def _has_failed(looked_at: tuple[bool, str]) -> bool:
    return looked_at[0]


def _of_devices(group: GroupFacts, place: Place) -> Iterator[tuple[bool, str]]:
    """Type, model, state and memory (WL-25, ER-20, ER-21)."""
    is_named = not place.gpu_type or place.gpu_type in group.names
    yield group.kind is not place.kind or not is_named, f"has no {place.gpu_type or place.kind}"
    yield int(place.state) not in group.power_kw, f"its devices can't be in the state {place.state.label}"
    short = place.memory_gb is not None and 0 < group.memory_gb < place.memory_gb
    yield short, f"{group.memory_gb:g} GB a GPU, {place.memory_gb} are asked for"
    yield place.gpu_count > group.devices, f"has {group.devices} devices, {place.gpu_count} are asked for"


def _of_site(group: GroupFacts, place: Place) -> Iterator[tuple[bool, str]]:
    """What the customer says of facilities, and what stands against any work there."""
    yield bool(place.facility) and place.facility != group.facility_id, f"the work asks for {place.facility}"
    yield place.not_facility == group.facility_id, "the work asks not to come here"
    elsewhere = bool(place.region) and place.region.casefold() not in group.regions
    yield elsewhere, f"not in the region {place.region}"
    yield bool(group.closed), group.closed


def _of_moment(
    group: GroupFacts, place: Place, latency_ms: float, usd_per_gpu_hour: float, energy_usd: float
) -> Iterator[tuple[bool, str]]:
    """Latency (ER-19), prices."""
    far = place.max_latency_ms is not None and latency_ms > place.max_latency_ms
    yield far, f"{latency_ms:.0f} ms away, {place.max_latency_ms} ms are allowed"
    yield not np.isfinite(energy_usd), f"no price of {group.settlement_point} is known"
    is_limited = place.max_usd_per_gpu_hour is not None
    yield is_limited and not np.isfinite(usd_per_gpu_hour), "what a GPU-hour costs there is not known"
    dear = place.max_usd_per_gpu_hour is not None and usd_per_gpu_hour > place.max_usd_per_gpu_hour
    yield dear, f"${usd_per_gpu_hour:.2f} a GPU-hour, ${place.max_usd_per_gpu_hour} are paid at most"
