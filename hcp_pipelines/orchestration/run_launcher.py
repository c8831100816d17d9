"""The run launcher: runs of the control location start in the warm fork server, all others as Dagster starts them.

With `SpreadingRunLauncher` the others start elsewhere, as Celery tasks or Kubernetes jobs: the run is what is spread, not its
steps, which hand frames to each other in memory.

Named in `dagster.yaml`; lives in the webserver and the Dagster daemon. When the run server is away the default way is
taken, which is slow but works. Unlike Dagster's own it can say whether a run's process lives, so that run monitoring
fails the dead ones.
"""

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import dagster as dg
import yaml
from dagster._config.config_schema import UserConfigSchema
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import ConfigurableClassData, deserialize_value

from hcp_pipelines.orchestration.requests import CONTROL_LOCATION
from hcp_pipelines.orchestration.sockets import ask

WORKER_TAG = "hcp/worker"
WARM = "warm"
ELSEWHERE = "elsewhere"
_log = logging.getLogger("hcp.run_launcher")


class WarmRunLauncher(DefaultRunLauncher):
    """DefaultRunLauncher with a warm way for the control location."""

    def __init__(self, socket: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._socket = Path(socket)
        super().__init__(inst_data=inst_data)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """`socket`: the run server's."""
        return {"socket": dg.Field(dg.StringSource)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Build it from the `run_launcher.config` of dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run: warm if it belongs to the control location and the run server answers."""
        run = context.dagster_run
        if location_of(run) == CONTROL_LOCATION and self._launch_warm(run):
            return
        super().launch_run(context)

    def _launch_warm(self, run: dg.DagsterRun) -> bool:
        self._instance.add_run_tags(run.run_id, {WORKER_TAG: WARM})
        try:
            return bool(ask(self._socket, {"op": "launch", "run_id": run.run_id})["ok"])
        except OSError as error:
            _log.warning("run server on %s is away (%r): run %s starts cold", self._socket, error, run.run_id)
            self._instance.add_run_tags(run.run_id, {WORKER_TAG: "cold"})
            return False

    def terminate(self, run_id: str) -> bool:
        """Interrupt the run's process; False if there is none."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        if not _is_warm(run):
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        try:
            return bool(ask(self._socket, {"op": "terminate", "run_id": run_id})["ok"])
        except OSError:
            return False

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: run monitoring asks us."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a started run is alive."""
        return self._warm_health(run) if _is_warm(run) else self._cold_health(run)

    def _warm_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        try:
            reply = ask(self._socket, {"op": "status", "run_id": run.run_id})
        except OSError as error:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"the run server died with its runs: {error!r}")
        status = reply.get("status")
        if status == "running":
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(reply["pid"]))
        if status == "exited":
            return CheckRunHealthResult(WorkerStatus.FAILED, f"its process ended with code {reply['code']}")
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the run server was restarted since")

    def _cold_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "finished, or its code server is not known")
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=5)
        except dg.DagsterError as error:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"its code server does not answer now: {error!r}")
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its code server no longer has a process for it")


class SpreadingRunLauncher(WarmRunLauncher):
    """The control location's runs here and warm, all others by a launcher that takes them to other machines."""

    def __init__(self, socket: str, elsewhere: dict[str, Any], inst_data: ConfigurableClassData | None = None) -> None:
        self._named = elsewhere
        super().__init__(socket, inst_data=inst_data)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """`socket`: the run server's; `elsewhere`: module, class and configuration of the other launcher."""
        return {"socket": dg.Field(dg.StringSource), "elsewhere": dg.Field(dict)}

    @cached_property
    def elsewhere(self) -> RunLauncher:
        """The other launcher; its configuration is resolved here, where the environment has its secrets."""
        named = self._named
        data = ConfigurableClassData(named["module"], named["class"], yaml.safe_dump(named["config"]))
        launcher: RunLauncher[Any] = data.rehydrate(as_type=RunLauncher)  # type: ignore[type-abstract]
        launcher.register_instance(self._instance)
        return launcher

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run, here or elsewhere."""
        run = context.dagster_run
        if location_of(run) == CONTROL_LOCATION:
            return super().launch_run(context)
        self._instance.add_run_tags(run.run_id, {WORKER_TAG: ELSEWHERE})
        return self.elsewhere.launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Interrupt the run, wherever it is."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or not _is_elsewhere(run):
            return super().terminate(run_id)
        self._instance.report_run_canceling(run)
        return self.elsewhere.terminate(run_id)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the run is worked on, as far as whoever started it knows."""
        return (
            self.elsewhere.check_run_worker_health(run) if _is_elsewhere(run) else super().check_run_worker_health(run)
        )


def location_of(run: dg.DagsterRun) -> str | None:
    """Name of the code location a run belongs to."""
    origin = run.remote_job_origin
    return origin.repository_origin.code_location_origin.location_name if origin else None


def _is_elsewhere(run: dg.DagsterRun) -> bool:
    return run.tags.get(WORKER_TAG) == ELSEWHERE


def _is_warm(run: dg.DagsterRun) -> bool:
    return run.tags.get(WORKER_TAG) == WARM
