"""A facility file as the back-test of a mixed facility sees it: miners by group, all-in; made-up AI work for its GPUs."""

from dataclasses import replace

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import ResourceType
from hcp_pipelines.fleet.facility_file import FacilityFile
from hcp_pipelines.fleet.groups import Group
from hcp_pipelines.optimizer.backtest.mixed.site import MIXED_100MW, MIXED_AI, MinerGroup, MixedSite

PRESET_GPU_MW = 15.0
STEP_S = 900.0  # of a settlement interval: what takes less time is not seen


def mixed_site(document: FacilityFile) -> MixedSite:
    """The facility with its limits and ramps, the preset's peaks, and the preset's AI work in proportion to its GPUs.

    Behind a feeder the GPUs' full load is kept free; what the site's limit leaves beside AI work is the miners'.

    Raises:
        ConfigError: no miners; AI work alone is above a limit or ramp, which never hold it here; or minimum times or a feeder's
            ramp that would be felt from one interval to the next, which no strategy heeds here.
    """
    _refuse_dwell(document)
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
    _refuse_feeder_ramps(document, mw)
    share = gpu_mw / PRESET_GPU_MW
    return _with_ramps(document, replace(site, ai=MIXED_AI.scaled(share)) if share else site)


def _with_ramps(document: FacilityFile, site: MixedSite) -> MixedSite:
    """The site with the tighter of the facility's and the portfolio's ramps, as MW an hour."""
    both = document.ramps.facility, document.ramps.portfolio
    up, down = min(r.up_mw / r.window_s for r in both), min(r.down_mw / r.window_s for r in both)
    if site.most_ai_mw > min(up, down) * STEP_S:
        raise ConfigError(
            f"{document.facility_id}: AI work comes and goes by up to {site.most_ai_mw:.1f} MW, the ramps let "
            f"{min(up, down) * STEP_S:.1f} MW change in {STEP_S / 60:g} minutes: it is never held by a ramp in the back-test. "
            "Back-test a file with fewer GPUs or wider ramps."
        )
    return replace(site, ramp_up_mw_per_h=up * 3600, ramp_down_mw_per_h=down * 3600)


def _refuse_feeder_ramps(document: FacilityFile, mw: dict[str, float]) -> None:
    for feeder in document.feeders:
        here = sum(mw[group.group_id] for group in document.groups if group.feeder_id == feeder.feeder_id)
        most = min(feeder.ramp.up_mw, feeder.ramp.down_mw) * STEP_S / feeder.ramp.window_s
        if most < min(here, feeder.limit_mw):
            raise ConfigError(
                f"{document.facility_id}: feeder {feeder.feeder_id} may change by {most:.1f} MW in {STEP_S / 60:g} minutes, "
                f"{here:.1f} MW are behind it: feeders' ramps are not in the back-test. Widen it, and state ramps.facility."
            )


def _refuse_dwell(document: FacilityFile) -> None:
    dwell = document.dwell
    if max(dwell.min_up_s, dwell.min_down_s) > STEP_S or dwell.starts_per_hour == 1:
        raise ConfigError(
            f"{document.facility_id}: minimum times of {dwell.min_up_s:g} s up, {dwell.min_down_s:g} s down, at most "
            f"{dwell.starts_per_hour} starts an hour: a facility's back-test knows none that last longer than an interval of "
            f"{STEP_S / 60:g} minutes. Back-test a file without them, or one megawatt with them (--min-up-minutes, "
            "--min-down-minutes)."
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
