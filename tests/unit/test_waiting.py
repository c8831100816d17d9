"""A wait that is over without what it was for says what was there instead (`tests/support/waiting.py`)."""

import pytest

from tests.support.waiting import until

HELD = {"a": [1, 2]}


async def test_what_comes_is_waited_for():
    asked = iter((False, True))
    await until(lambda: next(asked), "it is there", 60)


async def test_what_does_not_come_is_told_with_what_was_compared():
    wanted = 3
    with pytest.raises(AssertionError, match=r"a third; HELD\['a'\] = \[1, 2\], wanted = 3"):
        await until(
            lambda: len(HELD["a"]) == wanted,
            "a third",
            0,
        )
    with pytest.raises(AssertionError, match=r"'b'\) = None, .*'a'\) = \[1, 2\], HELD\['c'\] = \(KeyError\('c'\)\)"):
        await until(lambda: HELD.get("b") or not (HELD.get("a") or HELD["c"]), "b", 0)
    with pytest.raises(AssertionError, match=r"more; it says ''"):
        await until("".strip, "more", 0)
