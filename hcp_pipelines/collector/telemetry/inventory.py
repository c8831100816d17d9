"""What Postgres knows of the facilities: where their gateways are, and which groups and slots a generation has."""

from dataclasses import dataclass

from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.wire.telemetry import Part

_GATEWAYS = "select facility_id, address from gateway_endpoints order by facility_id"
_GROUPS = """
    select group_id, first_slot, devices from device_groups where facility_id = %s and generation = %s order by first_slot"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A facility and the gRPC target of its gateway."""

    facility_id: str
    address: str


def read_endpoints(settings: Settings) -> list[Endpoint]:
    """All facilities that have a gateway.

    Raises:
        psycopg.Error: Postgres can't be asked.
    """
    with connect(settings, Role.COLLECTOR) as connection:
        return [Endpoint(*row) for row in connection.execute(_GATEWAYS)]


def read_parts(settings: Settings, facility_id: str, generation: int) -> tuple[Part, ...]:
    """A generation's groups, by rising slots; none where there is no such generation.

    Raises:
        psycopg.Error: Postgres can't be asked.
    """
    with connect(settings, Role.COLLECTOR) as connection:
        return tuple(Part(*row) for row in connection.execute(_GROUPS, (facility_id, generation)))
