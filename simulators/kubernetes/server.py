"""A cluster's API server over TLS on 127.0.0.1, and its controllers, which look at the clock fifty times a second."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import uvicorn

from simulators.embedded_http import EmbeddedServer
from simulators.kubernetes.api import KubeApi
from simulators.kubernetes.cluster import Cluster, KubeHost, SetState
from simulators.kubernetes.store import Store
from simulators.kubernetes.troubles import Troubles
from simulators.listeners import bound

LOOK_EACH_S = 0.02  # real


class KubernetesServer:
    """Answers until stopped."""

    def __init__(
        self, hosts: list[KubeHost], certificate: Path, key: Path, *, now_s: Callable[[], float], set_state: SetState,
        namespace: str = "hcp", seed: int = 7,
    ) -> None:  # fmt: skip
        """`set_state` lets a board of a node's address do what a pod does there."""
        self.troubles, self.store = Troubles(), Store()
        self.cluster = Cluster(hosts, self.store, self.troubles, seed, set_state)
        self.api = KubeApi(self.cluster, namespace, now_s)
        self._now_s = now_s
        self._socket = bound("127.0.0.1", 0)
        self._server = EmbeddedServer(
            uvicorn.Config(
                self.api.app(), ssl_certfile=certificate, ssl_keyfile=key, http="h11", ws="none", lifespan="off",
                log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=1,
            )
        )  # fmt: skip
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"https://127.0.0.1:{self._socket.getsockname()[1]}"

    async def start(self) -> None:
        """Answer from now on."""
        self._tasks = [asyncio.create_task(self._server.serve(sockets=[self._socket]))]
        await self._server.is_up.wait()
        self._tasks.append(asyncio.create_task(self._control()))

    async def stop(self) -> None:
        """Close the port; idempotent."""
        self._server.should_exit = True
        serving, controlling = self._tasks or (None, None)
        if controlling is not None and serving is not None:
            controlling.cancel()
            await serving
        self._tasks = []
        self._socket.close()

    async def _control(self) -> None:
        while True:
            self.cluster.advance(self._now_s())
            await asyncio.sleep(LOOK_EACH_S)
