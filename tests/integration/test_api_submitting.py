"""Submissions of one customer that come at once share transactions; each is answered by itself."""

import asyncio
import contextlib

import pytest

from hcp_pipelines.api.submitting import AT_ONCE, Submitting
from hcp_pipelines.domain.workloads import Tier
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.routing.scoring import Estimates
from hcp_pipelines.workloads.spec import WorkloadSpec, classify_by_rules
from tests.support.queued import NOON, TRAINING, add_customer, api, customer, fleet

__all__ = ["api", "customer", "fleet"]
LARGE = WorkloadSpec(is_training=True, gpu_count=60_000, estimated_duration_s=600)


def submission(spec=TRAINING, key=None):
    return store.Submission(spec, classify_by_rules(spec), key)


@pytest.fixture
def submitting(api):
    """Over one connection alone: whoever needs a second one waits."""
    one = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def connect():
        async with one:
            yield api

    return Submitting(connect, lambda: NOON, Estimates())


def transactions(database):
    return database.execute("select count(*), count(distinct transaction_id) from workload_events").fetchone()


async def test_each_is_answered_by_itself_and_many_share_a_commit(submitting, customer, database):
    other = add_customer(database, "two")
    asked = [submission() for _ in range(40)]
    made = await asyncio.gather(
        *(submitting.submit(customer, Tier.PRO, one) for one in asked),
        *(submitting.submit(other, Tier.PRO, one) for one in asked[:5]),
    )
    ids = {one.workload_id for one in made}
    stored = {row[0] for row in database.execute("select id from workloads").fetchall()}
    assert len(ids) == 45
    assert ids == stored
    assert transactions(database) == (45, 3), "32 and 8 of one, 5 of the other"
    assert AT_ONCE == 32
    assert sorted(one.queue_position for one in made) == list(range(1, 46)), "each sees those before it"


async def test_what_is_refused_costs_the_others_nothing(submitting, customer, database):
    database.execute(
        "insert into customer_quotas (customer_id, max_waiting, updated_by) values (%s, 5, 'test')", (customer,)
    )
    asked = [submission(), submission(LARGE), *(submission() for _ in range(8))]
    made = await asyncio.gather(*(submitting.submit(customer, Tier.PRO, one) for one in asked), return_exceptions=True)
    assert [type(one) for one in made] == [
        store.Submitted, store.NotAdmittedError, *[store.Submitted] * 4, *[store.QuotaError] * 4,
    ]  # fmt: skip
    assert transactions(database)[0] == 5


async def test_a_key_takes_work_in_once_within_a_transaction_too(submitting, customer, database):
    asked = [submission(), submission(key="k"), submission(key="k"), submission(LARGE, key="k"), submission(key="l")]
    made = await asyncio.gather(*(submitting.submit(customer, Tier.PRO, one) for one in asked), return_exceptions=True)
    assert made[1].workload_id == made[2].workload_id
    assert [made[1].is_repeat, made[2].is_repeat] == [False, True]
    assert isinstance(made[3], store.KeyReusedError)
    assert database.execute("select count(*) from workloads").fetchone() == (3,)


async def test_what_postgres_refuses_of_one_is_no_fault_of_the_others(submitting, customer, database):
    broken = store.Submission(TRAINING, classify_by_rules(TRAINING), by=store.By("a\x00b"))
    asked = [submission(), submission(), broken, submission()]
    made = await asyncio.gather(*(submitting.submit(customer, Tier.PRO, one) for one in asked), return_exceptions=True)
    assert [isinstance(one, store.Submitted) for one in made] == [True, True, False, True]
    assert database.execute("select count(*) from workloads").fetchone() == (3,)


async def test_who_has_given_up_before_its_turn_is_left_out(submitting, customer, database):
    tasks = [asyncio.ensure_future(submitting.submit(customer, Tier.PRO, submission())) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    made = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, store.Submitted) for one in made] == [True, True, False, True]
    assert database.execute("select count(*) from workloads").fetchone() == (3,)


async def test_a_tier_that_changes_meanwhile_counts_from_the_next_submission_on(submitting, customer, database):
    tiers = [Tier.ENTERPRISE, Tier.ENTERPRISE, Tier.FREE, Tier.FREE, Tier.PRO]
    made = await asyncio.gather(*(submitting.submit(customer, tier, submission()) for tier in tiers))
    stored = dict(database.execute("select id, tier from workloads").fetchall())
    assert [stored[one.workload_id] for one in made] == tiers
    assert transactions(database) == (5, 3), "those of a tier together"
