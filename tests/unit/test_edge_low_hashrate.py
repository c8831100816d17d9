"""Miners that hash as one with a dead board does, as a gateway tells them by group."""

import numpy as np
from prometheus_client import REGISTRY

from hcp_pipelines.devices.site import Reading
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.edge.device_metrics import DeviceMetrics
from hcp_pipelines.edge.low_hashrate import LOOK_EACH_S, LOW_FOR_S
from hcp_pipelines.edge.shape import SiteShape
from tests.unit.test_edge_log_and_settling import facility

OFF, FULL = int(DeviceState.CURTAILED), int(DeviceState.MINING_FULL)
AT_S = 1_750_000_000.0


def told(shape, metrics, states, hashrate, at_s):
    reading = Reading(at_s, np.zeros(shape.slots, np.float32), hashrate_th_per_s=np.array(hashrate, np.float32))
    metrics.tell(reading, reading.values, np.array(states, np.uint8))
    labels = {"facility_id": shape.facility_id, "group_id": shape.group_ids[0]}
    return REGISTRY.get_sample_value("hcp_asic_low_hashrate_miners", labels)


def test_what_hashes_less_for_a_quarter_of_an_hour_is_counted_and_what_wakes_is_not():
    ladder = [{"state": OFF, "power_kw": 0.025, "settle_s": 20}, {"state": FULL, "power_kw": 3.5, "settle_s": 60}]
    group = {"group_id": "a", "feeder_id": "f1", "first_slot": 0, "devices": 8, "pue": 1.2, "ladder": ladder}
    shape = SiteShape.of(facility(facility_id="low", groups=[group]))
    metrics, all_on = DeviceMetrics(shape), [FULL] * 8
    whole, low = [200.0] * 8, [200.0] * 6 + [133.0, 133.0]
    assert told(shape, metrics, all_on, whole, AT_S) == 0
    begin = AT_S + LOOK_EACH_S
    assert told(shape, metrics, all_on, low, begin) == 0
    assert told(shape, metrics, all_on, [200.0] * 7 + [133.0], begin + LOW_FOR_S / 2) == 0  # one was waking
    assert told(shape, metrics, all_on, low, begin + LOW_FOR_S) == 1
    assert told(shape, metrics, all_on, whole, begin + LOW_FOR_S + LOOK_EACH_S / 2) == 1  # not looked at yet
    assert told(shape, metrics, [FULL] * 7 + [OFF], [200.0] * 7 + [0.0], begin + 2 * LOW_FOR_S) == 0
    assert told(shape, metrics, [FULL] * 4 + [OFF] * 4, [200.0] * 3 + [9.0] * 5, begin + 4 * LOW_FOR_S) == 0
