"""How much telemetry comes into the lake, and how far behind it is: what `hcp status` shows."""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from hcp_pipelines.wire.telemetry import Sample

OVER_S = 60.0


class Rates:
    """Noted by the writer's thread, read by others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: deque[tuple[float, int]] = deque()
        self._rows = 0
        self._newest_us = 0

    def note(self, samples: Sequence[Sample], now_s: float) -> None:
        """These are in the lake since now."""
        rows = sum(sample.devices for sample in samples)
        with self._lock:
            self._rows += rows
            self._batches.append((now_s, rows))
            self._newest_us = max([self._newest_us, *(sample.sampled_at_us for sample in samples)])

    def seen(self, real_s: float, now_s: float) -> dict[str, Any]:
        """Rows in all, rows a second of the last minute, and the newest sample's age; None before the first."""
        with self._lock:
            while self._batches and self._batches[0][0] < now_s - OVER_S:
                self._batches.popleft()
            over_s = now_s - self._batches[0][0] if len(self._batches) > 1 else 0.0
            rows = sum(count for _, count in list(self._batches)[1:])
            lag_s = real_s - self._newest_us / 1e6 if self._newest_us else None
            return {
                "rows": self._rows,
                "rows_per_s": round(rows / over_s, 1) if over_s else None,
                "lag_s": round(lag_s, 1) if lag_s is not None else None,
            }
