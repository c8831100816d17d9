"""The judge itself: what it must find in logs that were made up to hold it."""

import base64
import json
from uuid import uuid4

import numpy as np
import pytest
from pyroaring import BitMap

from benchmarks.parts.verdict import Journal, Verdict, compare
from hcp_pipelines.edge.durable_log import DurableLog, open_ahead
from hcp_pipelines.wire import edge_v1_pb2 as pb

OFF, FULL = 0, 3
SITE, SLOTS = "hou-1", 10


class Site:
    """One facility's three accounts of what happened."""

    def __init__(self, tmp_path):
        self.edge, self.world = tmp_path / "edge", tmp_path / "transitions.jsonl"
        self.ahead = open_ahead(self.edge, "gateway")
        self.log = DurableLog(self.edge / SITE, self.ahead)
        self.journal, self.lines = Journal(), []

    async def begin(self):
        states = np.full(SLOTS, OFF, dtype=np.uint8).tobytes()
        body = pb.FacilityState(generation=1, states=states).SerializeToString()
        await self.log.append([(self.log.reserve(), "baseline", body)])

    async def command(self, state, slots, *, journalled=True, stored=True, acked=True, carried_out=True):
        command_id, payload = uuid4(), BitMap(slots).serialize()
        if journalled:
            self.journal.commanded.add((command_id, 0))
        if acked:
            self.journal.acked[(command_id, 0)] = len(slots)
        elif journalled:
            self.journal.unanswered += len(slots)
        if stored:
            assignment = pb.Assignment(index=0, state=state, slots=payload)
            command = pb.Command(command_id=str(command_id), assignments=[assignment])
            answer = pb.AssignmentAck(index=0, accepted=payload)
            ack = pb.Ack(command_id=str(command_id), assignments=[answer])
            entries = [("command", command), ("ack", ack)]
            await self.log.append([(self.log.reserve(), kind, body.SerializeToString()) for kind, body in entries])
        if carried_out:
            self.changed(command_id, state, slots)
        return command_id

    def changed(self, ref, state, slots):
        text = base64.b64encode(BitMap(slots).serialize()).decode()
        self.lines.append({"site": SITE, "ref": str(ref), "assignment": 0, "state": state, "slots": text})

    def verdict(self):
        self.world.write_text("".join(json.dumps(line) + "\n" for line in self.lines) + '{"a torn line')
        return compare({SITE: self.journal}, self.edge, self.world)


@pytest.fixture
async def site(tmp_path):
    made = Site(tmp_path)
    await made.begin()
    yield made
    await made.log.close()
    await made.ahead.close()


async def test_what_was_done_once_is_neither_lost_nor_doubled(site):
    await site.command(FULL, [1, 2, 3])
    await site.command(OFF, [2])
    await site.command(OFF, [7], carried_out=False)  # it was off: the devices had nothing to do
    assert site.verdict() == Verdict(commands=3, acked=5)


async def test_what_was_acknowledged_and_not_carried_out_is_lost(site):
    await site.command(FULL, [1, 2, 3], carried_out=False)
    await site.command(FULL, [3])
    assert site.verdict().lost == 2


async def test_an_ack_that_the_gateways_log_does_not_know_is_a_loss(site):
    await site.command(FULL, [1, 2], stored=False)
    assert site.verdict().lost == 2


async def test_what_changes_twice_by_one_command_is_doubled(site):
    command_id = await site.command(FULL, [1, 2, 3])
    site.changed(command_id, FULL, [3, 4])
    assert site.verdict().doubled == 1


async def test_a_command_under_way_is_unanswered_and_not_lost(site):
    await site.command(FULL, [1, 2])
    await site.command(OFF, [1], acked=False, carried_out=False)
    verdict = site.verdict()
    assert (verdict.unanswered, verdict.lost) == (1, 0)


async def test_a_command_that_was_never_journalled_is_found(site):
    await site.command(FULL, [1, 2], journalled=False, acked=False)
    assert site.verdict().unjournalled == 2


async def test_what_the_gateway_does_by_itself_counts_as_wanted(site):
    await site.command(FULL, [1, 2])
    seq = site.log.reserve()
    event = pb.LocalEvent(seq=seq, kind="fallback", state=OFF, slots=BitMap([1]).serialize())
    await site.log.append([(seq, "local", event.SerializeToString())])
    assert site.verdict().lost == 1
