"""The desk: a policy is recorded as taken before it is followed, and by who owns the facility. The store is a fake."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.intake import PolicyRow
from hcp_pipelines.allocator.market import MarketBook
from hcp_pipelines.allocator.policies import PolicyDesk
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.policy.schema import WorkExpected
from hcp_pipelines.settings import Settings
from tests.support import fleet
from tests.unit.test_allocator_owner import Rig


class Desk:
    """A desk with one facility, one newer policy, and what the store says to its admission, one word after the other."""

    def __init__(self, *words, **more):
        self.words, self.recorded, self.rig = list(words), [], Rig()
        policy = fleet.policy(self.rig.inventory, self.rig.book, basis=self.basis + 1).model_copy(update=more)
        self.row = PolicyRow(
            self.rig.site.facility_id, 7, policy.basis_tick_id, policy.digest(), policy.model_dump(mode="json")
        )
        self.desk = PolicyDesk("alloc-a", Settings(), self.rig.clock, self, self.rig.book)

    @property
    def basis(self):
        return self.rig.owner.in_force.policy.basis_tick_id

    async def policies(self, ids):
        return [self.row]

    async def record_admission(self, row, allocator, reason):
        self.recorded.append((row.policy_id, reason, self.basis))
        word = self.words.pop(0)
        if isinstance(word, Exception):
            raise word
        return word

    async def load(self):
        control = SimpleNamespace(owner=self.rig.owner, site=self.rig.site, follow=self.rig.owner.follow)
        return await self.desk.load({self.rig.site.facility_id: control})


async def test_a_policy_whose_record_is_not_written_is_not_followed_yet():
    desk = Desk(StorageError("the connection is lost"), True)
    before = desk.basis
    with pytest.raises(StorageError):
        await desk.load()
    assert desk.basis == before
    await desk.load()
    assert desk.basis == before + 1
    assert desk.recorded == [(7, "", before), (7, "", before)], "recorded before it is followed"
    await desk.load()
    assert len(desk.recorded) == 2


@pytest.mark.parametrize(
    ("expected", "has_forecast", "gpus"),
    [
        (WorkExpected(model="demand/3", quantile="q95", asked_at=datetime(2025, 1, 1, tzinfo=UTC), gpus=12), 1.0, 12.0),
        (WorkExpected(reason="no version of demand serves"), 0.0, 0.0),
        (None, None, None),
    ],
)
async def test_a_policy_that_is_followed_tells_whether_a_forecast_keeps_room_and_how_much(expected, has_forecast, gpus):
    metrics.HAS_FORECAST.clear()
    metrics.EXPECTED_GPUS.clear()
    desk = Desk(True, expected=expected)
    await desk.load()
    own = {"facility_id": desk.row.facility_id}
    names = ("hcp_allocator_has_demand_forecast", "hcp_allocator_expected_gpus")
    assert [REGISTRY.get_sample_value(name, own) for name in names] == [has_forecast, gpus]


async def test_who_owns_the_facility_no_more_follows_nothing_new():
    desk = Desk(False)
    before = desk.basis
    await desk.load()
    assert desk.basis == before


async def test_a_policy_waits_for_a_price_since_without_one_nothing_says_what_it_moves():
    desk = Desk(True)
    before, market = desk.basis, desk.rig.book.__dict__.copy()
    desk.rig.book.__dict__.update(MarketBook().__dict__)
    await desk.load()
    assert (desk.basis, desk.recorded) == (before, []), "neither taken nor refused"
    desk.rig.book.__dict__.update(market)
    await desk.load()
    assert desk.basis == before + 1


async def test_a_policy_that_rests_on_another_tick_than_it_was_published_for_is_refused():
    desk = Desk(True)
    before = desk.basis
    desk.row = replace(desk.row, basis_tick_id=desk.row.basis_tick_id + 1000)
    await desk.load()
    ((_, reason, _),) = desk.recorded
    assert (desk.basis, reason.startswith("basis: it rests on tick")) == (before, True)
