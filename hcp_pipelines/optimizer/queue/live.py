"""The queue in a solve's inputs: only where a facility has scheduled groups, everybody else's inputs stay as they are."""

from collections.abc import Mapping, Sequence
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
from hcp_pipelines.optimizer.queue.expected import Expected, coming_by_place, room_by_place
from hcp_pipelines.optimizer.queue.forecast import OFF, read_expected
from hcp_pipelines.optimizer.queue.places import Place, beside_elsewhere, placed, places_of
from hcp_pipelines.optimizer.queue.read import Queue, read_queue
from hcp_pipelines.optimizer.queue.valued import valued
from hcp_pipelines.policy.schema import WorkExpected


def with_queue(
    connection: "psycopg.Connection[Any]", inputs: Sequence[FacilityInputs], now: datetime, quantile: str = OFF
) -> list[FacilityInputs]:
    """The inputs, with what the queue asks of each scheduled group and what these do now; without such groups nothing is read.

    Args:
        connection: with the rights of hcp_control.
        inputs: of some facilities.
        now: the solve's instant.
        quantile: of the demand that is forecast, as q90: room is kept for what of it isn't there yet; `off`: asks no forecast.
    """
    places = places_of(inputs)
    if not places:
        return list(inputs)
    expected = read_expected(connection, now, quantile)
    return with_work(read_queue(connection, now), inputs, places, expected)


def queue_ahead(
    connection: "psycopg.Connection[Any]", inputs: Sequence[FacilityInputs], now: datetime, quantile: str = OFF
) -> tuple[dict[str, QueueWork], str]:
    """By facility with scheduled groups what the queue asks of them over the hours ahead, with what is expected beside it.

    Without such groups nothing is read. The text says whose word the expectation is, or why there is none.
    """
    places = places_of(inputs)
    if not places:
        return {}, ""
    expected, queue = read_expected(connection, now, quantile), read_queue(connection, now)
    is_open = with_urgency(queue.work, _gpus_by_type(places))
    work = placed(is_open, places)
    served = valued(work, places)
    coming = coming_by_place(expected, beside_elsewhere(is_open, work, places), served, places, now)
    found: dict[str, list[int]] = {}
    for n, place in enumerate(places):
        found.setdefault(place.site.facility_id, []).append(n)
    ahead = {
        name: QueueWork(now, served.filter(pl.col("place").is_in(rows)), tuple(coming[n] for n in rows))
        for name, rows in found.items()
    }
    word = expected.word
    return ahead, f"work to come: {word.model} ({word.quantile})" if word.model else f"no work to come: {word.reason}"


def with_work(
    queue: Queue,
    inputs: Sequence[FacilityInputs],
    places: Sequence[Place],
    expected: Expected | None = None,
) -> list[FacilityInputs]:
    """The same from a queue that was read, and what is expected beside it; not given, policies say nothing of it. Pure."""
    is_open = with_urgency(queue.work, _gpus_by_type(places))
    work = placed(is_open, places)
    served = valued(work, places)
    steps, left = steps_by_place(served), unplaced(work, served, places)
    asked: dict[str, dict[str, tuple[WorkStep, ...]]] = {}
    present: dict[str, dict[str, dict[DeviceState, int]]] = {}
    taken, held = _taken(served), _held(served)
    room, kept = _room(expected, (is_open, work), inputs, places, taken), dict[str, int]()
    for n, place in enumerate(places):
        own, facility_id, group_id = steps.get(n, ()), place.site.facility_id, place.group.group_id
        spare = spare_step(place, taken.get(n, 0), queue.spare_gpu_fraction, room[n])
        kept[facility_id] = kept.get(facility_id, 0) + (room[n] if spare else 0)
        asked.setdefault(facility_id, {})[group_id] = own + spare
        present.setdefault(facility_id, {})[group_id] = held.get(n, {})
    return [
        replace(
            each,
            work=asked[each.site.facility_id],
            present={**each.present, **present[each.site.facility_id]},
            unplaced=left,
            expected=_told(expected, kept[each.site.facility_id]),
        )
        if each.site.facility_id in asked
        else each
        for each in inputs
    ]


def _room(
    expected: Expected | None,
    open_and_placed: tuple[pl.DataFrame, pl.DataFrame],
    inputs: Sequence[FacilityInputs],
    places: Sequence[Place],
    taken: Mapping[int, int],
) -> list[int]:
    """GPUs of each place to keep for what is expected before its policy is due to be refreshed."""
    if expected is None or not expected.gpus:
        return [0] * len(places)
    when = max(each.solved_at for each in inputs), max(each.refresh_after_s for each in inputs)
    return room_by_place(expected, beside_elsewhere(*open_and_placed, places), places, taken, when)


def _told(expected: Expected | None, gpus: int) -> WorkExpected | None:
    return None if expected is None else expected.word.model_copy(update={"gpus": gpus})


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
