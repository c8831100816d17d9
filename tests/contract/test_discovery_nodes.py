"""Discovery against simulated GPU nodes on real sockets: who is there, who hangs, board by board; nothing is written."""

import asyncio
import contextlib
from dataclasses import replace

from hcp_pipelines.devices.discovery import nodes
from hcp_pipelines.devices.discovery.found import GPU_NODE
from hcp_pipelines.devices.discovery.nodes import scan_nodes
from hcp_pipelines.devices.gpu_node.fleet import GpuNodeOptions
from hcp_pipelines.domain.clock import SystemClock
from tests.support.gpus import gpu_world
from tests.support.platform import free_port


def options_of(world, **changes):
    own = GpuNodeOptions(exporter_port=world.exporter_port, agent_port=world.agent_port, deadline_s=2.0)
    return replace(own, **changes)


async def scan(addresses, options, **more):
    return await scan_nodes(addresses, options, SystemClock(), lambda *_: None, **more)


async def test_nodes_are_found_with_their_boards_and_what_they_are_made_of(tmp_path):
    async with gpu_world(tmp_path, 20) as world:
        there = [world.at(n) for n in range(3)]
        before = (tmp_path / "transitions.jsonl").read_bytes()
        found = await scan([*there, "127.16.0.1", "127.200.0.1"], options_of(world))
        assert (tmp_path / "transitions.jsonl").read_bytes() == before
    assert [one.address for one in found.found] == there
    assert [len(one.boards) for one in found.found] == [8, 8, 4]
    assert len({uuid for one in found.found for uuid in one.boards}) == 20
    first = found.found[0]
    assert (first.dialect, first.model, first.problem) == (GPU_NODE, "H100 SXM5", "")
    assert first.specification.as_dict() == {"memory_gb": 79.6, "compute_capability": "9.0", "max_power_w": 700.0}
    assert (found.hung, found.missed) == ([], {})
    assert found.looked_at == {*there, "127.16.0.1", "127.200.0.1"}


async def test_one_that_takes_a_connection_and_says_nothing_hangs(tmp_path):
    async def say_nothing(_, writer):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port, shut = server.sockets[0].getsockname()[1], free_port()
    own = GpuNodeOptions(exporter_port=shut, agent_port=port, deadline_s=0.3)
    assert (await scan(["127.0.0.1"], own)).hung == ["127.0.0.1"]
    only_exporter = GpuNodeOptions(exporter_port=port, agent_port=shut, deadline_s=0.3)
    assert (await scan(["127.0.0.1"], only_exporter)).hung == ["127.0.0.1"], "its agent is down, its exporter is not"
    server.close()


async def test_what_is_no_agent_and_a_defect_at_one_node_do_not_stop_the_others(tmp_path, monkeypatch):
    look = nodes.GpuNode.identify

    async def broken(self):
        if self._address == world.at(0):
            raise KeyError("in the codec")
        return await look(self)

    async with gpu_world(tmp_path, 16) as world:
        monkeypatch.setattr(nodes.GpuNode, "identify", broken)
        found = await scan([world.at(0), world.at(1)], options_of(world))
        as_if = await scan([world.at(0)], options_of(world, agent_port=world.exporter_port))
    assert "defect: KeyError" in found.found[0].problem
    assert (found.found[0].boards, len(found.found[1].boards)) == ((), 8)
    monkeypatch.undo()
    assert as_if.found[0].problem


async def test_an_address_that_can_not_be_looked_at_from_here_is_told_apart(monkeypatch):
    class NoSocket:
        def __init__(self, *_):
            raise OSError(24, "Too many open files")

    monkeypatch.setattr(nodes.socket, "socket", NoSocket)
    found = await scan(["127.0.0.1"], GpuNodeOptions(deadline_s=0.3))
    assert (found.missed, found.looked_at) == ({"127.0.0.1": "Too many open files"}, set())
