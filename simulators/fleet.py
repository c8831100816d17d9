"""All sites of the world, with what the scenario and the seed bring upon each. What a site is, is in `site`."""

import asyncio
from collections.abc import Sequence

from simulators.devices import BOOT_S
from simulators.fault_log import FaultLog
from simulators.fault_schedule import FaultSchedule
from simulators.network import Network
from simulators.scenarios import scenario_named
from simulators.script import Script
from simulators.settings import SiteConfig
from simulators.site import Site
from simulators.site_records import SetResult, SiteState, Surroundings
from simulators.tables import CURTAILED, STATE_CODES
from simulators.weather import Weather

__all__ = ["BOOT_S", "CURTAILED", "STATE_CODES", "Fleet", "SetResult", "Site", "SiteState"]


class Fleet:
    """The sites by name, in the order of `world.yaml`; a calm world unless a script is given."""

    def __init__(
        self,
        configs: Sequence[SiteConfig],
        seed: int,
        at_s: float,
        script: Script | None = None,
        weather: Weather | None = None,
        fault_log: FaultLog | None = None,
    ) -> None:
        script = script or Script(scenario_named("calm"))
        weather = weather or Weather(seed, script)
        schedules = [FaultSchedule(config, number, seed, script, fault_log) for number, config in enumerate(configs)]
        self.script = script
        self.network = Network(seed, script, [config.site for config in configs])
        self.schedules = dict(zip((config.site for config in configs), schedules, strict=True))
        self.sites = {
            config.site: Site(config, seed, at_s, Surroundings(weather, schedule))
            for config, schedule in zip(configs, schedules, strict=True)
        }

    async def catch_up(self, now_s: float) -> None:
        """Let happen at each site what has come due by itself, so that the devices' own log has it though nobody looks.

        Whoever else waits has a turn after each site: the pool counts each site's shares at once, all sites' at one instant.
        """
        for site in self.sites.values():
            if site.calls.next_s <= now_s:
                site.advance(now_s)
                await asyncio.sleep(0)

    @property
    def devices(self) -> int:
        """Number of devices over all sites, gaps not counted."""
        return sum(group.devices for site in self.sites.values() for group in site.config.groups)
