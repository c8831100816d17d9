"""What it costs to take devices away from work that runs, in dollars: progress since its last checkpoint, the reload, penalties.

Which work gives way is not decided here. Like its neighbours on plain numbers, on numpy arrays and on polars expressions; arrays
and numbers are held to `bounds.LIMITS`, expressions are as good as their columns.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.economics.bounds import check
from hcp_pipelines.economics.switching import COSTS, SwitchKind

Floats = npt.NDArray[np.float64]
Amount = TypeVar("Amount", float, Floats, pl.Expr)

LARGE_WEIGHTS_GIB = 60.0  # more is a large model, as for the settling of devices (docs/devices.md)
LARGE_LOAD_S = 120.0  # cold load of a 70B model more than 90 s (fridayswithfaraday.com); the upper end a setting
_RELOAD = {
    WorkloadType.AI_INFERENCE_REALTIME: SwitchKind.GPU_LOAD,
    WorkloadType.AI_INFERENCE_BATCH: SwitchKind.GPU_LOAD,
    WorkloadType.MODEL_TRAINING: SwitchKind.TRAINING_RESUME,
    WorkloadType.BITCOIN_MINING: SwitchKind.ASIC_WAKE,
}


def preemption_cost_usd(
    lost_progress_gpu_s: Amount,
    usd_per_gpu_hour: Amount,
    reload_s: Amount,
    sla_penalty_usd: Amount,
    gpu_count: Amount | float = 1.0,
) -> Amount:
    """Dollars of pre-empting running work: (lost + reload · GPUs) / 3600 · rate + penalty.

    What was lost is computed again, and while the work is loaded its GPUs earn nothing: both at what an hour of a GPU brings.

    >>> preemption_cost_usd(8 * 900.0, 2.5, 180.0, 20.0, 8)  # a quarter of an hour of eight GPUs, and three minutes to resume
    26.0

    Args:
        lost_progress_gpu_s: GPU-seconds since the last checkpoint, of all its GPUs (`lost_progress_gpu_s`).
        usd_per_gpu_hour: what it pays.
        reload_s: seconds until it works again once it has devices (`reload_s`).
        sla_penalty_usd: owed for the interruption or the deadline that it makes impossible.
        gpu_count: GPUs that it holds.

    Raises:
        ImplausibleValueError: a number outside its limit, or none.

    Source: the parts that issue 9 names (lost progress, reload, penalty); the formula is ours.
    """
    _check(lost_progress_gpu_s=lost_progress_gpu_s, usd_per_gpu_hour=usd_per_gpu_hour, gpu_count=gpu_count)
    _check(reload_s=reload_s, sla_penalty_usd=sla_penalty_usd)
    return (lost_progress_gpu_s + reload_s * gpu_count) * usd_per_gpu_hour / 3600 + sla_penalty_usd


def lost_progress_gpu_s(ran_s: float, checkpointed_s: float, gpu_count: float) -> float:
    """GPU-seconds that would be computed again: what ran since the last checkpoint, times the GPUs.

    >>> lost_progress_gpu_s(4000.0, 3100.0, 8), lost_progress_gpu_s(50.0, 60.0, 8)
    (7200.0, 0.0)

    Args:
        ran_s: seconds of running so far, of all runs.
        checkpointed_s: seconds of running that the last checkpoint holds; 0 where there is none. Work that says more than it
            ran loses nothing.
        gpu_count: GPUs that it holds.
    """
    return max(ran_s - checkpointed_s, 0.0) * gpu_count


def reload_s(workload_type: WorkloadType, weights_gib: float | None = None) -> float:
    """Seconds until work goes on, on devices that stand ready: a model is loaded, a checkpoint restored, a miner woken.

    >>> reload_s(WorkloadType.MODEL_TRAINING), reload_s(WorkloadType.AI_INFERENCE_REALTIME, 140.0)
    (180.0, 120.0)

    Source: `switching.COSTS`, and for models of more than 60 GiB of weights `LARGE_LOAD_S`.
    """
    kind = _RELOAD[workload_type]
    if kind is SwitchKind.GPU_LOAD and weights_gib is not None and weights_gib > LARGE_WEIGHTS_GIB:
        return LARGE_LOAD_S
    return COSTS[kind].minutes * 60


def _check(**values: Amount | float) -> None:
    for name, value in values.items():
        if isinstance(value, pl.Expr):
            continue
        column = np.asarray(value, dtype=np.float64)
        if column.size:
            check(**{name: float(column.min())})
            check(**{name: float(column.max())})
