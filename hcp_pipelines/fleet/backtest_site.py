"""A facility file as the back-test of a mixed facility sees it: miners by group, all-in; made-up AI work for its GPUs."""

from dataclasses import replace

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import ResourceType
from hcp_pipelines.fleet.facility_file import FacilityFile
from hcp_pipelines.fleet.groups import Group
from hcp_pipelines.optimizer.backtest.mixed.site import MIXED_100MW, MinerGroup, MixedSite

PRESET_GPU_MW = 15.0


def mixed_site(document: FacilityFile) -> MixedSite:
    """The facility with its limits, the preset's peaks, and the preset's AI work in proportion to its GPUs.

    Behind a feeder the GPUs' full load is kept free; what the site's limit leaves beside AI work is the miners'.

    Raises:
        ConfigError: no miners, or GPUs alone are above a limit: AI work is never held by one here.
    """
    mw = {group.group_id: _full_mw(group, document.pue.value) for group in document.groups}
    miners = tuple(_miners(group, mw[group.group_id], document.pue.value) for group in _of(document, ResourceType.ASIC))
    if not miners:
        raise ConfigError(
            f"{document.facility_id} has no miners: there is nothing that follows the price. Choose another file."
        )
    site = MixedSite(
        miners,
        peaks=MIXED_100MW.peaks,
        limit_mw=_room(document, "the facility", document.capacity_mw, 0.0),
        feeder_limits_mw={
            feeder.feeder_id: _room(
                document, f"feeder {feeder.feeder_id}", feeder.limit_mw, _gpu_mw(document, mw, feeder.feeder_id)
            )
            for feeder in document.feeders
        },
    )
    gpu_mw = _gpu_mw(document, mw)
    _room(document, "the facility", document.capacity_mw, gpu_mw)
    share = gpu_mw / PRESET_GPU_MW
    if not share:
        return site
    return replace(
        site,
        inference=tuple(replace(each, peak_mw=each.peak_mw * share) for each in MIXED_100MW.inference),
        training=tuple(
            replace(j, work_mwh=j.work_mwh * share, most_mw=j.most_mw * share) for j in MIXED_100MW.training
        ),
    )


def _gpu_mw(document: FacilityFile, mw: dict[str, float], feeder_id: str | None = None) -> float:
    """All-in MW of GPUs at full, of one feeder or of all."""
    groups = _of(document, ResourceType.GPU)
    return sum(mw[group.group_id] for group in groups if feeder_id in (None, group.feeder_id))


def _room(document: FacilityFile, name: str, limit_mw: float, gpu_mw: float) -> float:
    """What a limit leaves beside GPUs."""
    if gpu_mw > limit_mw:
        raise ConfigError(
            f"{document.facility_id}: GPUs draw {gpu_mw:.1f} MW at full, {name} has {limit_mw:.1f} MW: AI work is never held by "
            "a limit in the back-test. Back-test a file with fewer GPUs or a higher limit."
        )
    return limit_mw - gpu_mw


def _of(document: FacilityFile, kind: ResourceType) -> list[Group]:
    return [group for group in document.groups if group.type == kind]


def _full_mw(group: Group, pue: float) -> float:
    """All-in MW of a group at its highest state."""
    return group.devices * group.resolved().ladder[-1].power_kw * pue / 1000


def _miners(group: Group, mw: float, pue: float) -> MinerGroup:
    full = group.resolved().ladder[-1]
    return MinerGroup(group.group_id, mw, full.power_kw * 1000 / full.hash_rate_th_per_s * pue, group.feeder_id)
