"""What tests count against a process that has to act within a second; and clocks that stand still with their process."""

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from hcp_pipelines.domain.clock import Anchor, SystemClock
from simulators.clock import AnchorClock
from tests.support import own_time as own_time_module
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


def look_at_once(looks):
    """What all of them say of one instant of the machine's."""
    now_s = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_time_module, "time", SimpleNamespace(monotonic=lambda: now_s))
        return [look() for look in looks]


async def test_no_clock_of_a_site_goes_on_while_its_process_stands_still(own_time):
    loop, real = asyncio.get_running_loop(), SystemClock()
    began = real.real_now()
    platform = SystemClock(Anchor(began, datetime(2025, 1, 1, tzinfo=UTC), 600.0))
    world = AnchorClock(began.timestamp(), 0.0, 600.0)
    looks = loop.time, real.monotonic_s, lambda: platform.now().timestamp() / 600, lambda: world.now_s() / 600
    before, stopped_s = look_at_once(looks), 1.0
    time.sleep(stopped_s)
    passed = [now - then for now, then in zip(look_at_once(looks), before, strict=True)]
    assert max(passed) < 0.5 * stopped_s
    assert max(passed) - min(passed) < 0.001
    await asyncio.sleep(0.3)
    slept = [now - then for now, then in zip(look_at_once(looks), before, strict=True)]
    assert min(slept) >= 0.3, "while it runs they go as ever"
