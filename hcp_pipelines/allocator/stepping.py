"""The obligations of one facility, stepped on clock and meter: what changed is written, what is not kept is told to people.

Their states and floors are in `obligations`; when to step is the service's to say.
"""

import math
from collections.abc import Awaitable, Callable, Sequence

from hcp_pipelines.allocator.leases import Lease
from hcp_pipelines.allocator.owner import Owner
from hcp_pipelines.allocator.returns import Wiring
from hcp_pipelines.allocator.session import GatewaySession
from hcp_pipelines.policy.obligations import Obligation, Status

WriteObligation = Callable[[str, int, Status, Obligation], Awaitable[bool]]


class Stepping:
    """Steps the obligations that an owner knows."""

    def __init__(self, owner: Owner, session: GatewaySession, lease: Lease, wiring: Wiring) -> None:
        self._owner, self._session, self._lease, self._wiring = owner, session, lease, wiring

    async def advance(self, write: WriteObligation) -> None:
        """Step them, and write what changed; the load follows at once, the writing behind it."""
        book = self._owner.obligations
        if not self._owner.is_ready or not (book.obligations or book.wants_meter):
            return
        meter_mw = devices_mw = math.nan
        metered_at_s: float | None = None
        if book.wants_meter and (state := await self._session.read_state()) is not None:
            meter_mw, devices_mw = state.power_kw / 1000, state.devices_kw / 1000
            metered_at_s = state.metered_at_s or None
        now_s = self._wiring.clock.now().timestamp()
        stepped = book.advance(now_s, meter_mw, devices_mw, metered_at_s)
        self._tell(stepped, book.lacking_mw(now_s, self._owner.sheddable_on_mw()))
        if stepped:
            self._owner.ask()
            self._wiring.wake()
        for before, after in book.to_write(self._wiring.clock.monotonic_s()):
            await write(self._wiring.name, self._lease.epoch, before, after)
            book.written(after)

    def _tell(self, stepped: Sequence[Obligation], lacking_mw: float) -> None:
        """What is not kept, or would not be, becomes an alert."""
        facility_id = self._owner.site.facility_id
        for one in (o for o in stepped if o.status is Status.FAILED):
            said = {"obligation": one.obligation_id, "programme": one.programme, "mw": one.mw, "reason": one.reason}
            self._wiring.alert(facility_id, "obligation_failed", **said)
        if lacking_mw > 0:
            floor_mw = round(self._owner.obligations.floor_mw(), 3)
            self._wiring.alert(facility_id, "obligation_short", lacking_mw=round(lacking_mw, 3), floor_mw=floor_mw)
