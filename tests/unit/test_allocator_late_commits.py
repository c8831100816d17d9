"""When the journal is looked at once more for commands whose commit nobody heard of. Store and writer are fakes."""

from datetime import UTC, datetime, timedelta

from hcp_pipelines.allocator.late_commits import LateCommits
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.errors import StorageError


class Rig:
    """`LateCommits` over a store that answers as told."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []
        self.clock = ManualClock(datetime(2025, 1, 1, tzinfo=UTC))
        self.late = LateCommits(self.clock, self, self.close)

    async def drained(self):
        """Nothing waits."""

    async def close(self, facility_id, now, older_than):
        self.asked.append((facility_id, older_than))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def look(self, after_s=0.0):
        self.clock.advance(after_s)
        await self.late.look("hou-1")
        return len(self.asked)


async def test_it_is_looked_for_once_and_not_before_it_can_be_under_way_no_longer():
    rig = Rig(2)
    assert await rig.look() == 0, "nothing is expected"
    rig.late.expect("hou-1")
    assert await rig.look(59.0) == 0
    assert await rig.look(2.0) == 1
    assert rig.asked == [("hou-1", timedelta(seconds=30))], "what is younger may be in flight"
    assert await rig.look(100.0) == 1


async def test_a_store_that_is_away_is_asked_again():
    rig = Rig(StorageError("no connection"), 0)
    rig.late.expect("hou-1")
    assert await rig.look(61.0) == 1
    assert await rig.look(30.0) == 2
    assert await rig.look(30.0) == 2
