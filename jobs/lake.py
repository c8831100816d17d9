"""The job that keeps the lake's files and snapshots few, and when."""

import dagster as dg

from hcp_pipelines.collector.upkeep import Done, keep_up
from hcp_pipelines.orchestration.resources import Platform
from jobs.regular import regular


@dg.op
def keep_lake_small(context: dg.OpExecutionContext, platform: Platform) -> None:
    """Write out inlined rows, merge small files, expire snapshots and remove files that nobody can need any more."""
    done = keep_up(platform.settings())
    context.add_output_metadata(_metadata(done))
    for step, error in done.failed.items():
        context.log.warning("%s failed and comes again with the next run: %s", step, error)
    if len(done.failed) == len(done.took_s):
        raise dg.Failure("no step of the lake's maintenance worked", metadata=dict(done.failed))


def _metadata(done: Done) -> dict[str, float | int | str]:
    states = (("before", done.before), ("after", done.after))
    found: dict[str, float | int | str] = {
        f"{what}_{when}": getattr(state, what) for when, state in states for what in ("files", "bytes", "snapshots")
    }
    return found | {f"{step}_s": seconds for step, seconds in done.took_s.items()} | done.failed


@dg.job(tags={"hcp/kind": "housekeeping"}, executor_def=dg.in_process_executor)
def lake_maintenance_job() -> None:
    """Keep the lake's files and snapshots few, while everybody writes and reads."""
    keep_lake_small()


lake_maintenance_schedule = regular(
    lake_maintenance_job, "*/10 * * * *", "Every ten minutes: small files are merged, old snapshots and files go."
)
