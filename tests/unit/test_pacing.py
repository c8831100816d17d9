"""A screen asks as often as it costs little."""

from datetime import UTC, datetime
from itertools import pairwise

from hcp_pipelines.cli.pacing import SHARE, Paced
from hcp_pipelines.domain.clock import ManualClock


def test_what_takes_long_is_asked_seldom_and_what_takes_no_time_at_each_look():
    clock, taking_s, asked = ManualClock(datetime(2025, 1, 1, tzinfo=UTC)), [0.02], []

    def ask():
        asked.append(clock.monotonic_s())
        clock.advance(taking_s[0])
        return {"n": len(asked)}

    paced = Paced(ask, clock)
    assert not asked
    for _ in range(3):
        told = paced()
        clock.advance(1.0)
    assert (told, len(asked)) == ({"n": 3}, 3)
    taking_s[0] = 0.25
    for _ in range(60):
        told = paced()
        clock.advance(1.0)
    later = asked[3:]
    assert told == {"n": len(asked)}
    assert 10 <= len(later) <= 12
    assert all(after - before >= 0.25 / SHARE for before, after in pairwise(later))
