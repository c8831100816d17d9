"""Keeps a facility's log short: a new file with a snapshot when the old one is long, and old files deleted when they may be.

They may be once the owner's journal has all of their entries, and they are older or more than the gateway's file says.
"""

import asyncio

import structlog

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.config import LogConfig
from hcp_pipelines.edge.durable_log import DurableLog
from hcp_pipelines.edge.facility import FacilityGateway

LOOK_EACH_S = 5.0
_MB = 1024 * 1024


async def keep_short(facility: FacilityGateway, log: DurableLog, config: LogConfig, stop: asyncio.Event) -> None:
    """Look on and on, until told to stop."""
    while not stop.is_set():
        try:
            await shorten(facility, log, config)
        except (StorageError, OSError) as error:
            structlog.get_logger("edge").error("a log could not be shortened; tried again", error=str(error))
        try:
            async with asyncio.timeout(LOOK_EACH_S):
                await stop.wait()
        except TimeoutError:
            continue


async def shorten(facility: FacilityGateway, log: DurableLog, config: LogConfig) -> None:
    """Begin a new file if it is time, delete what may go.

    Raises:
        StorageError: the disk refused a new file.
    """
    if log.active_bytes > config.file_mb * _MB:
        async with facility.quiet() as is_quiet:
            if is_quiet:
                await log.roll("snapshot", facility.snapshot().SerializeToString())
    dropped = log.drop(facility.owners.journalled_seq, int(config.keep_mb * _MB), config.keep_h * 3600)
    if dropped:
        structlog.get_logger("edge").info("old log files deleted", path=str(log), files=dropped)
    metrics.LOG_BYTES.labels(facility.shape.facility_id).set(log.size_bytes)
