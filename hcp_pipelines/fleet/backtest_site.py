"""A facility file as the back-test of a mixed facility sees it: miners by group, all-in; made-up AI work for its GPUs."""

from dataclasses import replace

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import ResourceType
from hcp_pipelines.fleet.facility_file import FacilityFile
from hcp_pipelines.fleet.groups import Group
from hcp_pipelines.optimizer.backtest.mixed.site import MIXED_100MW, MinerGroup, MixedSite

PRESET_GPU_MW = 15.0


def mixed_site(document: FacilityFile) -> MixedSite:
    """The facility with the preset's peaks, and the preset's AI work in proportion to its GPUs.

    Raises:
        ConfigError: no miners, or a limit of the site or of a feeder that not all load fits under: it is not in the back-test.
    """
    mw = {group.group_id: _full_mw(group, document.pue.value) for group in document.groups}
    _refuse_limits(document, mw)
    miners = tuple(_miners(group, mw[group.group_id], document.pue.value) for group in _of(document, ResourceType.ASIC))
    if not miners:
        raise ConfigError(
            f"{document.facility_id} has no miners: there is nothing that follows the price. Choose another file."
        )
    share = sum(mw[group.group_id] for group in _of(document, ResourceType.GPU)) / PRESET_GPU_MW
    if not share:
        return MixedSite(miners, peaks=MIXED_100MW.peaks)
    return MixedSite(
        miners,
        tuple(replace(each, peak_mw=each.peak_mw * share) for each in MIXED_100MW.inference),
        tuple(replace(j, work_mwh=j.work_mwh * share, most_mw=j.most_mw * share) for j in MIXED_100MW.training),
        MIXED_100MW.peaks,
    )


def _of(document: FacilityFile, kind: ResourceType) -> list[Group]:
    return [group for group in document.groups if group.type == kind]


def _full_mw(group: Group, pue: float) -> float:
    """All-in MW of a group at its highest state."""
    return group.devices * group.resolved().ladder[-1].power_kw * pue / 1000


def _miners(group: Group, mw: float, pue: float) -> MinerGroup:
    full = group.resolved().ladder[-1]
    return MinerGroup(group.group_id, mw, full.power_kw * 1000 / full.hash_rate_th_per_s * pue)


def _refuse_limits(document: FacilityFile, mw: dict[str, float]) -> None:
    by_feeder = {feeder.feeder_id: feeder.limit_mw for feeder in document.feeders}
    limits = {"the facility": (document.capacity_mw, sum(mw.values()))} | {
        f"feeder {name}": (limit, sum(mw[g.group_id] for g in document.groups if g.feeder_id == name))
        for name, limit in by_feeder.items()
    }
    for name, (limit, load) in limits.items():
        if load > limit:
            raise ConfigError(
                f"{document.facility_id}: all devices draw {load:.1f} MW at full, {name} has {limit:.1f} MW: limits that bind "
                "are not in the back-test. Back-test a file with fewer devices or a higher limit."
            )
