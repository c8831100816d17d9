"""Samples as rows: of `raw.telemetry` one a device and instant, of `raw.meter_readings` one a facility.

Columns are made by numpy, never a device at a time.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hcp_pipelines.collector.columns import METER_READINGS, TELEMETRY, arrow_schema
from hcp_pipelines.wire.telemetry import Floats, Sample

TABLE = "raw.telemetry"
BATCHES = "raw._telemetry_batches"
METERS = "raw.meter_readings"
MINUTE_US = 60_000_000
_INSTANT = pa.timestamp("us", tz="UTC")

SCHEMA = arrow_schema(TELEMETRY)
BATCHES_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("facility_id", pa.string()),
        ("first_seq", pa.int64()),
        ("last_seq", pa.int64()),
        ("minute", pa.int64()),  # Unix minute of simulated time
        ("rows", pa.int64()),
        ("sampled_at", _INSTANT),  # of the newest sample, real
        ("written_at", _INSTANT),
    ]
)

METER_SCHEMA = arrow_schema(METER_READINGS)


def rows_of(samples: Sequence[Sample]) -> Any:
    """An Arrow table of the samples' rows: 12 columns, in the order of the samples."""
    return pa.concat_tables([_rows(sample) for sample in samples]) if samples else SCHEMA.empty_table()


def batches_of(samples: Sequence[Sample], number: int, written_at_us: int) -> Any:
    """One row a facility and minute: what of them is in the batch of this number."""
    rows = [_batch(list(own), number, written_at_us) for _, own in groupby(sorted(samples, key=_place), key=_place)]
    columns = zip(*rows, strict=True) if rows else ((),) * len(BATCHES_SCHEMA)
    arrays = [pa.array(c, t) for c, t in zip(columns, BATCHES_SCHEMA.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=BATCHES_SCHEMA)


def meters_of(samples: Sequence[Sample]) -> Any:
    """One row a sample that has the meter in it."""
    rows = [
        (s.facility_id, s.meter.read_at_us, s.sampled_at_us, s.seq, s.meter.power_kw, s.meter.energy_mwh,
         s.meter.energy_mwh is not None)
        for s in samples if s.meter is not None
    ]  # fmt: skip
    columns = zip(*rows, strict=True) if rows else ((),) * len(METER_SCHEMA)
    arrays = [pa.array(c, t) for c, t in zip(columns, METER_SCHEMA.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=METER_SCHEMA)


def minutes_of(samples: Sequence[Sample]) -> dict[int, int]:
    """How many rows fall into each Unix minute of simulated time."""
    rows: dict[int, int] = {}
    for sample in samples:
        minute = sample.simulated_at_us // MINUTE_US
        rows[minute] = rows.get(minute, 0) + sample.devices
    return rows


def _rows(sample: Sample) -> Any:
    n = sample.devices
    runs = np.array([part.devices for part in sample.parts])
    firsts = np.array([part.first_slot for part in sample.parts])
    starts = np.concatenate([[0], np.cumsum(runs)[:-1]])
    slots = (np.arange(n) + np.repeat(firsts - starts, runs)).astype(np.int32)
    columns = [
        _instant(sample.simulated_at_us, n),
        _instant(sample.sampled_at_us, n),
        _named([sample.facility_id], np.zeros(n, dtype=np.int32)),
        _named([part.group_id for part in sample.parts], np.repeat(np.arange(len(runs), dtype=np.int32), runs)),
        pa.array(np.full(n, sample.generation, dtype=np.int64)),
        pa.array(slots),
        pa.array(np.full(n, sample.seq, dtype=np.int64)),
        _numbers(sample.power_kw, n),
        _numbers(sample.hashrate_th_per_s, n),
        _numbers(sample.temperature_celsius, n),
        pa.array(sample.state),
        pa.array(sample.flags),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _instant(at_us: int, n: int) -> Any:
    return pa.array(np.full(n, at_us, dtype=np.int64)).cast(_INSTANT)


def _named(names: list[str], codes: npt.NDArray[np.int32]) -> Any:
    return pa.array(names, pa.string()).take(pa.array(codes))


def _numbers(column: Floats | None, n: int) -> Any:
    """What is no number is null: an average would be none either."""
    if column is None:
        return pa.nulls(n, pa.float32())
    return pa.array(column, mask=~np.isfinite(column))


def _place(sample: Sample) -> tuple[str, int]:
    return sample.facility_id, sample.simulated_at_us // MINUTE_US


def _batch(own: Sequence[Sample], number: int, written_at_us: int) -> tuple[Any, ...]:
    facility_id, minute = _place(own[0])
    return (
        number, facility_id, min(s.seq for s in own), max(s.seq for s in own), minute,
        sum(s.devices for s in own), max(s.sampled_at_us for s in own), written_at_us,
    )  # fmt: skip
