"""Samples on the wire: what was taken comes out again, and what makes no sense is refused with its bound."""

import contextlib
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.wire import telemetry_v1_pb2 as pb
from hcp_pipelines.wire.telemetry import DEVICES_MAX, Meter, Part, Sample, decode_sample, encode_sample

PARTS = (Part("asic", 0, 3), Part("gpu", 10, 2))
SAMPLE = Sample(
    "one", 4, 1_700_000_000_123, 1_700_000_000_000_000, 1_600_000_000_000_000, PARTS,
    np.array([3.5, np.nan, 0.1, 1.3, 1.2], dtype=np.float32), None, np.arange(5, dtype=np.float32),
    np.array([3, 255, 0, 5, 5], dtype=np.uint8), np.array([1, 0, 1, 17, 9], dtype=np.uint8), 7,
    Meter(1_600_000_000_000_000, 12_500.5, 1234.567891),
)  # fmt: skip


def same(a, b):
    return a is b is None or np.array_equal(a, b, equal_nan=getattr(a, "dtype", None) == np.float32)


def test_what_was_taken_comes_out_again():
    back = decode_sample(encode_sample(SAMPLE))
    for field in dataclasses.fields(Sample):
        before, after = getattr(SAMPLE, field.name), getattr(back, field.name)
        assert same(before, after) if isinstance(before, np.ndarray) else before == after, field.name


def test_a_facility_without_a_register_tells_its_power_alone():
    summed = dataclasses.replace(SAMPLE, meter=Meter(1_600_000_000_000_000, 80.0))
    assert decode_sample(encode_sample(summed)).meter == summed.meter
    assert decode_sample(encode_sample(dataclasses.replace(SAMPLE, meter=None))).meter is None


def broken(**changes):
    message = pb.Sample.FromString(encode_sample(SAMPLE))
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def with_meter(**changes):
    message = broken()
    for name, value in changes.items():
        setattr(message.meter, name, value)
    return message


def with_part(first_slot, devices, group_id="x"):
    message = broken()
    message.parts.add(group_id=group_id, first_slot=first_slot, devices=devices)
    return message


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (broken(seq=0), "seq is 0"),
        (broken(seq=2**63), "seq is 9223372036854775808"),
        (broken(generation=0), "generation is 0"),
        (broken(sampled_at_us=-1), "sampled_at_us is -1"),
        (broken(simulated_at_us=2**62), "simulated_at_us is"),
        (broken(power_kw=b""), "without power_kw"),
        (broken(power_kw=b"\0" * 16), "bytes of power_kw is 16, not 20"),
        (broken(hashrate_th_per_s=b"\0"), "bytes of hashrate_th_per_s is 1, not 20"),
        (broken(state=b"\0"), "bytes of state is 1, not 5"),
        (broken(flags=b""), "bytes of flags is 0, not 5"),
        (with_meter(read_at_us=0), "read_at_us of the meter is 0"),
        (with_meter(power_kw=float("nan")), "power_kw of the meter is nan"),
        (with_meter(energy_mwh=-1.0), "energy_mwh of the meter is -1.0"),
        (with_part(11, 1), "first_slot of x is 11, not 12"),
        (with_part(2**32 - 1, 1), "first_slot of x is"),
        (with_part(20, DEVICES_MAX), "devices is 1000005"),
        (with_part(20, 2**32 - 1), "last slot of x"),
        (with_part(20, 1, "g" * 201), "the length of a group's id is 201"),
        (pb.Sample(), "parts is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(message, reason):
    with pytest.raises(ValueError, match=reason):
        decode_sample(message.SerializeToString())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_sample_or_refused(payload):
    with contextlib.suppress(ValueError):
        assert decode_sample(payload).devices
