"""Which of the fleet's types of GPU will do for work, by the fleet's own names: however it was written, as claims match them.

A type is called as the market prices it (H100); a model's name (H100 SXM5), small letters and other signs between them are taken
for it. Work that names none waits as GPU, or ASIC, with all types that will do beside it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.workloads.books import ANY_TYPES
from hcp_pipelines.workloads.errors import NotAdmittedError
from hcp_pipelines.workloads.routing.needs import client_of
from hcp_pipelines.workloads.routing.scoring import Estimates, latency_ms
from hcp_pipelines.workloads.runs import runs_of
from hcp_pipelines.workloads.spec import Requirements, WorkloadSpec

FLEETS_REMEMBERED = 8  # of each kind of device the present one, and those that others still hold
# What facilities have of the kind of device `%(kind)s`, as one text: an expression for a statement that asks more.
FLEET = """(
    select coalesce(json_agg(site order by site.name, site.facility_id), '[]')::text from (
        select coalesce(nullif(g.specifications ->> 'gpu_type', ''), g.model) as name, array_agg(distinct g.model) as models,
               g.facility_id, sum(g.devices)::bigint as devices,
               max((select (r.specifications ->> 'memory_gb')::float8 from resources r
                    where r.facility_id = g.facility_id and r.slot = g.first_slot)) as memory_gb,
               max(coalesce((f.location ->> 'lat')::float8, 0)) as latitude,
               max(coalesce((f.location ->> 'lon')::float8, 0)) as longitude
        from device_groups g
        join inventory_generations i on i.facility_id = g.facility_id and i.generation = g.generation and i.is_current
        join facilities f on f.id = g.facility_id and f.status = 'active'
        where g.type = %(kind)s group by 1, g.facility_id) site)"""


@dataclass(frozen=True, slots=True)
class Site:
    """What one facility has of a type; `called`: type and models as they are matched."""

    name: str
    called: frozenset[str]
    facility_id: str
    devices: int
    memory_gb: float | None
    latitude: float = 0.0
    longitude: float = 0.0


@dataclass(frozen=True, slots=True)
class GpuTypes:
    """As what work waits: under the name of one type, or as `GPU` or `ASIC` for any of `any_of`."""

    name: str
    any_of: list[str] | None = None


@lru_cache(FLEETS_REMEMBERED)
def sites_of(told: str) -> tuple[Site, ...]:
    """What a text of `FLEET` says: read once, since fleets change seldom and each submission is told of all of it."""
    return tuple(
        Site(
            one["name"], frozenset(map(_plain, (one["name"], *one["models"]))), one["facility_id"], one["devices"],
            one["memory_gb"], one["latitude"], one["longitude"],
        )
        for one in json.loads(told)
    )  # fmt: skip


def gpu_types_of(
    sites: Sequence[Site], spec: WorkloadSpec, workload_type: WorkloadType, needs: Requirements, estimates: Estimates
) -> GpuTypes:
    """The types that will do. A class's own type stands before all others where nothing is said and the fleet has it.

    Raises:
        NotAdmittedError: this fleet has none, not so many at one facility, none with so much memory, for its weights or said, or
            all that would do are too far away.
    """
    kind, needs = kind_of(workload_type), _with_weights(spec, needs)
    sites = _where_it_may(sites, spec)
    found = _types_of(sites, spec, kind, needs)
    would_do = [site for site in sites if site.name in (found.any_of or [found.name])]
    if kind != "ASIC":
        would_do = [site for site in would_do if _is_large(site, needs) and site.devices >= needs.gpu_count]
    _refuse_too_far(would_do, spec, needs, estimates)
    return found


def _refuse_too_far(sites: Sequence[Site], spec: WorkloadSpec, needs: Requirements, estimates: Estimates) -> None:
    """By the router's own estimate (ER-19); the limit that is told, to a tenth of a millisecond, would be kept."""
    if needs.max_latency_ms is None:
        return
    least_ms = float(latency_ms(sites, client_of(spec.sla_parameters), estimates).min())
    if needs.max_latency_ms < least_ms:
        told_ms = ceil(least_ms * 10) / 10
        asked = "is asked for" if spec.max_latency_ms is not None else "is what its class allows"
        raise NotAdmittedError(
            f"max_latency_ms: {needs.max_latency_ms:g} {asked}, the nearest facility that would do is {told_ms:g} ms away"
        )


def _types_of(sites: Sequence[Site], spec: WorkloadSpec, kind: str, needs: Requirements) -> GpuTypes:
    wanted = _plain(needs.gpu_type)
    named = [site for site in sites if wanted in site.called]
    is_any = needs.gpu_type.upper() in ANY_TYPES or (spec.gpu_type is None and not named)
    if not is_any and sites and not named:
        there = ", ".join(dict.fromkeys(site.name for site in sites))
        raise NotAdmittedError(f"no facility has {needs.gpu_type} as {kind}: there are {there}")
    if not is_any:
        return GpuTypes(_fitting(named, needs.gpu_type, needs)[0])
    if kind == "ASIC":
        _fitting(_together(sites), kind, needs)
        return GpuTypes(kind, list(dict.fromkeys(site.name for site in sites)))
    return GpuTypes(kind, _fitting(sites, kind, needs))


def _where_it_may(sites: Sequence[Site], spec: WorkloadSpec) -> Sequence[Site]:
    """The facilities that the work's own words about places leave (docs/scheduler.md)."""
    only, never = spec.sla_parameters.get("facility"), spec.sla_parameters.get("not_facility")
    left = [site for site in sites if only in (None, site.facility_id) and site.facility_id != never]
    if sites and not left:
        there = ", ".join(sorted({site.facility_id for site in sites}))
        said = f"sla_parameters.not_facility is {never}" if only is None else f"sla_parameters.facility is {only}"
        raise NotAdmittedError(f"no facility is left for the work: {said}, there are {there}")
    return left


def _with_weights(spec: WorkloadSpec, needs: Requirements) -> Requirements:
    """With memory for its part of the weights; a card's GB are GiB."""
    runs = runs_of({"sla_parameters": spec.sla_parameters}, "")
    part_gb = runs.weights_gib / min(runs.gpus_each, needs.gpu_count)
    return replace(needs, memory_gb=max(needs.memory_gb or 0.0, part_gb))


def kind_of(workload_type: WorkloadType) -> str:
    """The kind of device that work of a class takes, as `FLEET` is asked for it."""
    return "ASIC" if workload_type is WorkloadType.BITCOIN_MINING else "GPU"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _together(sites: Iterable[Site]) -> list[Site]:
    """Facilities with all that they have: miners work together whatever their models, GPUs of one type alone."""
    devices: Counter[str] = Counter()
    for site in sites:
        devices[site.facility_id] += site.devices
    return [Site("", frozenset(), facility_id, count, None) for facility_id, count in devices.items()]


def _is_large(site: Site, needs: Requirements) -> bool:
    return not needs.memory_gb or not site.memory_gb or site.memory_gb >= needs.memory_gb


def _fitting(sites: Iterable[Site], wanted: str, needs: Requirements) -> list[str]:
    """The types of which one facility has enough, with enough memory."""
    there = list(sites)
    if not there:
        raise NotAdmittedError(f"no facility has {wanted}")
    most = max(site.devices for site in there)
    if needs.gpu_count > most:
        raise NotAdmittedError(f"{needs.gpu_count} {wanted} at one facility are asked for, the largest has {most}")
    large = [site for site in there if _is_large(site, needs)]
    if not large:
        largest_gb = max(site.memory_gb for site in there if site.memory_gb)
        raise NotAdmittedError(f"{needs.memory_gb:g} GB a GPU are asked for, {wanted} has {largest_gb:g}")
    enough = [site for site in large if site.devices >= needs.gpu_count]
    if not enough:
        raise NotAdmittedError(
            f"{needs.gpu_count} {wanted} with {needs.memory_gb:g} GB each at one facility are asked for: no facility has them"
        )
    return list(dict.fromkeys(site.name for site in enough))
