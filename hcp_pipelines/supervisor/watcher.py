"""The supervisor's side of the guardian: starts it, tells it that all is well, reaps it. What it does is in `guardian`."""

import os
import subprocess
import sys
from pathlib import Path

from hcp_pipelines.supervisor.processes import ROOT


class Guardian:
    """The process that ends everything should this one be killed."""

    def __init__(self, pid_file: Path) -> None:
        self._pid_file = pid_file
        self._write_fd = -1
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Guardian":
        """Start it with the read end of a pipe that only we can write."""
        read_fd, self._write_fd = os.pipe()
        argv = [sys.executable, "-S", "-m", "hcp_pipelines.supervisor.guardian", str(read_fd), str(self._pid_file)]
        self._process = subprocess.Popen(
            argv, pass_fds=[read_fd], cwd=ROOT, start_new_session=True, stdin=subprocess.DEVNULL
        )
        os.close(read_fd)
        return self

    def dismiss(self) -> None:
        """Tell it that we stopped in good order."""
        os.write(self._write_fd, b".")

    def __exit__(self, *_: object) -> None:
        """Close the pipe and reap it."""
        os.close(self._write_fd)
        if self._process:
            self._process.wait(30)
