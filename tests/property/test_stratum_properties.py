"""Whatever arrives at the pool's conversations is answered or refused, and what is encoded is what is read."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.bitcoin import BitcoinNetwork
from simulators.clock import ManualClock
from simulators.pool import v1, v2
from simulators.pool import v2_messages as m
from simulators.pool.config import PoolConfig
from simulators.pool.office import Office
from simulators.pool.v1_messages import MalformedError, Request, parse
from simulators.pool.vardiff import Vardiff
from simulators.pool.work import bits_of, difficulty_of_target, meets, target_of

START_S = 1_735_689_600.0
NETWORK = BitcoinNetwork(7)
METHODS = [
    "mining.configure", "mining.subscribe", "mining.authorize", "mining.submit", "mining.extranonce.subscribe",
    "mining.suggest_difficulty", "mining.suggest_target", "mining.ping", "mining.nothing",
]  # fmt: skip
WORDS = st.sampled_from(
    ["hcp.rig", "hcp", "1", "0" * 8, "0" * 16, "ffffffff", "version-rolling", "minimum-difficulty", "f" * 64]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
U32, U256 = st.integers(0, 2**32 - 1), st.integers(0, 2**256 - 1)
F32 = st.floats(width=32)
TEXT, SHORT, HASH = st.text(max_size=60), st.binary(max_size=32), st.binary(min_size=32, max_size=32)
MESSAGES = st.one_of(
    st.builds(
        m.SetupConnection,
        *[st.integers(0, 255)],
        *[st.integers(0, 65_535)] * 2,
        U32,
        TEXT,
        st.integers(0, 65_535),
        *[TEXT] * 4,
    ),
    st.builds(m.OpenStandardMiningChannel, U32, TEXT, F32, U256),
    st.builds(m.OpenStandardMiningChannelSuccess, U32, U32, U256, SHORT, U32),
    st.builds(m.OpenExtendedMiningChannel, U32, TEXT, F32, U256, st.integers(0, 65_535)),
    st.builds(m.NewMiningJob, U32, U32, st.none() | U32, U32, HASH),
    st.builds(m.SetNewPrevHash, U32, U32, HASH, U32, U32),
    st.builds(m.UpdateChannel, U32, F32, U256),
    st.builds(m.CloseChannel, U32, TEXT),
    st.builds(m.SubmitSharesStandard, *[U32] * 6),
    st.builds(m.SubmitSharesExtended, *[U32] * 6, SHORT),
    st.builds(m.SubmitSharesSuccess, U32, U32, U32, st.integers(0, 2**64 - 1)),
    st.builds(m.SubmitSharesError, U32, U32, TEXT),
)


def blocks(at_s, count):
    return NETWORK.blocks_before(at_s, count)[::-1]


def office():
    return Office(
        PoolConfig(start_difficulty=1e-6, least_difficulty=1e-9), 7, ManualClock(START_S), lambda _name: False, blocks
    )


OFFICE = office()  # whose jobs all share: making them takes longer than an example may


@given(st.lists(st.tuples(st.sampled_from(METHODS), st.lists(VALUES, max_size=7)), max_size=6))
def test_any_requests_are_answered_each_once(requests):
    session = v1.Session(OFFICE, b"\0\0\0\1")
    for number, (method, params) in enumerate(requests):
        said = [json.loads(line) for line in session.answer(Request(number, method, params))]
        assert [one["id"] for one in said if "method" not in one] == [number]
        assert (said[0]["error"] is None) != (said[0]["result"] is None)
        assert {one.get("method") for one in said[1:]} <= {"mining.set_difficulty", "mining.notify"}
    assert session.look() == []


@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_a_request_or_none(line):
    try:
        request = parse(line)
    except MalformedError:
        return
    assert isinstance(request.method, str)
    assert isinstance(request.params, list)


@given(MESSAGES)
def test_a_message_is_read_as_it_was_written(message):
    head, payload = m.encode(message)
    header = m.decode_header(head)
    assert header.length == len(payload)
    found = m.decode(header, payload)
    assert type(found) is type(message)
    assert all(a == b or (a != a and b != b) for a, b in zip(found, message, strict=True))
    for wrong in (payload[:-1], payload + b"\0"):
        with pytest.raises(m.MalformedError):
            m.decode(header, wrong)


@given(st.integers(0, 0xFFFF), st.integers(0, 255), st.binary(max_size=300))
def test_any_payload_is_a_message_or_none(extension, number, payload):
    try:
        message = m.decode(m.decode_header(_head(extension, number, payload)), payload)
    except m.MalformedError:
        return
    assert message is None or type(message).__module__ == m.__name__


def _head(extension, number, payload):
    return extension.to_bytes(2, "little") + bytes([number]) + len(payload).to_bytes(3, "little")


@given(st.lists(MESSAGES, max_size=8))
def test_any_messages_are_answered_or_end_the_connection(messages):
    session = v2.Session(OFFICE, b"\0\0\0\2")
    session.answer(m.SetupConnection(0, 2, 2, 0, "", 0, "", "", "", ""))
    for message in messages:
        for said in session.answer(message):
            m.encode(said)


@given(st.floats(1e-12, 1e15), st.binary(min_size=32, max_size=32))
def test_a_target_is_what_its_difficulty_says(difficulty, found):
    target = target_of(difficulty)
    assert meets(found, target) == (int.from_bytes(found, "little") <= target)
    if target < 2**256 - 1:
        assert difficulty_of_target(target) == pytest.approx(difficulty, rel=1e-9)
    assert target_of(difficulty * 2) <= target


@given(st.floats(1.0, 1e15))
def test_compact_targets_lose_but_their_last_bits(difficulty):
    bits = bits_of(difficulty)
    mantissa, size = bits & 0x7FFFFF, bits >> 24
    assert bits & 0x800000 == 0
    assert mantissa << 8 * (size - 3) == pytest.approx(target_of(difficulty), rel=2**-14)


@given(st.floats(1e-9, 1e12), st.lists(st.tuples(st.integers(0, 40), st.floats(0.0, 600.0)), max_size=20))
def test_vardiff_stays_in_its_bounds_and_moves_by_eight_at_most(difficulty, steps):
    vardiff, now_s = Vardiff(difficulty, 1e-9, 5.0, 0.0), 0.0
    for shares, after_s in steps:
        before, now_s = vardiff.difficulty, now_s + after_s
        for _ in range(shares):
            vardiff.count()
        has_moved = vardiff.moved(now_s)
        assert has_moved == (vardiff.difficulty != before)
        assert 1e-9 <= vardiff.difficulty <= 1e15
        assert math.log(vardiff.difficulty / before, 8) == pytest.approx(0, abs=1.000001)
