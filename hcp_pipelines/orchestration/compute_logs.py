"""Compute logs as plain files, without the two `tail` and two watcher processes that Dagster starts a step.

Those only repeat the output on the console, and cost a run 0.1 s and more of two cores. Named in `dagster.yaml`.
"""

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._serdes import ConfigurableClassData


class FileComputeLogManager(LocalComputeLogManager):
    """LocalComputeLogManager that redirects stdout and stderr instead of mirroring them."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "FileComputeLogManager":
        """Build it from the `compute_logs.config` of dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        """Send this process's stdout and stderr to the step's files while the context is open."""
        out = self._file(log_key, ComputeIOType.STDOUT)
        err = self._file(log_key, ComputeIOType.STDERR)
        with redirect_to_file(sys.stdout, str(out)), redirect_to_file(sys.stderr, str(err)):
            yield CapturedLogContext(log_key)
        Path(self.get_captured_local_path(log_key, "complete")).touch()

    def _file(self, log_key: Sequence[str], kind: ComputeIOType) -> Path:
        path = Path(self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind]))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
