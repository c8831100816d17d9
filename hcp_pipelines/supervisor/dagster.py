"""Dagster's processes as supervised ones, in two parts: what may load before the world's clock starts, and what follows it."""

from hcp_pipelines.orchestration import instance
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor.child import ProcessSpec
from hcp_pipelines.supervisor.processes import BEHIND_SWITCHING, ROOT

FOLLOWS_THE_CLOCK = (instance.DAEMON, instance.LAUNCHER)


def prepare_dagster(settings: Settings) -> None:
    """Write DAGSTER_HOME and parse the dbt project where its models are newer than the manifest."""
    instance.prepare(settings)


def dagster_specs(settings: Settings) -> tuple[list[ProcessSpec], list[ProcessSpec]]:
    """(code servers, run server, webserver), (daemon, launcher)."""
    specs = [
        ProcessSpec(
            name=process.name,
            argv=process.argv,
            env=process.env,
            cwd=ROOT,
            ready_file=None if process.probe else settings.at("run", f"{process.name}.json"),
            probe=process.probe,
            after=process.after,
            stop_grace_s=20.0,
            nice=BEHIND_SWITCHING,
        )
        for process in instance.process_commands(settings)
    ]
    return [s for s in specs if s.name not in FOLLOWS_THE_CLOCK], [s for s in specs if s.name in FOLLOWS_THE_CLOCK]
