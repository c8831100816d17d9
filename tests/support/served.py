"""A generated or replayed world served over HTTP to the platform of a test, at an instant that the test chooses."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime

import uvicorn

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.settings import Settings
from simulators.clock import ManualClock
from simulators.http import Services
from tests.contract.test_world_http import Well, world


@contextlib.contextmanager
def served_world(settings: Settings, now: datetime, **changes) -> Iterator[ManualClock]:
    """`run/world.json` and `run/clock.json` say where and when; both go with the world."""
    clock = ManualClock(now.timestamp())
    config = uvicorn.Config(Services(world(**changes), clock, Well()).app(), port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    run = settings.at("run")
    run.mkdir(parents=True, exist_ok=True)
    files = {
        run / "world.json": json.dumps({"urls": {"http": f"http://127.0.0.1:{port}"}}),
        run / "clock.json": Anchor(SystemClock().real_now(), now, 1e-6).dump(),
    }
    for path, text in files.items():
        path.write_text(text)
    try:
        yield clock
    finally:
        for path in files:
            path.unlink(missing_ok=True)
        server.should_exit = True
        thread.join(30)
