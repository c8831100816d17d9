"""What runs: the argv, environment, order and readiness of every process. Starting them is `platform.py`'s work."""

import sys
from pathlib import Path

from hcp_pipelines.settings import Settings, child_environment
from hcp_pipelines.supervisor.child import ProcessSpec

ROOT = Path(__file__).resolve().parents[2]
ALLOCATORS = ("allocator-a", "allocator-b")
FLEET = "fleet"
API = "api"
SCHEDULER = "scheduler"
BEHIND_SWITCHING = 10  # niceness of what may wait: a tick is decided and switched first, also on two busy cores


def python_process(
    settings: Settings, name: str, module: str, *arguments: str, after: tuple[str, ...] = (), nice: int = 0
) -> ProcessSpec:
    """One of our own daemons: it writes `run/NAME.json` when ready."""
    return ProcessSpec(
        name=name,
        argv=(sys.executable, "-m", module, *arguments),
        env=child_environment(settings, HCP_PROCESS_NAME=name, PYTHONUNBUFFERED="1"),
        cwd=ROOT,
        ready_file=settings.at("run", f"{name}.json"),
        after=after,
        nice=nice,
    )


def gateway_names(settings: Settings) -> list[str]:
    """Names of the gateway processes."""
    return [f"gateway-{n + 1}" for n in range(min(settings.gateways, settings.facilities))]


def world_spec(settings: Settings) -> ProcessSpec:
    """The simulated outside world."""
    config = str(settings.at("world", "world.yaml"))
    return python_process(settings, "world", "simulators", "--config", config, nice=BEHIND_SWITCHING)


def fleet_spec(settings: Settings) -> ProcessSpec:
    """Whoever takes in what gateways discover; only where a facility has discovery."""
    return python_process(settings, FLEET, "hcp_pipelines.fleet", after=("postgres",), nice=BEHIND_SWITCHING)


def api_spec(settings: Settings) -> ProcessSpec:
    """The HTTP API; only where HCP_API is on."""
    return python_process(settings, API, "hcp_pipelines.api", after=("postgres",), nice=BEHIND_SWITCHING)


def scheduler_spec(settings: Settings) -> ProcessSpec:
    """Whoever gives customers' work its devices; only where HCP_SCHEDULER is on."""
    return python_process(
        settings, SCHEDULER, "hcp_pipelines.workloads.scheduler", after=("postgres",), nice=BEHIND_SWITCHING
    )


def daemon_specs(settings: Settings, gateways: list[str]) -> list[ProcessSpec]:
    """Gateways, feed, allocators, collector: everything of ours but Dagster's part."""
    before = () if settings.world == "real" else ("world",)
    specs = [
        python_process(
            settings, name, "hcp_pipelines.edge", "--config", str(settings.at("edge", f"{name}.yaml")), after=before
        )
        for name in gateways
    ]
    specs.append(python_process(settings, "feed", "hcp_pipelines.feed", after=(*before, "postgres")))
    specs += [
        python_process(settings, name, "hcp_pipelines.allocator", "--name", name, after=("postgres", *gateways))
        for name in ALLOCATORS
    ]
    specs.append(
        python_process(settings, "collector", "hcp_pipelines.collector", after=("postgres",), nice=BEHIND_SWITCHING)
    )
    specs.append(python_process(settings, "alerts", "hcp_pipelines.alerts", after=("postgres",), nice=BEHIND_SWITCHING))
    if settings.api == "on":
        specs.append(api_spec(settings))
    if settings.scheduler == "on":
        specs.append(scheduler_spec(settings))
    return specs
