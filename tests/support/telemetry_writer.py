"""Writes telemetry as a collector does, from where the lake says it is, until it is killed. Run as a process, by a test."""

import sys
from pathlib import Path

from hcp_pipelines.collector.telemetry.store import TelemetryStore
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.settings import Settings
from tests.support.telemetry import sample


def main() -> None:
    store = TelemetryStore(Settings(state_dir=Path(sys.argv[1])), SystemClock())
    seq = store.stored.get("one", 0)
    while True:
        store.write([sample(n) for n in range(max(seq - 2, 1), seq + 4)])  # some of before, as a gateway sends again
        seq += 3
        sys.stdout.write(f"{seq}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
