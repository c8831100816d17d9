"""`hcp release --all` where gateways are mute: all are asked at once, who answers is released, who doesn't is told."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.operators import progress
from hcp_pipelines.operators.accounts import OperatorRole, add
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.edge_v1_pb2_grpc import EdgeGatewayServicer, add_EdgeGatewayServicer_to_server
from hcp_pipelines.wire.slots import encode_slots
from tests.support.cli import hcp

__all__ = ["hcp"]

ALL_ASKED_WITHIN_S = 10.0


class Gateways(EdgeGatewayServicer):
    """Gateways of several facilities at one address: none answers before all are asked, and the mute ones not then."""

    def __init__(self, facilities, mute):
        self._mute, self._all_asked, self.released = mute, threading.Barrier(facilities), []

    def Read(self, request, context):  # noqa: N802 - the contract's name
        try:
            self._all_asked.wait(ALL_ASKED_WITHIN_S)
        except threading.BrokenBarrierError:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "asked one after the other")
        if request.facility_id in self._mute:
            context.abort(grpc.StatusCode.UNAVAILABLE, "mute")
        return pb.FacilityState(facility_id=request.facility_id, held=encode_slots([0]))

    def Direct(self, request, context):  # noqa: N802
        assert request.release
        self.released.append(request.facility_id)
        return pb.DirectReply(accepted=True)


@pytest.fixture
def gateways(database, settings, tmp_path, monkeypatch):
    """Three facilities, of which hou-1 alone answers."""
    monkeypatch.setattr(progress, "READ_WITHIN_S", 3 * ALL_ASKED_WITHIN_S)
    facilities = demo_facilities(3, 120)
    add(settings, database, "ann", OperatorRole.OPERATOR, "test")
    for document in facilities:
        apply(database, document, "test")
        row = (document.facility_id, f"unix:{tmp_path}/g.sock")
        database.execute("insert into gateway_endpoints (facility_id, address, gateway) values (%s, %s, 'edge')", row)
    gateways = Gateways(len(facilities), {d.facility_id for d in facilities} - {"hou-1"})
    with ThreadPoolExecutor(2 * len(facilities)) as pool:
        server = grpc.server(pool)
        add_EdgeGatewayServicer_to_server(gateways, server)
        server.add_insecure_port(f"unix:{tmp_path}/g.sock")
        server.start()
        yield gateways
        server.stop(None).wait()


def test_mute_gateways_hold_up_no_release_and_are_told(hcp, settings, gateways):
    done = hcp("release", "--all", "--json", "--state-dir", settings.state_dir, HCP_OPERATOR="ann")
    assert gateways.released == ["hou-1"], done.err
    assert [order["name"] for order in json.loads(done.out)["orders"]] == ["direct/hou-1"]
    assert done.code == 1
    for mute in ("nor-1", "hub-1"):
        assert f"{mute} ({mute}: its gateway does not answer (UNAVAILABLE)" in done.err
