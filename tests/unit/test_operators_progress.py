"""How far an order has got, by what a gateway says: asleep is not locked."""

import numpy as np

from hcp_pipelines.operators.progress import are_down, are_locked
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots
from tests.support import fleet


def asleep(inventory, locked=()):
    states = np.full(inventory.slots, 255, dtype=np.uint8)
    for group in inventory.groups:
        states[group.first_slot : group.first_slot + group.devices] = int(group.lowest)
    held = encode_slots(np.array(sorted(locked), dtype=np.uint32))
    return pb.FacilityState(states=states.tobytes(), observed=states.tobytes(), locked=held)


def test_a_lock_is_done_once_the_gateway_holds_it_not_when_devices_happen_to_sleep():
    inventory, slots = fleet.inventory(), np.array([3, 4], dtype=np.uint32)
    assert are_down(inventory, slots)(asleep(inventory))
    reached = are_locked(inventory, slots)
    assert [reached(asleep(inventory, locked)) for locked in ((), (3,), (3, 4), (2, 3, 4, 5))] == [
        False,
        False,
        True,
        True,
    ]


def test_a_feeder_s_lock_is_of_all_its_devices_and_of_no_other():
    inventory = fleet.inventory()
    feeder = inventory.groups[0].feeder_id
    mine = [
        slot
        for group in inventory.groups
        if group.feeder_id == feeder
        for slot in range(group.first_slot, group.first_slot + group.devices)
    ]
    reached = are_locked(inventory, feeder_id=feeder)
    assert reached(asleep(inventory, mine))
    assert not reached(asleep(inventory, mine[1:]))
