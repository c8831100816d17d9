"""The locks of one facility as its gateway holds them, against those in the books; and what the gateway is told of them.

The books are Postgres'. A gateway is ahead of them after a hostile owner, or when Postgres was restored from a backup: then
nothing that it holds is unlocked by itself, since somebody may have their hands in it. Such locks are entered in the books,
where an admin can lift them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg

from hcp_pipelines.domain.fencing import CATCH_UP_MAX, HIGHEST
from hcp_pipelines.policy.arrays import Bools
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots

REASON = "found locked at the gateway, of which Postgres knew nothing"

_OUTGROW = """
    update facilities f
    set lockouts_version = f.lockouts_version + least(%(version)s::bigint - f.lockouts_version + 1, %(most)s)
    from facility_leases l
    where f.id = %(facility)s and f.lockouts_version <= %(version)s and l.facility_id = f.id and l.owner = %(owner)s
      and l.epoch = %(epoch)s and l.expires_at > now()"""
_ENTER = """
    insert into lockouts (facility_id, scope, slots, holder, reason)
    values (%(facility)s, 'device', %(slots)s, %(holder)s, %(reason)s)"""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a gateway holds that the books do not have: a version, and devices that it alone has locked (a bitmap of slots)."""

    facility_id: str
    version: int
    books_version: int
    slots: bytes
    devices: int

    @property
    def holder(self) -> str:
        """Who holds these locks: no operator's name."""
        return f"gateway of {self.facility_id}"


class Locks:
    """What the gateway was found to hold, or has said that it holds."""

    def __init__(self, facility_id: str) -> None:
        self._facility_id, self.version = facility_id, 0
        self._mask: Bools = np.zeros(0, dtype=bool)

    def adopt(self, version: int, mask: Bools) -> None:
        """As the gateway says at the beginning of a session."""
        self.version, self._mask = version, mask

    def ahead(self, version: int, locked: Bools) -> Ahead | None:
        """What it is ahead of the books, given their version and [n] slots; None where it is not.

        Of the same version it may hold other slots: of an inventory before this one, or by chance. Then the books are right.
        """
        is_other = version == self.version and version > 0 and not np.array_equal(locked, self._mask)
        if version > self.version or (version == self.version and not is_other):
            return None
        unknown = (
            np.flatnonzero(self._mask & ~locked).astype(np.uint32) if version < self.version else np.zeros(0, np.uint32)
        )
        return Ahead(self._facility_id, self.version, version, encode_slots(unknown), len(unknown))

    def news(self, epoch: int, version: int, locked: Bools) -> pb.SetLocks | None:
        """What the gateway is to be told; None where it holds this version."""
        if version == self.version:
            return None
        slots = encode_slots(np.flatnonzero(locked).astype(np.uint32))
        return pb.SetLocks(facility_id=self._facility_id, epoch=epoch, version=version, slots=slots)


async def enter_locks(connection: "psycopg.AsyncConnection[Any]", owner: str, epoch: int, ahead: Ahead) -> None:
    """Raise the books' version above the gateway's, and enter what it alone has locked; nothing without a lease that stands."""
    parameters = {
        "facility": ahead.facility_id, "version": min(ahead.version, HIGHEST), "most": CATCH_UP_MAX, "owner": owner,
        "epoch": epoch, "slots": ahead.slots, "holder": ahead.holder, "reason": REASON,
    }  # fmt: skip
    async with connection.transaction():
        is_raised = (await connection.execute(_OUTGROW, parameters)).rowcount
        if is_raised and ahead.devices:
            await connection.execute(_ENTER, parameters)
