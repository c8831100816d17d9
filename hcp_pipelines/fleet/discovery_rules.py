"""What a facility file says about discovery: how often its gateway scans, where, and when a scan is believed."""

from typing import Any, Self

from pydantic import Field, model_validator

from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.fleet.parts import Part


class DiscoveryRules(Part):
    """Scans by the gateway, in a loop; what is left out of the last three is the gateway's default."""

    every_s: float = Field(default=30.0, ge=1, le=86_400)
    apply: bool = True  # else differences are recorded, and the inventory stays
    ranges: tuple[str, ...] = ()  # in place of the groups' own addresses
    vanished_after_scans: int = Field(default=3, ge=1, le=1000)
    held_above_fraction: float = Field(default=0.2, gt=0, le=1)  # of the devices that were there, gone in one scan
    authenticate: bool | None = None
    probes: int | None = Field(default=None, ge=1, le=1024)
    concurrency: int | None = Field(default=None, ge=1, le=512)
    connections_per_s: float | None = Field(default=None, ge=1, le=50_000)

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> Self:
        expand(self.ranges)
        return self

    def of_gateway(self) -> dict[str, Any]:
        """The gateway's share of it (docs/edge-site-file.md)."""
        platforms = {"apply", "vanished_after_scans", "held_above_fraction"}
        return self.model_dump(mode="json", exclude=platforms, exclude_none=True)
