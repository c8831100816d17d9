"""Scheduled GPU groups and a queue of work for them, without a database."""

from datetime import UTC, datetime

import polars as pl

from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.optimizer.inputs import FacilityInputs, GroupInputs, SiteInputs, StateInputs
from hcp_pipelines.optimizer.queue.live import with_work
from hcp_pipelines.optimizer.queue.places import places_of
from hcp_pipelines.optimizer.queue.read import WORK, Queue
from hcp_pipelines.optimizer.solve import solve_facility

NOW = datetime(2025, 1, 1, tzinfo=UTC)
OFF, IDLE, FULL = DeviceState.CURTAILED, DeviceState.IDLE, DeviceState.MINING_FULL
REALTIME, BATCH, TRAINING = DeviceState.INFERENCE_REALTIME, DeviceState.INFERENCE_BATCH, DeviceState.TRAINING
GPU_LADDER = (StateInputs(IDLE, 0.4), StateInputs(BATCH, 1.2), StateInputs(REALTIME, 1.3), StateInputs(TRAINING, 1.4))
CLASSES = ("ai_inference_realtime", "ai_inference_batch", "model_training")
INDICES = {"hashprice": 50.0, "gpu.H100": 2.0}


def gpus(devices=100, group_id="h100", feeder="f1", ladder=GPU_LADDER, is_scheduled=True):
    return GroupInputs(
        group_id, feeder, ResourceType.GPU, devices, ladder, "H100", "H100 SXM5", 80.0, is_scheduled=is_scheduled
    )


def miners(devices=100, group_id="s21", feeder="f2"):
    return GroupInputs(
        group_id, feeder, ResourceType.ASIC, devices, (StateInputs(OFF, 0.025), StateInputs(FULL, 3.5, 200.0))
    )


def site(groups, facility_id="f", capacity_mw=10.0, **more):
    return SiteInputs(facility_id, "HB_HOUSTON", 1, 0, capacity_mw, tuple(groups), {}, **more)


def inputs(one_site, price=30.0, **more):
    return FacilityInputs(one_site, 7, NOW, price, INDICES, **more)


def job(number=1, kind="model_training", gpu_count=8, **more):
    """A row of the queue: waits, interruptible, an hour long, no deadline, owed nothing, pays the market's rate."""
    return dict.fromkeys(WORK) | {
        "number": number, "type": kind, "gpu_type": "H100", "gpus": gpu_count, "is_interruptible": True,
        "credit_fraction": 0.0, "estimated_s": 3600.0, "saved_s": 0.0, "unsaved_s": 0.0, "level": 5,
    } | more  # fmt: skip


def held(number=1, group_id="h100", facility_id="f", agreed=2.0, **more):
    """A row of work that runs."""
    return job(number, **({"facility_id": facility_id, "group_id": group_id, "agreed_usd_per_gpu_hour": agreed} | more))


def queue(*jobs, spare=0.0):
    return Queue(pl.DataFrame(list(jobs), schema=WORK, orient="row"), spare)


def asked(all_inputs, one_queue):
    return with_work(one_queue, all_inputs, places_of(all_inputs))


def solved(one_inputs, one_queue):
    [found] = asked([one_inputs], one_queue)
    return solve_facility(found)
