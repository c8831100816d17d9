"""What gateways wrote down of switches of what ran, into the lake: `raw.gateway_switches`, a row a switch that is over.

Read from each gateway's durable log (`ReadLog`), behind the newest entry that the lake has; off unless HCP_SWITCH_LOG=on. Entries
that a gateway compacted before they were asked for are lost here, and in no bill or decision.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import duckdb
import grpc
import psycopg
import pyarrow as pa

from hcp_pipelines.collector.columns import GATEWAY_SWITCHES, arrow_schema
from hcp_pipelines.collector.telemetry.inventory import Endpoint, read_endpoints
from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.lake_tables import make
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.channels import client_tls, open_channel
from hcp_pipelines.wire.edge_v1_pb2_grpc import EdgeGatewayStub
from hcp_pipelines.wire.slots import decode_slots

TABLE = "raw.gateway_switches"
EACH_S, BEGIN_EACH_S = 30.0, 0.5
WITHIN_S = 20.0  # of one gateway
SLOTS_MAX = 1_000_000
PHASES = ("pause", "checkpoint", "switch", "start")
SCHEMA: Any = arrow_schema(GATEWAY_SWITCHES)
_LAST = f"select facility_id, max(seq) from lake.{TABLE} group by 1"  # noqa: S608 - our constant
Row = dict[str, Any]


class SwitchLog:
    """`run` until the context's stop."""

    def __init__(
        self, context: ProcessContext, each_s: float = EACH_S, may_begin: Callable[[], bool] = lambda: True
    ) -> None:
        self._context, self._each_s, self._may_begin = context, each_s, may_begin
        self._read: dict[str, int] | None = None

    async def run(self) -> None:
        """Read and write, a round each `each_s` real seconds; a gateway that is away is asked again in the next."""
        stop = self._context.stop
        while not stop.is_set():
            begins = (
                self._read is not None or self._may_begin()
            )  # who sets the lake's tables up at once is refused by it
            if begins:
                self._context.health["switch log"] = await self._round()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._each_s if begins else BEGIN_EACH_S)

    async def _round(self) -> str:
        """What went wrong; empty where nothing did."""
        settings, problems = self._context.settings, []
        try:
            if self._read is None:
                self._read = await asyncio.to_thread(_prepare, settings)
            endpoints = await asyncio.to_thread(read_endpoints, settings)
        except (psycopg.Error, StorageError) as error:
            return str(error).strip()
        for endpoint in endpoints:
            try:
                async with asyncio.timeout(WITHIN_S):
                    await self._copy(endpoint, self._read)
            except (grpc.RpcError, ConfigError, StorageError, TimeoutError) as error:
                problems.append(f"{endpoint.facility_id}: {_said(error)}")
        return "; ".join(problems)

    async def _copy(self, endpoint: Endpoint, read: dict[str, int]) -> None:
        """One facility's entries behind those that were read; a log that begins anew is read from its beginning."""
        settings, facility_id = self._context.settings, endpoint.facility_id
        async with open_channel(endpoint.address, client_tls(settings, "collector")) as channel:
            stub = EdgeGatewayStub(channel)
            state = await stub.Read(pb.ReadRequest(facility_id=facility_id))
            after = read.get(facility_id, 0)
            after = after if after <= state.last_seq else 0
            while after < state.last_seq:
                entries = [
                    entry async for entry in stub.ReadLog(pb.ReadLogRequest(facility_id=facility_id, after_seq=after))
                ]
                rows = list(rows_of(facility_id, entries))
                if rows:
                    await asyncio.to_thread(_write, settings, rows)
                if not entries:
                    break
                after = read[facility_id] = entries[-1].seq


def rows_of(facility_id: str, entries: Sequence[pb.LogEntry]) -> Iterator[Row]:
    """A row (SCHEMA) of each switch that is over. A phase that was not needed is null."""
    for entry in entries:
        if entry.kind != "switch":
            continue
        switch = pb.Switch.FromString(entry.payload)
        if not switch.outcome:
            continue
        yield {
            "facility_id": facility_id, "seq": entry.seq, "command_id": switch.command_id, "assignment": switch.index,
            "node": switch.node, "devices": len(decode_slots(switch.slots, SLOTS_MAX)), "from_state": switch.from_state,
            "to_state": switch.to_state, "workload_id": switch.work.workload_id or None, "outcome": switch.outcome,
            "is_success": switch.success, "control_ms": switch.total_duration_ms, **_phases("control", switch.phases),
            **_phases("device", switch.device), "problem": switch.problem,
            "simulated_at": datetime.fromisoformat(switch.simulated_at), "stored_at": datetime.fromisoformat(entry.stored_at),
        }  # fmt: skip


def _phases(whose: str, phases: pb.SwitchPhases) -> dict[str, float | None]:
    return {
        f"{whose}_{name}_ms": getattr(phases, f"{name}_ms") if phases.HasField(f"{name}_ms") else None
        for name in PHASES
    }


def _prepare(settings: Settings) -> dict[str, int]:
    """The table, and the newest entry of each facility that is in it.

    Raises:
        StorageError: the lake is away or refuses.
    """
    try:
        with lake.attach(settings) as connection:
            make(connection, TABLE, SCHEMA)
            return dict(connection.execute(_LAST).fetchall())
    except duckdb.Error as error:
        raise StorageError(lake.without_secrets(error)) from None


def _write(settings: Settings, rows: Sequence[Row]) -> None:
    lake.write(settings, TABLE, pa.Table.from_pylist(list(rows), SCHEMA), uuid.uuid4().hex)


def _said(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
