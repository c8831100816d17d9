"""Whether a facility file may be applied, beside what is armed, what other facilities have, and what is known of the world.

What a file says of itself is judged in `document.py`; a file that was applied once is never judged again by what is here, so that
what becomes known later takes no platform down. Applying is in `apply.py`.
"""

from collections.abc import Iterator

import psycopg

from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.devices.firmware import known_versions
from hcp_pipelines.devices.settling import families, family
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.spelling import nearest
from hcp_pipelines.fleet.document import FacilityFile
from hcp_pipelines.fleet.models import MODELS
from hcp_pipelines.markets.ercot_points import HUBS, LOAD_ZONES, is_listed, is_misspelt, nearest_point

_SOLD_MW = """
    with sold as (
        select mw, during from grid_obligations
        where facility_id = %s and status in ('armed', 'deployed', 'recovering'))
    select coalesce(max(mw), 0)::float8 from (
        select (select sum(other.mw) from sold other where other.during @> lower(one.during)) as mw from sold one) at_starts"""
_ADDRESSES_ELSEWHERE = """
    select d.facility_id, d.specifications -> 'addresses' from device_groups d
    join inventory_generations g on g.facility_id = d.facility_id and g.generation = d.generation and g.is_current
    join facilities f on f.id = d.facility_id
    where d.facility_id <> %s and f.status <> 'retired' and d.specifications -> 'addresses' is not null
    order by d.facility_id, d.first_slot"""
_METERS_ELSEWHERE = """
    select id from facilities where id <> %s and status <> 'retired' and document #>> '{miner_api,meters}' = %s order by id"""


def check(connection: psycopg.Connection, facility: FacilityFile) -> None:
    """Look for what must not be applied.

    Raises:
        ConfigError: a firmware version that nobody knows, a misspelt settlement point, an address or meter of another's,
            or obligations above what the fallback plan keeps on of the load that can be shed.
    """
    _check_firmware(facility)
    _check_settlement_point(facility)
    _check_addresses(connection, facility)
    _check_meters(connection, facility)
    _check_obligations(connection, facility)


def remarks(facility: FacilityFile) -> list[str]:
    """What may be right and should be looked at, a line each."""
    return [f"{facility.facility_id}: {text}" for text in (*_of_settlement_point(facility), *_of_groups(facility))]


def _of_settlement_point(facility: FacilityFile) -> Iterator[str]:
    point = facility.settlement_point
    if not is_listed(point):
        yield (
            f"settlement_point {point!r} is none of ERCOT's hubs and load zones, and is taken for a resource node; "
            "a facility without prices follows its fallback plan"
        )


def _of_groups(facility: FacilityFile) -> Iterator[str]:
    for group in facility.groups:
        near = nearest(group.model.upper(), MODELS, 0.7)
        if group.model not in MODELS and near:
            yield f"group {group.group_id}: model {group.model!r} is not in the table, where {near!r} is; it keeps its states"
        if family(group.firmware) not in families():
            yield (
                f"group {group.group_id}: of firmware {group.firmware!r} nothing is known; it is taken to be as slow as stock "
                f"(known are {', '.join(sorted(families()))})"
            )


def _check_firmware(facility: FacilityFile) -> None:
    for group in facility.groups:
        known = known_versions(group.firmware)
        if family(group.firmware) in families() and group.firmware not in known:
            raise ConfigError(
                f"{facility.facility_id}: group {group.group_id}: firmware {group.firmware!r} is not known; there is "
                f"{', '.join(known)} (docs/protocols.md)"
            )


def _check_settlement_point(facility: FacilityFile) -> None:
    point = facility.settlement_point
    if is_misspelt(point):
        near = nearest_point(point)
        meant = f"did you mean {near!r}? " if near else ""
        raise ConfigError(
            f"{facility.facility_id}: settlement_point {point!r} is no hub or load zone of ERCOT's; {meant}"
            f"There are {', '.join(HUBS + LOAD_ZONES)}"
        )


def _check_addresses(connection: psycopg.Connection, facility: FacilityFile) -> None:
    """A device that two facilities own would be told two things."""
    own = {address for group in facility.groups for address in expand(group.addresses)}
    if not own:
        return
    for other, addresses in connection.execute(_ADDRESSES_ELSEWHERE, (facility.facility_id,)):
        shared = [address for address in expand(addresses) if address in own]
        if shared:
            more = f" and {len(shared) - 1} more" if shared[1:] else ""
            raise ConfigError(
                f"{facility.facility_id}: address {shared[0]}{more}: {other} has it already, and a device has one facility; "
                f"take it out of one of the two files, and apply {other}'s first if that is the one"
            )


def _check_meters(connection: psycopg.Connection, facility: FacilityFile) -> None:
    meters = facility.miner_api.meters
    row = connection.execute(_METERS_ELSEWHERE, (facility.facility_id, meters)).fetchone() if meters else None
    if row is not None:
        raise ConfigError(
            f"{facility.facility_id}: miner_api.meters {meters}: {row[0]} has it already, and a meter measures one facility"
        )


def _check_obligations(connection: psycopg.Connection, facility: FacilityFile) -> None:
    """What is sold at one instant must be on, and sheddable: what miners draw asleep and what GPUs draw can't be shed."""
    row = connection.execute(_SOLD_MW, (facility.facility_id,)).fetchone()
    sold_mw, kept_mw = row[0] if row else 0.0, facility.fallback_sheddable_mw()
    if kept_mw < sold_mw - 1e-9:
        raise ConfigError(
            f"{facility.facility_id}: the fallback plan keeps {kept_mw:.3f} MW on that can be shed, but {sold_mw:.3f} MW are "
            "sold at once and must be; put more groups of miners on in `fallback`, or let the obligation end first"
        )
