"""The shell of every daemon."""

import resource
import subprocess
import sys

PROGRAM = """
import resource
from hcp_pipelines.runtime.process import allow_files
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 5000))
assert allow_files() == 5000, allow_files()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (5000, 5000)
assert allow_files(1000) == 5000  # never fewer than there are
"""


def test_a_daemon_takes_the_open_files_that_it_may_have():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
