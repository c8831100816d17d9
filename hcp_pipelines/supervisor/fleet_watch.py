"""Whether the fleet has changed under the running platform, and who is then told something else. `platform.py` restarts them."""

from dataclasses import dataclass, field
from typing import NamedTuple

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor.configuration import Configuration, MakeAnchor, configure, file_digests, fleet_digest


class FleetChange(NamedTuple):
    """What is configured now, and the processes that were told something else: a device that moved is no news to the world."""

    configuration: Configuration
    affected: list[str]


@dataclass
class FleetWatch:
    """What the platform's processes were last told."""

    settings: Settings
    _digest: str = ""
    _told: dict[str, str] = field(default_factory=dict)

    def begin(self, make_anchor: MakeAnchor) -> Configuration:
        """Write what processes are told, before they start.

        Raises:
            HcpError: as `configure`.
        """
        configuration = configure(self.settings, make_anchor)
        self._digest, self._told = fleet_digest(self.settings), file_digests(self.settings)
        return configuration

    def look(self, make_anchor: MakeAnchor) -> FleetChange | None:
        """What has changed since the last look, with the files written anew; None if nothing has.

        Raises:
            ConfigError: the new fleet can't be served; said once, until it changes again.
            HcpError, psycopg.Error: Postgres can't be asked: again at the next look.
        """
        digest = fleet_digest(self.settings)
        if digest == self._digest:
            return None
        try:
            configuration = configure(self.settings, make_anchor)
        except ConfigError:
            self._digest = digest
            raise
        before, self._digest, self._told = self._told, digest, file_digests(self.settings)
        return FleetChange(configuration, [name for name, told in self._told.items() if before.get(name) != told])
