"""What waits for a second person: asked once, answered by another, good for that change and that time alone."""

from datetime import timedelta

import psycopg
import pytest

from hcp_pipelines.allocator.admit import judge, reason_of
from hcp_pipelines.allocator.approvals import Approved, Question, ask, limit_in_approve_mw, read_approved
from hcp_pipelines.allocator.decide import InForce, Limits
from hcp_pipelines.domain.modes import ControlMode
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.policy.admission import NeedsApproval
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import dsn
from hcp_pipelines.storage.roles import Role
from tests.support import fleet
from tests.support.fleet import NOON
from tests.unit.test_allocator_owner import Rig

QUESTION = Question("wave", "s21: curtailed 200", 0.7, "-0.70 MW at the meter")


@pytest.fixture
async def connection(settings, database):
    for document in demo_facilities(3, 60):
        apply(database, document, "test")
    async with await psycopg.AsyncConnection.connect(dsn(settings, Role.ALLOCATOR), autocommit=True) as opened:
        yield opened


def decide(database, decision="approved", by="bob"):
    database.execute("update approvals set decision = %s, decided_by = %s, decided_at = now()", (decision, by))


async def waves(connection, now=NOON):
    return (await read_approved(connection, ["hou-1"], now))["hou-1"].waves


async def test_a_question_is_put_once_and_its_answer_is_good_for_half_an_hour(connection, database):
    for _ in range(3):
        await ask(connection, "hou-1", QUESTION, "allocator-a", NOON)
    assert database.execute("select count(*) from approvals").fetchone() == (1,)
    assert await waves(connection) == frozenset()
    decide(database)
    assert await waves(connection) == {QUESTION.subject}
    await ask(connection, "hou-1", QUESTION, "allocator-b", NOON + timedelta(minutes=29))
    assert database.execute("select count(*) from approvals").fetchone() == (1,)
    assert await waves(connection, NOON + timedelta(minutes=31)) == frozenset()
    await ask(connection, "hou-1", QUESTION, "allocator-b", NOON + timedelta(minutes=31))
    assert database.execute("select count(*) from approvals").fetchone() == (2,)


async def test_a_no_is_not_asked_again_while_it_is_good(connection, database):
    await ask(connection, "hou-1", QUESTION, "allocator-a", NOON)
    decide(database, "rejected")
    await ask(connection, "hou-1", QUESTION, "allocator-a", NOON + timedelta(minutes=5))
    assert database.execute("select count(*) from approvals").fetchone() == (1,)
    assert await waves(connection) == frozenset()


async def test_who_asks_can_not_answer(connection, database):
    await ask(connection, "hou-1", QUESTION, "bob", NOON)
    with pytest.raises(psycopg.errors.CheckViolation):
        decide(database, by="bob")


# -- at the owner -----------------------------------------------------------------------------------------------------


def approving(unasked_mw):
    rig = Rig(control_mode=ControlMode.APPROVE)
    rig.owner.following.limits = Limits(900.0, 7200.0, 1800.0, unasked_mw)
    return rig


def test_in_approve_a_change_waits_and_happens_once_somebody_agrees_to_it():
    rig = approving(0.0)
    assert rig.tick(400.0) is None
    question = rig.owner.question
    assert question.mw > 1
    assert "curtailed 200" in question.subject
    rig.owner.approved = Approved(waves=frozenset({"something else"}))
    assert rig.tick(401.0) is None
    rig.owner.approved = Approved(waves=frozenset({question.subject}))
    assert rig.tick(402.0) is not None
    assert rig.miners_on() == 0
    assert rig.owner.question is None


def test_small_changes_need_nobody():
    rig = approving(100.0)
    assert rig.tick(400.0) is not None
    assert rig.owner.question is None


def test_as_shipped_everything_waits_in_approve():
    assert limit_in_approve_mw(Settings().approval_mw) == 0.0
    assert limit_in_approve_mw(5.0) == 5.0


def test_a_policy_that_jumps_waits_and_is_taken_once_it_was_approved():
    rig = Rig()
    rig.clock.advance(300)
    rig.book.take([fleet.row(7, 900.0, NOON + timedelta(minutes=5))])
    policy = fleet.policy(rig.inventory, rig.book, basis=7, solved_at=NOON + timedelta(minutes=5))
    candidate = InForce(9, policy, compile_policy(policy))
    settings, now = Settings(max_policy_jump_mw=0.1), rig.clock.now()
    word = judge(rig.owner, candidate, policy.digest(), rig.book, now, settings)
    assert isinstance(word, NeedsApproval)
    assert "an operator has to approve it" in reason_of(
        judge(rig.owner, candidate, policy.digest(), rig.book, now, settings)
    )
    rig.owner.approved = Approved(policies=frozenset({"9"}))
    assert reason_of(judge(rig.owner, candidate, policy.digest(), rig.book, now, settings)) == ""


def test_what_was_approved_of_a_policy_is_its_content_and_nothing_but_the_jump():
    rig, settings = Rig(), Settings(max_policy_jump_mw=0.1)
    policy = fleet.policy(rig.inventory, rig.book, basis=7)
    rig.owner.approved = Approved(policies=frozenset({"9"}))
    other = policy.model_copy(update={"basis_tick_id": 8})
    for made, code in (
        (other, "digest"),
        (policy.model_copy(update={"expires_at": NOON}), "expired"),
        (policy.model_copy(update={"couplings": policy.couplings.model_copy(update={"cap_mw": 1e4})}), "cap"),
    ):
        digest = policy.digest() if made is other else made.digest()
        candidate = InForce(9, made, compile_policy(made))
        assert reason_of(judge(rig.owner, candidate, digest, rig.book, NOON, settings)).startswith(code)


async def test_an_approved_policy_is_that_one_alone_and_for_half_an_hour(connection, database):
    await ask(connection, "hou-1", Question("policy", "9", 30.0, "jump"), "allocator-a", NOON)
    decide(database)
    for minutes, good in ((29, {"9"}), (31, set())):
        found = await read_approved(connection, ["hou-1", "nor-1"], NOON + timedelta(minutes=minutes))
        assert (found["hou-1"].policies, found["nor-1"].policies) == (good, frozenset())
