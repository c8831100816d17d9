"""`python -m hcp_pipelines.edge --config site.yaml`: a gateway process."""

import argparse
import asyncio
import contextlib
import socket
import sys
from pathlib import Path

import grpc

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.errors import AlreadyRunningError, HcpError
from hcp_pipelines.edge.admittance import bind
from hcp_pipelines.edge.compaction import keep_short
from hcp_pipelines.edge.config import EdgeConfig, load_edge_config
from hcp_pipelines.edge.discovery import Discovery
from hcp_pipelines.edge.durable_log import DurableLog, open_ahead, take_over
from hcp_pipelines.edge.facility import FacilityGateway
from hcp_pipelines.edge.operators import Operators
from hcp_pipelines.edge.service import EdgeService
from hcp_pipelines.edge.telemetry.sampler import new_worker, samplers_of
from hcp_pipelines.edge.telemetry.service import TelemetryService
from hcp_pipelines.runtime.process import ProcessContext, run_process
from hcp_pipelines.settings import Settings
from hcp_pipelines.wire import edge_v1_pb2_grpc
from hcp_pipelines.wire.channels import LIMITS

OPTIONS = (
    *LIMITS,
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
)
RPCS_MAX = 1_000  # at once, sessions counted: a facility has one of those, and some more while it changes hands


async def body(context: ProcessContext, config: EdgeConfig) -> None:
    """Serve until told to stop."""
    clock = SystemClock(Anchor.load(config.anchor)) if config.anchor else SystemClock()
    config.check_speed(clock.speed)
    ahead = open_ahead(config.state_dir, config.gateway)
    logs = {f.facility_id: DurableLog(config.state_dir / f.facility_id, ahead) for f in config.facilities}
    await take_over(config.state_dir, config.gateway, ahead, logs.values())
    facilities = {
        f.facility_id: FacilityGateway(f, logs[f.facility_id], clock, config.power_period_ms) for f in config.facilities
    }
    discoveries = {
        f.facility_id: Discovery(f, f.discovery, clock, facilities[f.facility_id].is_telling)
        for f in config.facilities
        if f.discovery is not None
    }
    worker = new_worker()
    samplers = samplers_of(config, facilities, clock, worker)
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=RPCS_MAX)
    edge_v1_pb2_grpc.add_EdgeGatewayServicer_to_server(
        EdgeService(facilities, discoveries, Operators(config.operators_file, clock)), server
    )
    TelemetryService(samplers, clock).add_to(server)
    _remove_stale_socket(config.listen)
    port = bind(server, config)
    await server.start()
    if config.listen.startswith("unix:"):
        Path(config.listen.removeprefix("unix:")).chmod(0o600)  # noqa: ASYNC240 - one call, before the first session
    async with asyncio.TaskGroup() as tasks:
        for facility in facilities.values():
            tasks.create_task(facility.run(context.stop))
        for name, facility in facilities.items():
            tasks.create_task(keep_short(facility, logs[name], config.log, context.stop))
        for discovery in discoveries.values():
            tasks.create_task(discovery.run(context.stop))
        apart_s = config.telemetry.every_s / max(
            len(samplers), 1
        )  # one after the other: commands wait for none of them long
        sampling = [tasks.create_task(s.run(n * apart_s)) for n, s in enumerate(samplers.values())]
        tasks.create_task(_watch_health(context, facilities, discoveries))
        context.ready(grpc=_address(config.listen, port))
        await context.stop.wait()
        for task in sampling:
            task.cancel()
        await server.stop(1.0)
    worker.shutdown(wait=False)
    for facility in facilities.values():
        await facility.close()
    await ahead.close()


async def _watch_health(
    context: ProcessContext, facilities: dict[str, FacilityGateway], discoveries: dict[str, Discovery]
) -> None:
    while not context.stop.is_set():
        context.health |= {name: facility.problem for name, facility in facilities.items()}
        context.health |= {f"{name} discovery": discovery.problem for name, discovery in discoveries.items()}
        await asyncio.sleep(0.2)


def _address(listen: str, port: int) -> str:
    """Where it listens, with the port that was chosen."""
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"


def _remove_stale_socket(listen: str) -> None:
    """Remove the socket file of a dead gateway; one that answers is somebody else's."""
    if not listen.startswith("unix:"):
        return
    path = Path(listen.removeprefix("unix:"))
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        raise AlreadyRunningError(f"listen: another gateway answers on {listen}; give each its own socket")
    path.unlink(missing_ok=True)


def run(path: Path, settings: Settings) -> int:
    """Run a gateway by its file until it is told to stop; its exit code.

    Raises:
        ConfigError: the file is wrong.
    """
    config = load_edge_config(path)
    return run_process(config.gateway, settings, lambda context: body(context, config))


def main() -> int:
    """Run a gateway; 2 when its file is wrong."""
    parser = argparse.ArgumentParser(prog="python -m hcp_pipelines.edge")
    parser.add_argument("--config", type=Path, required=True, help="docs/edge-site-file.md")
    try:
        return run(parser.parse_args().config, Settings.load())
    except HcpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
