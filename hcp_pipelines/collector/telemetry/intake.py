"""What has come from the gateways and is not stored yet: between the loop that receives it and the thread that writes it.

It is bounded by the streams' windows: a gateway sends no more than its window before it is told that something is stored.
"""

import threading
from collections.abc import Iterable

from hcp_pipelines.wire.telemetry import Sample


class Intake:
    """Samples in the order in which they came."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._samples: list[Sample] = []
        self._rows = 0
        self._is_closed = False

    def put(self, sample: Sample) -> None:
        """One more."""
        with self._changed:
            self._samples.append(sample)
            self._rows += sample.devices
            self._changed.notify()

    def close(self) -> None:
        """Whoever waits waits no more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def wait(self, rows: int, within_s: float) -> None:
        """Return once so many rows are there, or the time is over, or it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._rows >= rows or self._is_closed, timeout=within_s)

    def take(self) -> list[Sample]:
        """All that is there."""
        with self._changed:
            taken, self._samples, self._rows = self._samples, [], 0
        return taken


def without_known(samples: Iterable[Sample], stored: dict[str, int]) -> list[Sample]:
    """Those that are not stored yet, each once: what a gateway sends again is told by its number."""
    newest, fresh = dict(stored), []
    for sample in samples:
        if sample.seq > newest.get(sample.facility_id, 0):
            newest[sample.facility_id] = sample.seq
            fresh.append(sample)
    return fresh
