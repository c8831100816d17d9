"""The writer, and what is told: a lake that is away costs nothing but time; what gateways gave up is said for a while."""

import pytest

from hcp_pipelines.collector.telemetry import writer as writer_module
from hcp_pipelines.collector.telemetry.intake import Intake, without_known
from hcp_pipelines.collector.telemetry.rates import Rates
from hcp_pipelines.collector.telemetry.store import Stored
from hcp_pipelines.collector.telemetry.writer import Writer
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from tests.support.telemetry import sample


class Lake:
    """What is in it; `fails` says what the next calls raise."""

    def __init__(self, fails):
        self.fails, self.rows, self.opened = fails, [], 0

    def __call__(self, settings, clock):
        self.opened += 1
        self._fail()
        self.stored, self.number = {s.facility_id: s.seq for s in self.rows}, len(self.rows)
        return self

    def write(self, samples):
        fresh = without_known(samples, self.stored)
        self.rows += fresh  # a commit of which nobody learns is a commit too
        self._fail()
        return Stored(fresh, len(self.rows))

    def _fail(self):
        if self.fails and (error := self.fails.pop(0)):
            raise error

    def close(self):
        pass


class Told:
    def __init__(self):
        self.seqs, self.opens = [], []

    def opened(self, stored, number):
        self.opens.append(dict(stored))

    def written(self, samples, number):
        self.seqs += [s.seq for s in samples]


@pytest.fixture
def put_together(monkeypatch):
    def make(fails):
        lake, told, intake = Lake(fails), Told(), Intake()
        monkeypatch.setattr(writer_module, "TelemetryStore", lake)
        return lake, told, intake, Writer(Settings(), SystemClock(), intake, told)

    return make


def test_what_could_not_be_written_is_written_once_the_lake_is_back(put_together):
    away = StorageError("the catalogue is away")
    lake, told, intake, writer = put_together([None, away, away])
    for seq in (1, 2):
        intake.put(sample(seq))
    assert not writer._step()
    assert writer.problem == "the catalogue is away"
    intake.put(sample(3))
    assert not writer._step()
    assert told.seqs == []
    assert writer._step()
    assert writer.problem == ""
    # the first write had come through, though it looked as if not: opening says so, and the gateway is told by that
    assert (told.opens, told.seqs, [s.seq for s in lake.rows]) == ([{}, {"one": 2}], [3], [1, 2, 3])


def test_rates_are_between_commits_of_the_last_minute():
    rates = Rates()
    assert rates.seen(0, 0) == {"rows": 0, "rows_per_s": None, "lag_s": None}
    for at_s in (0.0, 50.0, 55.0, 60.0):
        rates.note([sample(1, at_s=at_s)], at_s)
    seen = rates.seen(sample(1, at_s=70).sampled_at_us / 1e6, 70.0)
    assert seen == {"rows": 24, "rows_per_s": 0.6, "lag_s": 10.0}
