"""What pre-empting work costs: by hand, on columns, and the same reload times as the devices' own table."""

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.devices.settling import LARGE_GIB, Transition, gpu_family, timing
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.economics.bounds import ImplausibleValueError
from hcp_pipelines.economics.preemption import (
    LARGE_WEIGHTS_GIB,
    lost_progress_gpu_s,
    preemption_cost_usd,
    reload_s,
)

ROWS = {
    "lost_progress_gpu_s": [0.0, 3600.0, 8 * 1800.0],
    "usd_per_gpu_hour": [2.0, 3.0, 1.5],
    "reload_s": [60.0, 0.0, 180.0],
    "sla_penalty_usd": [0.0, 5.0, 100.0],
    "gpu_count": [1.0, 1.0, 8.0],
}
BY_HAND = [2 / 60, 3 + 5, 4 * 1.5 + 8 * 0.05 * 1.5 + 100]


@pytest.mark.parametrize("n", range(3))
def test_numbers_are_as_by_hand(n):
    assert preemption_cost_usd(*(column[n] for column in ROWS.values())) == pytest.approx(BY_HAND[n])


def test_arrays_and_polars_columns_give_the_same_dollars():
    arrays = preemption_cost_usd(*(np.array(column) for column in ROWS.values()))
    columns = pl.DataFrame(ROWS).select(usd=preemption_cost_usd(*(pl.col(name) for name in ROWS)))["usd"]
    assert arrays.tolist() == pytest.approx(BY_HAND)
    assert columns.to_list() == pytest.approx(BY_HAND)


def test_no_rows_cost_nothing():
    assert preemption_cost_usd(*(np.array([]) for _ in ROWS)).size == 0


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_what_can_not_be_is_named_and_refused(name, value):
    columns = {each: np.array(column) for each, column in ROWS.items()}
    columns[name][1] = value
    with pytest.raises(ImplausibleValueError, match=f"{name}="):
        preemption_cost_usd(*columns.values())


def test_work_without_a_checkpoint_loses_everything_and_one_that_stands_still_nothing():
    assert lost_progress_gpu_s(7200.0, 0.0, 4) == 28_800.0
    assert lost_progress_gpu_s(7200.0, 7200.0, 4) == 0.0


@pytest.mark.parametrize(
    ("workload_type", "state"),
    [
        (WorkloadType.AI_INFERENCE_REALTIME, DeviceState.INFERENCE_REALTIME),
        (WorkloadType.AI_INFERENCE_BATCH, DeviceState.INFERENCE_BATCH),
        (WorkloadType.MODEL_TRAINING, DeviceState.TRAINING),
    ],
)
@pytest.mark.parametrize("weights_gib", [None, 16.0, 140.0])
def test_reloads_take_what_the_devices_table_says(workload_type, state, weights_gib):
    assert reload_s(workload_type, weights_gib) == timing(gpu_family(state, weights_gib), Transition.WAKE).typical_s
    assert LARGE_WEIGHTS_GIB == LARGE_GIB
