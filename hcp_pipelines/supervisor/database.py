"""The embedded PostgreSQL as a supervised process."""

import signal

import httpx
import psycopg

from hcp_pipelines.settings import Settings, child_environment
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.supervisor.child import ProcessSpec
from hcp_pipelines.supervisor.processes import ROOT


def postgres_spec(settings: Settings) -> ProcessSpec:
    """PostgreSQL as our own child: prepared here, spawned at each start, stopped by SIGINT (fast shutdown)."""
    server = EmbeddedPostgres(settings)
    server.prepare()

    async def answers(_: httpx.AsyncClient) -> str:
        try:
            async with await psycopg.AsyncConnection.connect(server.admin_dsn(), connect_timeout=2):
                return ""
        except psycopg.Error as error:
            return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)

    return ProcessSpec(
        name="postgres",
        argv=(),
        env=child_environment(settings),
        cwd=ROOT,
        probe=answers,
        stop_signal=signal.SIGINT,
        death_signal=signal.SIGINT,
        stop_grace_s=30.0,
        spawn=server.spawn,
    )
