"""What a forked child of the run server does: executes one run as `dagster api execute_run` would.

The only use of Dagster's inner API on the execution path; everything it needs is imported by the parent.
"""

import ctypes
import logging
import os
import signal
import sys

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._grpc.impl import core_execute_run
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster._utils.interrupts import capture_interrupts

STATEMENT_TIMEOUT_MS = 60_000
POOL_RECYCLE_S = 3600
POOL_MAX_OVERFLOW = 8
_PR_SET_PDEATHSIG = 1
_log = logging.getLogger("hcp.run_child")


def run_in_child(instance: dg.DagsterInstance, run_id: str, parent: int) -> int:
    """Execute one run in this freshly forked process; its exit code, 0 also for a run that failed in good order."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        return 1
    signal.set_wakeup_fd(-1)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        execute(instance, run_id)
    except BaseException:  # noqa: BLE001 - the last frame of this process; Dagster has recorded the failure
        _log.exception("run %s failed", run_id)
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def execute(instance: dg.DagsterInstance, run_id: str) -> None:
    """Execute a launched run in this process.

    Raises:
        RuntimeError: the run is not recorded, or has no origin.
    """
    with capture_interrupts():
        pool_connections(instance)
        run = instance.get_run_by_id(run_id)
        if run is None or run.job_code_origin is None:
            raise RuntimeError(f"run {run_id} is unknown or has no origin: launch it through Dagster")
        instance.report_engine_event(
            f"Warm process {os.getpid()} executes the run.", run, EngineEventData.in_process(os.getpid())
        )
        job = recon_job_from_origin(run.job_code_origin)
        for _ in core_execute_run(job, run, instance, inject_env_vars=False):
            pass


def pool_connections(instance: dg.DagsterInstance) -> None:
    """Let this process keep its connections, as the webserver does: by default dagster-postgres opens one a query."""
    instance.optimize_for_webserver(
        statement_timeout=STATEMENT_TIMEOUT_MS, pool_recycle=POOL_RECYCLE_S, max_overflow=POOL_MAX_OVERFLOW
    )
