"""Addresses in the simulated world: which site's they are, and whether facility files name those of others.

Site number k is the k-th facility in the order of their ids, as the world's file lists them (`configuration` of the supervisor).
What two files say of the same address is judged in `admission.py`, for real sites too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import psycopg

from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.document import FacilityFile

FIRST_OCTET: Final = 16
OCTETS_PER_SITE: Final = 4

_CLAIMS = """
    select f.id, f.document #> '{discovery,ranges}',
           jsonb_agg(d.specifications -> 'addresses') filter (where d.specifications -> 'addresses' is not null)
    from facilities f join inventory_generations g on g.facility_id = f.id and g.is_current
    left join device_groups d on d.facility_id = f.id and d.generation = g.generation
    group by f.id order by f.id"""
_IDS_WITH = """
    select id from (
        select f.id from facilities f join inventory_generations g on g.facility_id = f.id and g.is_current
        union select unnest(%s::text[])) all_of_them order by id"""


def first_address(site_number: int) -> str:
    """Where a simulated site's devices begin, by its place among all facilities in the order of their ids (docs/protocols.md).

    Empty where 127/8 has no room for it.

    >>> first_address(0), first_address(1), first_address(60)
    ('127.16.0.1', '127.20.0.1', '')
    """
    octet = FIRST_OCTET + OCTETS_PER_SITE * site_number
    return f"127.{octet}.0.1" if octet < 256 else ""


def site_number_of(address: str) -> int | None:
    """The number of the simulated site that an IPv4 address is of; None: it is nothing simulated.

    >>> [site_number_of(address) for address in ("127.16.0.31", "127.23.9.1", "127.0.0.1", "10.20.0.1")]
    [0, 1, None, None]
    """
    first, second = (int(octet) for octet in address.split(".")[:2])
    return (second - FIRST_OCTET) // OCTETS_PER_SITE if first == 127 and second >= FIRST_OCTET else None


def refuse_foreign_addresses(connection: psycopg.Connection, documents: Sequence[FacilityFile]) -> None:
    """Look whether these files, applied together, leave every facility at its own simulated site's addresses.

    What was wrong before is nobody's fault of now and stays.

    Raises:
        ConfigError: a file names another site's addresses, or moves a site away from those that its file names.
    """
    rows = connection.execute(_CLAIMS).fetchall()
    claims = {
        fid: [*(ranges or ()), *(text for group in groups or () for text in group)] for fid, ranges, groups in rows
    }
    known = set(_foreign(list(claims), claims))
    own = {document.facility_id: _named(document) for document in documents}
    ids = [fid for (fid,) in connection.execute(_IDS_WITH, (list(own),))]
    for wrong in _foreign(ids, claims | own):
        if wrong not in known:
            raise ConfigError(_told(wrong, ids, list(own)))


@dataclass(frozen=True, slots=True)
class _Foreign:
    """An address of site `number` that the facility, itself site `own_number`, names."""

    facility_id: str
    own_number: int
    number: int
    address: str = field(compare=False)


def _foreign(ids: Sequence[str], claims: Mapping[str, Sequence[str]]) -> Iterator[_Foreign]:
    """The first foreign address of each facility and site."""
    for own_number, facility_id in enumerate(ids):
        by_number: dict[int | None, str] = {}
        for text in claims[facility_id]:
            for address in expand([text]):
                by_number.setdefault(site_number_of(address), address)
        for number, address in by_number.items():
            if number is not None and number != own_number:
                yield _Foreign(facility_id, own_number, number, address)


def _named(document: FacilityFile) -> list[str]:
    """The ranges that the file's groups and scans name."""
    scanned = document.discovery.ranges if document.discovery else ()
    return [*scanned, *(text for group in document.groups for text in group.addresses)]


def _told(wrong: _Foreign, ids: Sequence[str], applied: Sequence[str]) -> str:
    owner = ids[wrong.number] if wrong.number < len(ids) else "no facility's"
    fid, begins = wrong.facility_id, first_address(wrong.own_number) or "nowhere: 127/8 is full"
    if fid in applied:
        return (
            f"{fid}: address {wrong.address} is of simulated site {wrong.number} ({owner}), and {fid} is site "
            f"{wrong.own_number}, whose addresses begin at {begins}; sites count in the order of their ids (`hcp facility list`)"
        )
    return (
        f"{', '.join(applied)}: {fid} would become simulated site {wrong.own_number}, and its addresses ({wrong.address} …) "
        f"are of site {wrong.number}; take an id that comes behind {fid}, or apply {fid} in the same command, with addresses "
        f"from {begins}"
    )
