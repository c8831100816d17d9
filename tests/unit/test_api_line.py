"""The line for a place among the requests under way: in turns, in time, and without losing one."""

import asyncio

import pytest

from hcp_pipelines.api import line
from hcp_pipelines.api.line import Line
from hcp_pipelines.api.places import Places


class Time:
    """Seconds that stand still until somebody moves them."""

    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def full(time):
    """A line for one place, which is taken."""
    places = Places(1, 1)
    assert places.take("")
    return Line(places, time)


async def standing(one, callers):
    """A task for each caller, which stands in line, in this order; and who got a place, as it comes."""
    served = []

    async def stand(caller):
        if await one.take(caller):
            served.append(caller)
        else:
            served.append(f"not {caller}")

    tasks = []
    for caller in callers:
        tasks.append(asyncio.create_task(stand(caller)))
        await asyncio.sleep(0)
    return tasks, served


async def test_callers_take_turns_and_each_place_goes_from_hand_to_hand(full):
    tasks, served = await standing(full, ["a", "a", "a", "b", "c"])
    for n, task in enumerate([tasks[0], tasks[3], tasks[4], tasks[1], tasks[2]]):
        full.give_back()
        late = asyncio.create_task(full.take(f"late {n}"))
        await task
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
    assert served == ["a", "b", "c", "a", "a"]
    full.give_back()
    assert await full.take("d"), "nobody waits, and the place is free"


async def test_who_has_waited_too_long_or_would_is_told_so(full, time, monkeypatch):
    monkeypatch.setattr(line, "WAITS_S", 0.01)
    assert not await full.take("a")
    monkeypatch.setattr(line, "WAITS_S", 10.0)
    tasks, served = await standing(full, ["a"] * 7)
    assert full.expected_s() == 0, "it is too early to say"
    time.now_s += 9.5
    assert full.expected_s() == 0, "none has come free, and one may at any time"
    time.now_s += 0.5
    assert full.expected_s() == 70.0, "one in all that time, at best"
    assert full.retry_after_s() == 30, "that is a guess, which nobody should wait out"
    for _ in range(2):
        full.give_back()
    assert full.expected_s() == 25.0, "two in ten seconds: five wait for twenty-five"
    assert full.retry_after_s() == 25
    assert not await full.take("b"), "at once: it would be too long"
    for _ in range(5):
        full.give_back()
    await asyncio.gather(*tasks)
    assert served == ["a"] * 7
    full.give_back()
    assert full.expected_s() == 0
    assert await full.take("b")


async def test_how_long_it_takes_is_judged_early_where_many_places_came_free(full, time):
    tasks, served = await standing(full, ["a"] * 120)
    for _ in range(19):
        full.give_back()
    time.now_s += 4.0
    assert full.expected_s() == 0, "nineteen are too few to judge by"
    full.give_back()
    assert full.expected_s() == 20.0, "twenty in four seconds, and a hundred wait"
    assert not await full.take("b")
    for _ in range(100):
        full.give_back()
    await asyncio.gather(*tasks)
    assert served == ["a"] * 120


async def test_who_goes_leaves_the_place_to_the_next(full):
    tasks, served = await standing(full, ["a", "b", "c"])
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    full.give_back()
    tasks[1].cancel()  # it has the place, and goes before it knows
    await asyncio.gather(tasks[1], return_exceptions=True)
    await tasks[2]
    assert served == ["c"]


async def test_no_more_stand_in_line_than_there_may_in_all_and_of_a_caller(full, monkeypatch):
    monkeypatch.setattr(line, "MOST", 2)
    monkeypatch.setattr(line, "MOST_OF_ONE", 1)
    tasks, served = await standing(full, ["a", "a", "b", "c"])
    await asyncio.gather(tasks[1], tasks[3])
    assert served == ["not a", "not c"]
    for waits in (tasks[0], tasks[2]):
        full.give_back()
        await waits
    assert served[2:] == ["a", "b"]
