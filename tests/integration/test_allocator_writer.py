"""What waits for the journal, on a real server: one bad row costs that row, an outage nothing."""

import asyncio
import uuid

import psycopg
import pytest

from hcp_pipelines.allocator import writer as writing
from hcp_pipelines.allocator.journal import (
    AuditRow,
    Batch,
    MemoryRow,
    Observation,
    Outcome,
    write_batch,
    write_commands,
)
from hcp_pipelines.allocator.predecessors import read_cursor, read_memory
from hcp_pipelines.allocator.refused import ACTION
from hcp_pipelines.domain.errors import StorageError
from tests.integration.test_allocator_journal import AT, command, connection, fleet, owned_by  # noqa: F401 - fixtures

NAN = float("nan")


def seen(number, **changed):
    said = {
        "facility_id": "hou-1", "owner": "allocator-a", "epoch": 1, "event_id": uuid.uuid4(), "assignment": number,
        "generation": 1, "group_id": "s21", "feeder_id": "feeder-1", "from_state": None, "to_state": 0, "devices": 1,
        "slots": b"", "reason": "local_safety", "detail": "", "actor": "gateway", "simulated_at": AT,
    }  # fmt: skip
    return Observation(**said | changed)


@pytest.fixture
def writer(connection, monkeypatch):  # noqa: F811
    monkeypatch.setattr(writing, "GATHER_S", 0.0)
    monkeypatch.setattr(writing, "RETRY_FIRST_S", 0.01)
    return writing.JournalWriter(lambda batch: write_batch(connection, batch), "allocator-a")


async def test_one_bad_row_of_each_kind_costs_that_row_alone(database, connection, writer):  # noqa: F811
    owned_by(database, "allocator-a")
    rows = [command() for _ in range(9)]
    await write_commands(connection, "allocator-a", rows)
    outcomes = [Outcome("hou-1", "acked", str(r.command_id), 0, AT, devices=4) for r in rows]
    outcomes[3] = Outcome("hou-1", "acked", str(rows[3].command_id), 0, AT, devices=2**40)
    outcomes[5] = Outcome("hou-1", "acked", str(rows[5].command_id), 0, AT, detail="a\0b")
    outcomes[6] = Outcome("hou-1", "acked", str(rows[6].command_id), 0, AT, steps_ms={"ack": NAN})
    batch = writer.batch
    batch.outcomes += outcomes
    batch.observations += [seen(0), seen(1, facility_id="nowhere-1"), seen(2)]
    batch.audits += [AuditRow("gateway", "gateway.shed", "hou-1", {"mw": mw}) for mw in (1.0, NAN)]
    batch.memories |= {f: MemoryRow(f, 1, AT, {"guard": {"a": [v]}}) for f, v in (("hou-1", NAN), ("nor-1", 2.0))}
    batch.note_seq("hou-1", 12)
    await writer.flush()
    acked = database.execute("select command_id from switch_journal where event = 'acked'").fetchall()
    assert {row[0] for row in acked} == {r.command_id for n, r in enumerate(rows) if n not in (3, 5, 6)}
    kept = database.execute("select subject, detail from audit_log where action = %s", (ACTION,)).fetchall()
    assert sorted(detail["kind"] for _, detail in kept) == ["audits", "memories", *["observations"], *["outcomes"] * 3]
    assert all(detail["reason"] and detail["row"] for _, detail in kept)
    assert {subject for subject, _ in kept} == {"nowhere-1", "hou-1"}
    assert database.execute("select count(*) from switch_journal where event = 'observed'").fetchall() == [(2,)]
    assert await read_memory(connection, "nor-1") == {"guard": {"a": [2.0]}}
    assert await read_cursor(connection, "hou-1") == 12, "what could be stored is stored: the log goes on behind it"
    assert writer.journalled == {"hou-1": 12}


async def test_what_is_refused_for_no_row_of_it_waits_as_in_an_outage(writer, monkeypatch):
    written: list[Batch] = []
    answers = [psycopg.errors.InsufficientPrivilege("may not"), StorageError("away"), psycopg.DataError("bad"),
               psycopg.OperationalError("away")]  # fmt: skip

    async def write(batch):
        if answers:
            raise answers.pop(0)
        written.append(batch)

    monkeypatch.setattr(writer, "_write_batch", write)
    one, two = seen(0), seen(1)
    writer.batch.observations += [one, two]
    writer.batch.note_seq("hou-1", 3)
    writer.wake()
    task = asyncio.create_task(writer.run())
    async with asyncio.timeout(120):
        await writer.drained()
    task.cancel()
    assert [(b.observations, b.cursors) for b in written] == [([one], {}), ([two], {"hou-1": 3})]
    assert writer.problem == ""


async def test_a_row_that_can_not_even_be_kept_ends_nothing(writer, monkeypatch):
    async def write(batch):
        raise psycopg.DataError("nothing is good enough")

    monkeypatch.setattr(writer, "_write_batch", write)
    writer.batch.observations.append(seen(0))
    writer.batch.note_seq("hou-1", 3)
    async with asyncio.timeout(120):
        await writer.flush()
    assert writer.problem == ""
    assert writer.journalled == {}
