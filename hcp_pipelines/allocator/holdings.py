"""What this allocator has in hand: the sites as Postgres has them, and a control for each facility whose lease is held.

What a control does is in `control.py`; when anything is read again is the service's to say.
"""

from collections.abc import Mapping
from datetime import datetime

from hcp_pipelines.allocator.control import FacilityControl, Hooks
from hcp_pipelines.allocator.leases import Lease
from hcp_pipelines.allocator.returns import Wiring
from hcp_pipelines.allocator.site import Site, site_of
from hcp_pipelines.allocator.store import Incoming


class Holdings:
    """Sites and controls by facility; a lease gained or lost, or a site that changed, makes and ends controls."""

    def __init__(self, intake: Incoming, wiring: Wiring, hooks: Hooks) -> None:
        self._intake, self._wiring, self._hooks = intake, wiring, hooks
        self.sites: dict[str, Site] = {}
        self.controls: dict[str, FacilityControl] = {}
        self.wants_sites = self.wants_standing = True

    def gain(self, lease: Lease) -> None:
        """Take a facility in hand."""
        site = self.sites.get(lease.facility_id)
        if site is None:
            self.wants_sites = True  # applied just now: the control is made once the site is known
        else:
            self.controls[lease.facility_id] = FacilityControl(site, lease, self._wiring, self._hooks)
        self._wiring.wake()

    async def lose(self, facility_id: str) -> None:
        """Let go of a facility; nothing is sent to it after this."""
        control = self.controls.pop(facility_id, None)
        if control is not None:
            await control.stop()

    async def load_sites(self, leases: Mapping[str, Lease]) -> None:
        """Read the facilities; one that changed gets a new session under the same lease."""
        self.wants_sites = False
        before, self.sites = self.sites, await self._read_sites()
        for facility_id, lease in list(leases.items()):
            site, old = self.sites.get(facility_id), before.get(facility_id)
            if site is None or (old is not None and _is_same(site, old) and facility_id in self.controls):
                continue
            await self.lose(facility_id)
            self.gain(lease)

    def note_time(self, now: datetime) -> None:
        """Maintenance may have a step that is due."""
        due = (c.owner.standing.changes_at for c in self.controls.values())
        self.wants_standing |= any(at is not None and at <= now for at in due)

    async def load_standing(self) -> None:
        """Directives, locks, obligations and approvals: what stands now, whatever it was."""
        self.wants_standing = False
        ids = list(self.controls)
        standing, obligations = await self._intake.standing(ids), await self._intake.obligations(ids)
        approved = await self._intake.approved(ids)
        for facility_id in ids:
            control = self.controls.get(facility_id)
            if control is not None:
                control.stand(standing[facility_id])
                control.owner.obligations.take(obligations[facility_id])
                control.approve(approved[facility_id])

    async def _read_sites(self) -> dict[str, Site]:
        inventories, addresses = await self._intake.inventories(), await self._intake.addresses()
        portfolio_mw = sum(i.capacity_mw for i in inventories)
        return {
            i.facility_id: site_of(i, portfolio_mw, addresses[i.facility_id])
            for i in inventories
            if i.facility_id in addresses
        }


def _is_same(site: Site, other: Site) -> bool:
    def facts(s: Site) -> tuple[object, ...]:
        return s.generation, s.document_version, s.address, s.ramps

    return facts(site) == facts(other)
