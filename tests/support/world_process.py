"""A world as a process of its own, with one service on the network: started, found by its ready file, ended by a signal."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


class WorldProcess:
    def __init__(self, folder, speed, site, protocols):
        self.folder = folder
        anchor = {"real_at": datetime.now(UTC).isoformat(), "simulated_at": "2025-01-01T00:00:00+00:00", "speed": speed}
        (folder / "clock.json").write_text(json.dumps(anchor))
        files = {"anchor": "clock.json", "bulk_socket": "b.sock", "ready_file": "world.json"}
        logs = {"transition_log": "transitions.jsonl", "exogenous_log": "exogenous.jsonl"}
        paths = {key: str(folder / name) for key, name in (files | logs).items()}
        document = {"version": 1, "sites": [site], "protocols": protocols, **paths}
        (folder / "world.yaml").write_text(yaml.safe_dump(document))

    def start(self):
        """Where it answers, by name."""
        ready = self.folder / "world.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "simulators", "--config", str(self.folder / "world.yaml")]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while not ready.exists():
            assert self.process.poll() is None, "the world died at start"
            assert time.monotonic() < until, "the world did not get ready"
            time.sleep(0.02)
        return json.loads(ready.read_text())["urls"]

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(timeout=60)
