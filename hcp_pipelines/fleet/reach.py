"""How a facility file says that devices are reached: by which driver, at which addresses. What a gateway does is in `edge`."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.devices.settling import family

DriverKind = Literal["bulk", "miner_api"]
DRIVEN_FIRMWARE = ("stock", "whatsminer", "whatsminer-v3", "luxos")  # by miner_api


class MinerApi(BaseModel):
    """How miners at addresses of their own are spoken to; what is left out is the driver's default (docs/edge-site-file.md)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    poll_period_ms: int | None = Field(default=None, ge=200, le=60_000)
    concurrency: int | None = Field(default=None, ge=1, le=512)
    deadline_ms: int | None = Field(default=None, ge=100, le=30_000)
    api_port: int | None = Field(default=None, ge=1, le=65_535)
    web_port: int | None = Field(default=None, ge=1, le=65_535)
    v3_port: int | None = Field(default=None, ge=1, le=65_535)
    passwords_file: str | None = None
    meters: str | None = Field(default=None, pattern=r"^[^:\s]+:\d+$")


class Reach(NamedTuple):
    """What decides whether a group's devices can be reached."""

    group_id: str
    type: str
    firmware: str
    devices: int
    driver: DriverKind
    addresses: tuple[str, ...]


def check_reach(groups: Iterable[Reach]) -> None:
    """Look for groups whose driver can't reach them.

    Raises:
        ValueError: a driver that doesn't know the devices, too few or too many addresses, or one that is there twice.
    """
    seen: dict[str, str] = {}
    for group in groups:
        addresses = expand(group.addresses)
        if group.driver == "miner_api":
            _check_miners(group, len(addresses))
        for address in addresses:
            if address in seen:
                raise ValueError(f"{address} is in group {seen[address]} and in group {group.group_id}")
            seen[address] = group.group_id


def _check_miners(group: Reach, addresses: int) -> None:
    if group.type != "ASIC" or family(group.firmware) not in DRIVEN_FIRMWARE:
        raise ValueError(
            f"group {group.group_id}: miner_api drives ASICs with {', '.join(DRIVEN_FIRMWARE)}, "
            f"not {group.type} with {group.firmware}"
        )
    if addresses != group.devices:
        raise ValueError(f"group {group.group_id} has {group.devices} devices and {addresses} addresses")
