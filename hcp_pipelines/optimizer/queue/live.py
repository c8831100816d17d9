"""The queue in a solve's inputs: only where a facility has scheduled groups, everybody else's inputs stay as they are."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl
import psycopg

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.optimizer.inputs import FacilityInputs, WorkStep
from hcp_pipelines.optimizer.queue.ahead import QueueWork
from hcp_pipelines.optimizer.queue.curve import spare_step, steps_by_place, unplaced
from hcp_pipelines.optimizer.queue.deadlines import with_urgency
from hcp_pipelines.optimizer.queue.places import Place, placed, places_of
from hcp_pipelines.optimizer.queue.read import Queue, read_queue
from hcp_pipelines.optimizer.queue.valued import valued


def with_queue(
    connection: "psycopg.Connection[Any]", inputs: Sequence[FacilityInputs], now: datetime
) -> list[FacilityInputs]:
    """The inputs, with what the queue asks of each scheduled group and what these do now; without such groups nothing is read."""
    places = places_of(inputs)
    return with_work(read_queue(connection, now), inputs, places) if places else list(inputs)


def queue_ahead(
    connection: "psycopg.Connection[Any]", inputs: Sequence[FacilityInputs], now: datetime
) -> dict[str, QueueWork]:
    """By facility with scheduled groups what the queue asks of them over the hours ahead; without such nothing is read."""
    places = places_of(inputs)
    if not places:
        return {}
    queue = read_queue(connection, now)
    served = valued(placed(with_urgency(queue.work, _gpus_by_type(places)), places), places)
    found: dict[str, list[int]] = {}
    for n, place in enumerate(places):
        found.setdefault(place.site.facility_id, []).append(n)
    return {name: QueueWork(now, served.filter(pl.col("place").is_in(rows))) for name, rows in found.items()}


def with_work(queue: Queue, inputs: Sequence[FacilityInputs], places: Sequence[Place]) -> list[FacilityInputs]:
    """The same from a queue that was read. Pure."""
    work = placed(with_urgency(queue.work, _gpus_by_type(places)), places)
    served = valued(work, places)
    steps, left = steps_by_place(served), unplaced(work, served, places)
    asked: dict[str, dict[str, tuple[WorkStep, ...]]] = {}
    present: dict[str, dict[str, dict[DeviceState, int]]] = {}
    taken, held = _taken(served), _held(served)
    for n, place in enumerate(places):
        own, facility_id, group_id = steps.get(n, ()), place.site.facility_id, place.group.group_id
        spare = spare_step(place, taken.get(n, 0), queue.spare_gpu_fraction)
        asked.setdefault(facility_id, {})[group_id] = own + spare
        present.setdefault(facility_id, {})[group_id] = held.get(n, {})
    return [
        replace(
            each,
            work=asked[each.site.facility_id],
            present={**each.present, **present[each.site.facility_id]},
            unplaced=left,
        )
        if each.site.facility_id in asked
        else each
        for each in inputs
    ]


def _gpus_by_type(places: Sequence[Place]) -> dict[str, int]:
    found: dict[str, int] = {}
    for place in places:
        found[place.group.gpu_type] = found.get(place.group.gpu_type, 0) + place.group.devices
    return found


def _taken(served: pl.DataFrame) -> dict[int, int]:
    """GPUs of each place that work holds or is to get."""
    return dict(served.group_by("place").agg(pl.col("gpus").sum()).iter_rows())


def _held(served: pl.DataFrame) -> dict[int, dict[DeviceState, int]]:
    """Devices of each place by the state of the work that holds them."""
    found: dict[int, dict[DeviceState, int]] = {}
    held = served.filter("is_held").group_by("place", "state").agg(pl.col("gpus").sum())
    for place, state, gpus in held.iter_rows():
        found.setdefault(place, {})[DeviceState(state)] = gpus
    return found
