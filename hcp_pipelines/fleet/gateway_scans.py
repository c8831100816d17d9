"""A gateway's newest scan, read over gRPC into plain values. Nothing is believed here."""

from dataclasses import dataclass, field

import grpc

from hcp_pipelines.devices.discovery.found import Found, Scan
from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.devices.gpu_node.values import GpuSpecification
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.channels import ClientTls, open_channel
from hcp_pipelines.wire.edge_v1_pb2_grpc import EdgeGatewayStub

READ_WITHIN_S = 20.0
DEVICES_MAX = 1_000_000
OPTIONS = (("grpc.max_reconnect_backoff_ms", 1000),)


class ScanReplyError(Exception):
    """What a gateway sends is no scan."""


@dataclass
class GatewayScans:
    """One facility's scans at its gateway; each is read once."""

    facility_id: str
    address: str
    tls: ClientTls | None = None
    _channel: grpc.aio.Channel | None = field(default=None, repr=False)
    _process_id: str = ""
    _number: int = 0

    async def read_newest(self) -> Scan | None:
        """The newest scan; None if there is none since the last time.

        Raises:
            grpc.aio.AioRpcError: the gateway can't be asked.
            ScanReplyError: its answer makes no sense.
            ConfigError: its address asks for certificates, and ours can't be used.
        """
        if self._channel is None:
            self._channel = open_channel(self.address, self.tls, OPTIONS)
        request = pb.ReadDiscoveryRequest(
            facility_id=self.facility_id, after_scan=self._number, process_id=self._process_id
        )
        parts: list[pb.DiscoveryPart] = []
        devices = 0
        async for part in EdgeGatewayStub(self._channel).ReadDiscovery(request, timeout=READ_WITHIN_S):
            parts.append(part)
            devices += len(part.found)
            if devices > DEVICES_MAX:
                raise ScanReplyError(f"{self.facility_id}: a scan of more than {DEVICES_MAX} devices")
        if not parts:
            return None
        scan = scan_of(parts)
        self._process_id, self._number = parts[0].process_id, parts[0].scan
        return scan

    async def close(self) -> None:
        """Let go of the connection; idempotent."""
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None


def scan_of(parts: list[pb.DiscoveryPart]) -> Scan:
    """A whole scan from its parts.

    Raises:
        ScanReplyError: the last is missing, two scans are mixed, or a range is none.
    """
    first = parts[0]
    if not parts[-1].is_last or len({(part.process_id, part.scan) for part in parts}) != 1:
        raise ScanReplyError(f"scan {first.scan} of {first.process_id} did not come whole")
    try:
        addresses, hung = expand(first.scanned), expand(first.hung)
    except ValueError as error:
        raise ScanReplyError(f"scan {first.scan} of {first.process_id}: {error}") from None
    return Scan(addresses, [_found(one) for part in parts for one in part.found], hung)


def _found(said: pb.FoundDevice) -> Found:
    board = GpuSpecification(said.model, said.memory_gb, said.compute_capability, said.max_power_w, 0.0)
    return Found(
        address=said.address,
        dialect=said.dialect,
        model=said.model,
        firmware=said.firmware,
        mac=said.mac,
        serial=said.serial,
        problem=said.problem,
        boards=tuple(said.boards),
        specification=board if said.boards else None,
    )
