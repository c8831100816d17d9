"""Which scenarios the simulated world has, by the names of their files: asked before anything is started.

What is in a file is the world's own matter; it is asked once its configuration is written (`configuration`).
"""

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.spelling import nearest
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor.processes import ROOT

FOLDER = ROOT / "simulators" / "scenarios"


def refuse_unknown_scenario(settings: Settings) -> None:
    """Look whether the world has the scenario.

    Raises:
        ConfigError: it has not; the message names those there are.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if settings.world == "real" or settings.scenario in known:
        return
    near = nearest(settings.scenario, known)
    meant = f"did you mean {near}? " if near else ""
    raise ConfigError(f"scenario {settings.scenario!r} is unknown; {meant}there are {', '.join(known)} (docs/world.md)")
