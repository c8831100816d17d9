"""What tests count against a process that has to act within a second: its own time, and all of that."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.edge import OwnTime

NEEDS_S = 0.2


def test_what_blocks_is_counted():
    own = OwnTime()
    time.sleep(NEEDS_S)
    assert own.end_s() > 0.9 * NEEDS_S


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux tells for how long a thread waited")
def test_what_others_had_of_the_processor_is_not():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with subprocess.Popen(
            [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
        ) as other:
            try:
                other.stdout.readline()
                began_s, own, computed_s = time.monotonic(), OwnTime(), time.thread_time()
                while time.thread_time() - computed_s < NEEDS_S:
                    pass
                own_s, took_s = own.end_s(), time.monotonic() - began_s
            finally:
                other.kill()
    finally:
        os.sched_setaffinity(0, before)
    assert took_s > 1.5 * NEEDS_S, "they share one"
    assert 0.9 * NEEDS_S < own_s < 0.75 * took_s
