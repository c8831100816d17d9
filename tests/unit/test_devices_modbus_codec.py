"""Register words to values, without sockets: golden words, and what no device can have said."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.devices.modbus import codec
from hcp_pipelines.devices.modbus.codec import BreakerState, CoolingAlarm
from hcp_pipelines.domain.errors import DeviceReplyError

METER_WORDS = bytes.fromhex(
    "0001 0001 6e6f 722d 3100" + "0000" * 13 + "0000 0000"  # kind, version, "nor-1", two reserved
    "48b7 1b00 0005 b8d8 0000 0000 000d b1c2"  # 375000 W as float32 and int32, 897474 Wh
    "4704 1d00 4071 0000 4270 0000 03ca 0000 677a 7e80"  # 33821 V, 3.765625 A, 60 Hz, 0.970, reserved, 1736081024
)


def words(raw):
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


def changed(raw, address, *values):
    result = words(raw)
    result[address : address + len(values)] = values
    return result


def float_words(value):
    return struct.unpack(">HH", struct.pack(">f", value))


def breaker(**values):
    """Words of a breaker's map: 1.2 MW through a limit of 2 MW, closed."""
    given_values = {
        "kind": 3,
        "map_version": 1,
        "name": "f1",
        "power": 1.2e6,
        "limit": 2e6,
        "state": 1,
        "load": 0.6,
    } | values
    result = [0] * codec.words_of("breaker")
    for field in codec.BREAKER:
        value = given_values.get(field.name, 0)
        if field.type == "string":
            own = words(str(value).encode().ljust(32, b"\0"))
        elif field.type == "float32":
            own = float_words(value)
        else:
            own = [round(value * field.scale)]
        result[field.address : field.address + field.words] = own
    return result


def test_golden_words_of_a_meter():
    reading = codec.decode_meter(words(METER_WORDS), "big")
    assert (reading.site, reading.power_w, reading.energy_wh) == ("nor-1", 375_000.0, 897_474)
    assert (reading.voltage_v, reading.current_a, reading.frequency_hz) == (33_821.0, 3.765625, 60.0)
    assert (reading.power_factor, reading.metered_at_s) == (0.97, 1_736_081_024)


def test_a_breakers_state_is_named():
    assert codec.decode_breaker(breaker(), "big").state is BreakerState.CLOSED
    shed = codec.decode_breaker(breaker(state=3, heat=0.25, trips=7), "big")
    assert (shed.state, shed.heat_fraction, shed.trips, shed.load_fraction) == (
        BreakerState.SHED_BY_RELAY,
        0.25,
        7,
        0.6,
    )


def test_the_cooling_plant_below_zero_and_with_a_pump_down():
    result = [0] * codec.words_of("cooling")
    result[:2] = 4, 1
    result[20:28] = 0x10000 - 125, 254, 1267, 3, 0b101, 2, 0b011, 800
    reading = codec.decode_cooling(result, "big")
    assert (reading.outdoor_celsius, reading.supply_celsius, reading.pue, reading.pumps) == (-12.5, 25.4, 1.267, 3)
    assert (reading.running_pumps, reading.load_fraction) == ({0, 2}, 0.8)
    assert reading.alarms == CoolingAlarm.PUMP_FAILED | CoolingAlarm.HIGH_TEMPERATURE


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (words(METER_WORDS)[:-1], "37 registers, 38 were asked for"),
        (changed(METER_WORDS, 0, 3), "unit is of kind 3, a meter is 1"),
        (changed(METER_WORDS, 1, 2), "register map version 2; this driver knows 1"),
        (changed(METER_WORDS, 20, *float_words(float("nan"))), "power not finite; is the word order big"),
        (changed(METER_WORDS, 22, 0, 1), "power is 375000 W and 1 W; is the word order big"),
        (changed(METER_WORDS, 32, *float_words(600.0)), "600 Hz is outside 45 to 66"),
    ],
)
def test_what_a_meter_cannot_have_said_is_reported(got, message):
    with pytest.raises(DeviceReplyError, match=message):
        codec.decode_meter(got, "big")


def test_the_wrong_word_order_is_noticed_and_the_right_one_reads():
    turned = words(METER_WORDS)
    for field in codec.METER:
        if field.type != "string":
            turned[field.address : field.address + field.words] = turned[field.address : field.address + field.words][
                ::-1
            ]
    with pytest.raises(DeviceReplyError, match="word order big"):
        codec.decode_meter(turned, "big")
    assert codec.decode_meter(turned, "little") == codec.decode_meter(words(METER_WORDS), "big")
    with pytest.raises(DeviceReplyError, match="word order little"):
        codec.decode_breaker(breaker(), "little")


def test_unknown_states_are_reported():
    with pytest.raises(DeviceReplyError, match="breaker f1: state 9; 0 to 4 are known"):
        codec.decode_breaker(breaker(state=9), "big")
    with pytest.raises(DeviceReplyError, match="limit 0 W"):
        codec.decode_breaker(breaker(limit=0.0), "big")


@given(st.sampled_from(sorted(codec.MAPS)), st.data(), st.sampled_from(["big", "little"]))
def test_any_words_decode_or_are_reported(name, data, order):
    size = codec.words_of(name)
    got = data.draw(st.lists(st.integers(0, 65_535), min_size=size, max_size=size))
    got[:2] = codec._KINDS[name], 1
    try:
        reading = getattr(codec, f"decode_{name}")(got, order)
    except DeviceReplyError:
        return
    assert reading is not None
