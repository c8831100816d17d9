"""Loops that nobody watches: they end when they are told to, and never unnoticed."""

import asyncio

import pytest

from hcp_pipelines.runtime.endless import EndedError, endless


async def forever():
    await asyncio.sleep(3600)


async def waits_for_one_that_is_cancelled():
    other = asyncio.create_task(forever())
    await asyncio.sleep(0)
    other.cancel()
    await other


async def done():
    pass


@pytest.mark.parametrize(
    ("work", "words"), [(waits_for_one_that_is_cancelled, "was cancelled"), (done, "done has ended by itself")]
)
async def test_work_that_ends_by_itself_is_a_defect_that_a_group_hears_of(work, words):
    async def both():
        async with asyncio.TaskGroup() as group:
            group.create_task(endless(forever()))
            group.create_task(endless(work()))

    with pytest.raises(ExceptionGroup) as found:
        await both()
    assert found.group_contains(EndedError, match=words)


async def test_work_that_is_told_to_end_ends():
    task = asyncio.create_task(endless(forever()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_goes_wrong_is_told_as_it_is():
    async def wrong():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await endless(wrong())
