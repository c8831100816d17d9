"""Which driver a facility's devices have, from its configuration. Drivers are imported when a facility needs them.

pyasic alone costs seconds and 50 MB: a gateway that drives no miners over their own protocols never loads it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import numpy as np
import numpy.typing as npt
import structlog
import yaml
from pydantic import SecretStr

from hcp_pipelines.devices.many import MakeSite, ManySites
from hcp_pipelines.devices.site import DeviceSite, OnReading
from hcp_pipelines.devices.switches import Phase, SwitchBook
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.edge.config import FacilityConfig, GroupConfig
from hcp_pipelines.edge.driver_config import (
    BulkDriver,
    DriverConfig,
    GpuNodeDriver,
    KubernetesDriver,
    MinerApiDriver,
)

if TYPE_CHECKING:
    from hcp_pipelines.devices.gpu_node.fleet import GpuGroup
    from hcp_pipelines.devices.miner.telemetry import MinerOptions


PLACE = "{address}"  # in the name of a token's file
SHOWN = 5

MakeDevices = Callable[[FacilityConfig, Path, Clock, int, OnReading], DeviceSite]


def make_site(
    config: FacilityConfig,
    folder: Path,
    clock: Clock,
    period_ms: int,
    on_reading: OnReading,
    switches: SwitchBook | None = None,
) -> DeviceSite:
    """The facility's devices; one site if all groups have the same driver, else several behind one face.

    `switches`: the book in which switches of what runs are kept.

    Raises:
        ConfigError: a passwords file or a token that can't be read.
    """
    groups: dict[str, list[GroupConfig]] = {}
    for group in config.groups:
        groups.setdefault(config.driver_of(group).model_dump_json(), []).append(group)
    parts = [_part(config, own, folder, clock, period_ms, switches or SwitchBook()) for own in groups.values()]
    if len(parts) == 1:
        return parts[0][0](on_reading)
    return ManySites(parts, config.slots, on_reading)


def period_of(config: FacilityConfig, default_ms: int, speed: float) -> int:
    """Real milliseconds between two readings of the whole facility, at a clock's speed: the slowest of its drivers."""
    return max(_period_ms(config.driver_of(group), default_ms, speed) for group in config.groups)


def _period_ms(driver: DriverConfig, default_ms: int, speed: float) -> int:
    match driver:
        case BulkDriver():
            return default_ms
        case MinerApiDriver():
            return driver.poll_period_ms
        case GpuNodeDriver() | KubernetesDriver():
            return driver.period_ms(speed)


def _part(
    config: FacilityConfig,
    groups: Sequence[GroupConfig],
    folder: Path,
    clock: Clock,
    default_ms: int,
    switches: SwitchBook,
) -> tuple[MakeSite, npt.NDArray[np.bool_], int]:
    driver = config.driver_of(groups[0])
    is_own = np.zeros(config.slots, dtype=np.bool_)
    for group in groups:
        is_own[group.first_slot : group.first_slot + group.devices] = True
    match driver:
        case BulkDriver():
            make = _bulk(driver, switches)
        case MinerApiDriver():
            make = _miners(driver, groups, config, folder, clock)
        case GpuNodeDriver():
            make = _gpu_nodes(driver, groups, config.slots, folder, clock, switches)
        case KubernetesDriver():
            make = _kubernetes(driver, groups, config, clock, switches)
        case _:
            assert_never(driver)
    return make, is_own, _period_ms(driver, default_ms, clock.speed)


def _bulk(driver: BulkDriver, switches: SwitchBook) -> MakeSite:
    from hcp_pipelines.devices.bulk.device import BulkSite

    return lambda on_reading: BulkSite(driver.address, driver.site, on_reading, switches)


def _miners(
    driver: MinerApiDriver, groups: Sequence[GroupConfig], config: FacilityConfig, folder: Path, clock: Clock
) -> MakeSite:
    from hcp_pipelines.devices.miner.meters import FeederMeters
    from hcp_pipelines.devices.miner.site import MinerApiSite
    from hcp_pipelines.devices.miner.telemetry import Level, MinerGroup

    shared = {group.feeder_id for group in config.groups if group not in groups}  # their meters read others as well
    miners = [
        MinerGroup(
            first_slot=group.first_slot,
            addresses=group.address_of_each,
            firmware=group.firmware,
            levels=tuple(
                Level(step.state, step.power_kw * 1000, step.hash_rate_th_per_s, step.settle_s) for step in group.ladder
            ),
            feeder_id="" if group.feeder_id in shared else group.feeder_id,
            model=group.model,
        )
        for group in groups
    ]
    options = miner_options(driver)
    meters = FeederMeters(driver.meters, max(group.pue for group in groups)) if driver.meters else None
    return lambda on_reading: MinerApiSite(miners, config.slots, options, folder, clock, on_reading, meters)


def miner_options(driver: MinerApiDriver) -> "MinerOptions":
    """How the driver's miners are spoken to.

    Raises:
        ConfigError: a passwords file that can't be read.
    """
    from hcp_pipelines.devices.miner.telemetry import MinerOptions

    return MinerOptions(
        api_port=driver.api_port,
        web_port=driver.web_port,
        v3_port=driver.v3_port,
        deadline_s=driver.deadline_ms / 1000,
        concurrency=driver.concurrency,
        passwords=_passwords(driver.passwords_file),
    )


def _gpu_nodes(
    driver: GpuNodeDriver,
    groups: Sequence[GroupConfig],
    slots: int,
    folder: Path,
    clock: Clock,
    switches: SwitchBook,
) -> MakeSite:
    from hcp_pipelines.devices.gpu_node.boards import BoardPower
    from hcp_pipelines.devices.gpu_node.fleet import GpuNodeOptions
    from hcp_pipelines.devices.gpu_node.site import GpuNodeSite
    from hcp_pipelines.devices.gpu_node.values import WorkloadSpec

    nodes = _gpu_groups(groups)
    token, tokens = _tokens(driver.token_file, [address for group in nodes for address in group.addresses])
    options = GpuNodeOptions(
        exporter_port=driver.exporter_port,
        agent_port=driver.agent_port,
        deadline_s=driver.deadline_ms / 1000,
        concurrency=driver.concurrency,
        exporter_interval_s=driver.exporter_interval_s,
        token=token,
        tokens=tokens,
        token_over_http=driver.token_over_http,
        xid_actions=driver.xid_actions,
        workloads={state: WorkloadSpec(**work.model_dump()) for state, work in driver.work_in().items()},
        boards=BoardPower(driver.board_idle_w, driver.board_busy_w),
        phase_within_s={phase: getattr(driver.phase_within_s, phase.value) for phase in Phase},
    )
    return lambda on_reading: GpuNodeSite(nodes, slots, options, folder, clock, on_reading, switches)


def _kubernetes(
    driver: KubernetesDriver,
    groups: Sequence[GroupConfig],
    config: FacilityConfig,
    clock: Clock,
    switches: SwitchBook,
) -> MakeSite:
    from hcp_pipelines.devices.gpu_node.boards import BoardPower
    from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
    from hcp_pipelines.devices.kubernetes.codec import Image
    from hcp_pipelines.devices.kubernetes.site import KubernetesOptions, KubernetesSite
    from hcp_pipelines.devices.kubernetes.slots import Cluster
    from hcp_pipelines.devices.kubernetes.token import TokenFile
    from hcp_pipelines.devices.kubernetes.transport import ApiTransport

    within_s = driver.deadline_ms / 1000
    token = TokenFile(driver.token_file)
    token.check()
    transport = ApiTransport(driver.api, driver.ca_file, token, within_s, driver.concurrency)
    options = KubernetesOptions(
        cluster=Cluster(
            config.facility_id,
            driver.namespace,
            {state: Image(one.image, one.command, one.grace_s, one.user) for state, one in driver.images.items()},
        ),
        exporter_port=driver.exporter_port,
        deadline_s=within_s,
        concurrency=driver.concurrency,
        exporter_interval_s=driver.exporter_interval_s,
        workloads={state: WorkloadSpec(**work.model_dump()) for state, work in driver.workloads.items()},
        boards=BoardPower(driver.board_idle_w, driver.board_busy_w),
        phase_within_s={phase: getattr(driver.phase_within_s, phase.value) for phase in Phase},
        jobs_kept_s=driver.jobs_kept_s,
    )
    nodes = _gpu_groups(groups)
    return lambda on_reading: KubernetesSite(nodes, config.slots, options, transport, clock, on_reading, switches)


def _gpu_groups(groups: Sequence[GroupConfig]) -> "list[GpuGroup]":
    from hcp_pipelines.devices.gpu_node.boards import Level
    from hcp_pipelines.devices.gpu_node.fleet import GpuGroup

    return [
        GpuGroup(
            first_slot=group.first_slot,
            devices=group.devices,
            addresses=group.address_of_each,
            levels=tuple(Level(step.state, step.power_kw * 1000) for step in group.ladder),
        )
        for group in groups
    ]


def _tokens(path: Path | None, addresses: Sequence[str]) -> tuple[SecretStr | None, dict[str, SecretStr]]:
    """(one for all agents, one by address): each node has its own where the file's name has a place for its address.

    Without a token a node can be read and not commanded; a node's file that is not there costs that node alone.
    """
    if path is None:
        return None, {}
    if PLACE not in str(path):
        return _token(path), {}
    paths = {address: Path(str(path).replace(PLACE, address)) for address in addresses}
    missing = [str(own) for own in paths.values() if not own.exists()]
    if missing:
        log, shown = structlog.get_logger("edge.drivers"), missing[:SHOWN]
        log.warning("GPU nodes without a token can't be commanded", nodes=len(missing), missing=shown)
    return None, {address: _token(own) for address, own in paths.items() if own.exists()}


def _token(path: Path) -> SecretStr:
    token = _read_closed("token_file", path).strip()
    if not token:
        raise ConfigError(f"token_file {path} is empty: write the agents' token into it")
    return SecretStr(token)


def _passwords(path: Path | None) -> dict[str, str]:
    """Passwords by dialect: a YAML mapping in a file of its own, closed to others."""
    if path is None:
        return {}
    text = _read_closed("passwords_file", path)
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"passwords_file {path}{where}: not YAML; a line reads `luxos: PASSWORD`") from None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise ConfigError(f"{path}: a mapping of dialect to password is expected (docs/devices.md)")
    return {str(k): v for k, v in found.items()}


def _read_closed(key: str, path: Path) -> str:
    """The text of a file with secrets.

    Raises:
        ConfigError: it can't be read, or others may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path}: others may read it; chmod 600")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key} {path}: {error}") from error
