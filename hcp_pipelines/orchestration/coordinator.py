"""The run coordinator: tick runs start at once, everything else waits its turn in Dagster's queue.

Named in `dagster.yaml`. The queue is drained by the Dagster daemon every few seconds, which a policy can't wait for.
"""

from collections.abc import Mapping
from typing import Any, Self

from dagster import DagsterRun, DagsterRunStatus
from dagster._core.instance import DagsterInstance
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._serdes import ConfigurableClassData

from hcp_pipelines.orchestration.requests import KIND_TAG, KIND_TICK, TICK_JOB


def is_tick(run: DagsterRun) -> bool:
    """Whether it is a tick's. Tags are whoever's that launches a run: a back-test tagged as a tick's waits as others do."""
    return run.job_name == TICK_JOB and run.tags.get(KIND_TAG) == KIND_TICK


class TickFirstCoordinator(QueuedRunCoordinator[DagsterInstance]):
    """QueuedRunCoordinator, but runs of the tick's job skip the queue and its limits."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Build it from the `run_coordinator.config` of dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Launch a tick run now; enqueue any other. The run as recorded afterwards."""
        run = context.dagster_run
        if is_tick(run) and run.status is DagsterRunStatus.NOT_STARTED:
            return self._instance.launch_run(run.run_id, context.workspace)
        return super().submit_run(context)
