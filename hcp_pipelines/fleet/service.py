"""The daemon that lets the inventory follow what gateways discover: reads each newest scan, and applies it once it is believed.

Gateways have no Postgres, and need none. What a scan means is `comparing`'s, when it is believed is `patience`'s, how it is
written `discovery`'s. A scan that could not be taken in is not asked for again: the next one says the same.
"""

import asyncio
from dataclasses import dataclass, field

import grpc
import psycopg

from hcp_pipelines.devices.discovery.found import Scan
from hcp_pipelines.domain.errors import HcpError, StorageError
from hcp_pipelines.fleet import metrics
from hcp_pipelines.fleet.discovery import apply_scan, believed, preview_scan
from hcp_pipelines.fleet.discovery_rules import DiscoveryRules
from hcp_pipelines.fleet.findings import record_believed, record_differences, record_held
from hcp_pipelines.fleet.gateway_scans import GatewayScans, ScanReplyError
from hcp_pipelines.fleet.patience import Patience
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.wire.channels import client_tls

LOOK_EACH_S = 2.0
SILENT_AFTER_S = 60.0  # a gateway that is being restarted is away for some seconds
_FOLLOWED = """
    select f.id, f.document -> 'discovery', e.address, e.gateway
    from facilities f join gateway_endpoints e on e.facility_id = f.id
    where jsonb_typeof(f.document -> 'discovery') = 'object' order by f.id"""


@dataclass
class Followed:
    """One facility whose gateway scans."""

    facility_id: str
    gateway: str
    rules: DiscoveryRules
    scans: GatewayScans
    patience: Patience = field(default_factory=Patience)
    held: str = ""  # what of the last scan was not believed
    heard_at_s: float = 0.0


async def run_fleet(context: ProcessContext) -> None:
    """Follow until told to stop."""
    follower = Follower(context)
    context.ready()
    while not context.stop.is_set():
        await follower.look()
        try:
            await asyncio.wait_for(context.stop.wait(), LOOK_EACH_S)
        except TimeoutError:
            continue
    await follower.close()


class Follower:
    """All facilities with discovery."""

    def __init__(self, context: ProcessContext) -> None:
        self._context, self._settings = context, context.settings
        self._followed: dict[str, Followed] = {}

    async def look(self) -> None:
        """Take in every scan that is new; what goes wrong at one facility, or with Postgres, is told by /healthz."""
        try:
            await self._read_facilities()
        except (psycopg.Error, StorageError) as error:
            self._context.health["postgres"] = str(error).strip()
            return
        self._context.health["postgres"] = ""
        problems = await asyncio.gather(*(self._problem_of(one) for one in self._followed.values()))
        self._context.health |= dict(zip(self._followed, problems, strict=True))

    async def close(self) -> None:
        """Let go of the gateways."""
        for one in self._followed.values():
            await one.scans.close()

    async def _read_facilities(self) -> None:
        rows = await asyncio.to_thread(_read_followed, self._settings)
        before, self._followed = self._followed, {}
        for facility_id, rules, address, gateway in rows:
            one = before.pop(facility_id, None)
            if one is None or one.scans.address != address:
                now_s = self._context.clock.monotonic_s()
                scans = GatewayScans(facility_id, address, client_tls(self._settings, "reader"))
                fresh = Followed(facility_id, gateway, rules, scans, heard_at_s=now_s)
                if one is not None:
                    before[facility_id], fresh.patience = one, one.patience
                one = fresh
            one.rules, one.gateway = rules, gateway
            self._followed[facility_id] = one
        for gone in before.values():
            await gone.scans.close()
            self._context.health.pop(gone.facility_id, None)

    async def _problem_of(self, one: Followed) -> str:
        """Take in one facility's newest scan; what is wrong there."""
        try:
            await self._follow(one)
        except (grpc.aio.AioRpcError, ScanReplyError) as error:
            silent_s = self._context.clock.monotonic_s() - one.heard_at_s
            is_brief = isinstance(error, grpc.aio.AioRpcError) and silent_s < SILENT_AFTER_S
            return "" if is_brief else f"{one.gateway} can't be asked for its scan: {_said(error)}"
        except (psycopg.Error, HcpError) as error:
            return str(error).strip()
        except Exception as defect:  # at one facility: the others are followed all the same
            self._context.log.error("a defect", facility_id=one.facility_id, exc_info=defect)
            return f"defect: {defect!r}"
        return ""

    async def _follow(self, one: Followed) -> None:
        scan = await one.scans.read_newest()
        one.heard_at_s = self._context.clock.monotonic_s()
        if scan is not None:
            metrics.SCANNED_AT.labels(one.facility_id).set(self._context.clock.real_now().timestamp())
            metrics.SCANS.labels(one.facility_id, await asyncio.to_thread(self._take, one, scan)).inc()

    def _take(self, one: Followed, scan: Scan) -> str:
        """What became of a scan."""
        with connect(self._settings, Role.FLEET) as connection:
            found = preview_scan(connection, one.facility_id, scan)
            verdict = one.patience.judge(found, len(scan.found), one.rules)
            self._tell_held(connection, one, verdict.held, found.conflict)
            if verdict.held:
                return "held"
            if not one.rules.apply:
                seen = believed(found, verdict.gone.__contains__)
                is_new = record_differences(connection, one.facility_id, one.gateway, seen)
                return "recorded" if is_new else "unchanged"
            if not believed(found, verdict.gone.__contains__).changes:
                return "unchanged"
            return self._apply(connection, one, scan, verdict.gone)

    def _tell_held(self, connection: psycopg.Connection, one: Followed, whole: str, conflict: str) -> None:
        """Say once that a scan, or a move in it, is not believed, and once that it is again."""
        before, one.held = one.held, "scan" if whole else conflict
        if one.held == before:
            return
        if one.held:
            record_held(connection, one.facility_id, one.gateway, whole or conflict)
            self._context.log.warning("scan held", facility_id=one.facility_id, why=whole or conflict)
        else:
            record_believed(connection, one.facility_id, one.gateway)

    def _apply(self, connection: psycopg.Connection, one: Followed, scan: Scan, gone: frozenset[int]) -> str:
        done = apply_scan(connection, one.facility_id, scan, one.gateway, gone.__contains__)
        for change in done.reconciliation.changes:
            metrics.CHANGES.labels(change.kind.value).inc()
        self._context.log.info(
            "scan applied",
            facility_id=one.facility_id,
            changes=done.reconciliation.summary,
            unplaced=len(done.reconciliation.unplaced),
            generation=done.generation,
        )
        return "applied" if done.changed else "unchanged"


def _read_followed(settings: Settings) -> list[tuple[str, DiscoveryRules, str, str]]:
    with connect(settings, Role.FLEET) as connection:
        rows = connection.execute(_FOLLOWED).fetchall()
    return [(fid, DiscoveryRules.model_validate(rules), address, gateway) for fid, rules, address, gateway in rows]


def _said(error: Exception) -> str:
    return str(error.details()) if isinstance(error, grpc.aio.AioRpcError) else str(error)
