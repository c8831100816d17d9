"""Bitmaps on the wire: what we write any library reads, what it writes we read, and what lies is refused."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from hcp_pipelines.wire.slots import decode_slots, encode_slots

LIMIT = 1_000_000
runs = st.builds(lambda first, length: range(first, first + length), st.integers(0, 900_000), st.integers(1, 70_000))
sets = st.one_of(
    st.sets(st.integers(0, LIMIT - 1), max_size=200),
    runs.map(set),
    st.builds(lambda r, step: set(r[::step]), runs, st.integers(2, 9)),
    st.builds(lambda a, b: set(a[:5000]) | set(b[:5000:3]), runs, runs),
)


@settings(max_examples=60, deadline=None)
@given(sets, st.booleans())
def test_every_kind_of_container_is_read_as_the_library_means_it(members, is_optimized):
    bitmap = BitMap(members)
    if is_optimized:
        bitmap.run_optimize()
    assert decode_slots(bitmap.serialize(), LIMIT).tolist() == sorted(members)
    ours = encode_slots(np.array(sorted(members), dtype=np.uint32))
    assert (BitMap.deserialize(ours) if ours else BitMap()) == bitmap


def test_damaged_bytes_are_refused_or_mean_rising_slots_below_the_limit():
    draw = random.Random(1)
    mixed = BitMap([*range(100, 30_000), *range(70_000, 90_000, 2), 500_000])
    optimized = mixed.copy()
    optimized.run_optimize()
    sources = [mixed.serialize(), optimized.serialize(), BitMap([1, 5, 70_000]).serialize()]
    refused = 0
    for _ in range(3000):
        damaged = bytearray(draw.choice(sources))
        for _ in range(draw.randint(1, 5)):
            damaged[draw.randrange(min(len(damaged), 60))] = draw.randrange(256)
        if draw.random() < 0.3:
            damaged = damaged[: draw.randrange(len(damaged))]
        try:
            slots = decode_slots(bytes(damaged), LIMIT)
        except ValueError:
            refused += 1
        else:
            assert (np.diff(slots.astype(np.int64)) > 0).all()
            assert not len(slots) or slots[-1] < LIMIT
    assert refused > 1500


@pytest.mark.parametrize(
    "payload",
    [
        b"x",
        b"\xff" * 30,
        BitMap([1]).serialize() + b"x",
        BitMap([LIMIT]).serialize(),
        BitMap([2**32 - 1]).serialize(),
        (12_346).to_bytes(4, "little") + (2**31).to_bytes(4, "little"),
    ],
)
def test_what_is_no_bitmap_of_these_slots_is_refused(payload):
    with pytest.raises(ValueError, match=r"bitmap|beyond"):
        decode_slots(payload, LIMIT)


def test_an_empty_set_is_no_bytes_and_an_empty_bitmap_is_an_empty_set():
    assert encode_slots(np.zeros(0, dtype=np.uint32)) == b""
    assert decode_slots(b"", LIMIT).tolist() == decode_slots(BitMap().serialize(), LIMIT).tolist() == []
