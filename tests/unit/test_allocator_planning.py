"""A round of planning: all waves are one commit, and nothing leaves that may not."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import structlog

from hcp_pipelines.allocator.late_commits import LateCommits
from hcp_pipelines.allocator.market import MarketBook
from hcp_pipelines.allocator.planning import Planner
from hcp_pipelines.allocator.writer import JournalWriter
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.settings import Settings

NAMES = [f"f{n}" for n in range(7)]


@dataclass(eq=False)
class Facility:
    """What a planner sees of a controlled facility: `log` is shared by all."""

    name: str
    log: list[tuple[str, str]]
    has_wave: bool = True
    holds: bool = True
    follows: bool = True
    site: SimpleNamespace = field(init=False)

    def __post_init__(self):
        self.site = SimpleNamespace(facility_id=self.name)
        self.lease = SimpleNamespace(holds=lambda now_s: self.holds)
        self.owner = SimpleNamespace(take_would_be=list, take_paper=list, take_work_news=list, history=lambda wave: [])

    def plan(self, book):
        self.log.append(("planned", self.name))
        return SimpleNamespace(facility_id=self.name, rows=(self.name,)) if self.has_wave else None

    def may_send(self):
        return self.follows

    def send(self, wave, journalled_ns):
        self.log.append(("sent", wave.facility_id))

    def give_up(self, wave):
        self.log.append(("given up", wave.facility_id))


class Round:
    """A planner over some facilities; Postgres takes a while for each commit."""

    def __init__(self, tmp_path, facilities, log, refuses=(), during=lambda: None):
        self.log, self.refuses, self.during, self.commits = log, refuses, during, []
        self.controls = {facility.name: facility for facility in facilities}
        clock = SystemClock()
        context = ProcessContext("allocator-a", Settings(state_dir=tmp_path), clock, structlog.get_logger("test"))
        writer = JournalWriter(self._outcomes, "a")
        self.late = LateCommits(clock, writer, self._close)
        self.planner = Planner(context, "a", self, MarketBook(), self.controls, writer, self.late)

    async def _outcomes(self, batch):
        """Nothing comes back here."""

    async def _close(self, facility_id, now, older_than):
        return 0

    async def write_commands(self, owner, rows):
        self.log.append(("commit", rows[0]))
        self.commits.append(list(rows))
        await asyncio.sleep(0)
        self.during()
        if set(rows) & set(self.refuses):
            raise StorageError("away")
        return set(rows)

    def said(self, word):
        return [name for what, name in self.log if what == word]


@pytest.fixture
def a_round(tmp_path):
    def made(refuses=(), during=lambda: None, **changed):
        log: list[tuple[str, str]] = []
        facilities = [Facility(name, log, **changed.get(name, {})) for name in NAMES]
        return Round(tmp_path, facilities, log, refuses, during)

    return made


async def test_all_waves_of_a_round_are_one_commit_and_leave_behind_it(a_round):
    found = a_round(f3={"has_wave": False})
    await found.planner.plan()
    with_waves = [name for name in NAMES if name != "f3"]
    assert found.commits == [with_waves]
    assert found.said("sent") == with_waves
    assert found.log.index(("commit", "f0")) < found.log.index(("sent", "f0"))


async def test_without_a_wave_nothing_is_journalled(a_round):
    found = a_round(**{name: {"has_wave": False} for name in NAMES})
    await found.planner.plan()
    assert found.commits == []


async def test_nothing_leaves_where_the_journal_can_not_be_written(a_round):
    found = a_round(refuses=("f4",))
    await found.planner.plan()
    assert found.said("given up") == NAMES
    assert found.said("sent") == []


async def test_what_is_lost_while_it_is_journalled_is_not_sent(a_round):
    found = a_round(during=lambda: found.controls.pop("f1"), f2={"follows": False}, f4={"holds": False})
    await found.planner.plan()
    assert found.said("given up") == ["f1", "f2"]
    assert "f4" not in found.said("planned")
