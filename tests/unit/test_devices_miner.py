"""The miner driver without a socket: evidence of power, replies that are almost right, what is remembered before a sleep."""

import asyncio
import json
import stat
import threading

import numpy as np
import pytest

from hcp_pipelines.devices.miner import antminer_codec, luxos_codec, profiles, quirks, whatsminer_codec
from hcp_pipelines.devices.miner.evidence import is_there, power_of, square_with_meters, state_of
from hcp_pipelines.devices.miner.fleet import MinerFleet
from hcp_pipelines.devices.miner.identity_codec import decode_get_version, dialect_of, parse
from hcp_pipelines.devices.miner.profiles import ProfileStore
from hcp_pipelines.devices.miner.telemetry import Dialect, Level, MinerGroup, Profile, Telemetry
from hcp_pipelines.devices.site import Evidence
from hcp_pipelines.domain.errors import ConfigError, DeviceRefusedError, DeviceReplyError, StorageError
from hcp_pipelines.domain.modes import DeviceState
from tests.support.edge import until

OFF, ECO, FULL = DeviceState.CURTAILED, DeviceState.MINING_ECO, DeviceState.MINING_FULL
LEVELS = (Level(OFF, 25.0, 0.0, 40.0), Level(ECO, 2800.0, 172.0, 50.0), Level(FULL, 3500.0, 200.0, 50.0))


# -- evidence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("telemetry", "watts", "evidence"),
    [
        (Telemetry(0.0, is_asleep=True, power_w=3490.0, is_power_measured=True), 3490.0, Evidence.MEASURED),
        (Telemetry(200.0, is_asleep=True, power_w=25.0, is_power_measured=True), 3500.0, Evidence.INFERRED),
        (Telemetry(0.0, is_asleep=True, power_w=345_000.0, is_power_measured=True), 25.0, Evidence.INFERRED),
        (Telemetry(0.0, is_asleep=True, power_w=-1e6, is_power_measured=True), 25.0, Evidence.INFERRED),
        (Telemetry(0.0, is_asleep=True, power_w=1e39, is_power_measured=True), 25.0, Evidence.INFERRED),
        (Telemetry(200.0, is_asleep=True), 3500.0, Evidence.INFERRED),
        (Telemetry(193.0, is_asleep=False, state_told=FULL), 3500.0, Evidence.INFERRED),
        (Telemetry(172.0, is_asleep=False, state_told=FULL), 2800.0, Evidence.INFERRED),
        (Telemetry(500.0, is_asleep=False, state_told=FULL), 3500.0, Evidence.INFERRED),
        (Telemetry(0.0, is_asleep=False, state_told=FULL), 25.0, Evidence.INFERRED),
        (Telemetry(100.0, is_asleep=False, state_told=FULL), 25 + 3475 / 2, Evidence.INFERRED),
        (Telemetry(199.0, is_asleep=False, power_w=3400.0), 3400.0, Evidence.ESTIMATED),
        (Telemetry(199.0, is_asleep=True, power_w=0.0), 3500.0, Evidence.INFERRED),
    ],
)
def test_power_rests_on_what_can_be_known(telemetry, watts, evidence):
    assert power_of(telemetry, LEVELS) == (pytest.approx(watts), evidence)


@pytest.mark.parametrize(
    ("telemetry", "state"),
    [
        (Telemetry(0.0, is_asleep=True), OFF),
        (Telemetry(50.0, is_asleep=False, profile_w=2810.0), ECO),
        (Telemetry(50.0, is_asleep=False), None),
        (Telemetry(198.0, is_asleep=False), FULL),
        (Telemetry(198.0), None),
        (Telemetry(0.0, state_told=ECO), ECO),
    ],
)
def test_a_state_is_told_not_guessed(telemetry, state):
    assert state_of(telemetry, LEVELS) is state


def test_being_there_takes_mode_and_power():
    asleep_and_hashing = Telemetry(200.0, is_asleep=True)
    warming_up = Telemetry(10.0, is_asleep=False, state_told=FULL)
    assert not is_there(asleep_and_hashing, LEVELS[0], LEVELS)
    assert not is_there(warming_up, LEVELS[2], LEVELS)
    assert is_there(Telemetry(200.0, is_asleep=False, state_told=FULL), LEVELS[2], LEVELS)


def squared(power, evidence, metered):
    slots = {"f1": np.arange(len(power))}
    full_w = np.full(len(power), 3500.0, dtype=np.float32)
    return square_with_meters(
        np.array(power, dtype=np.float32), np.array(evidence, dtype=np.uint8), slots, {"f1": metered}, full_w
    )


def test_the_meter_has_the_last_word_about_those_that_do_not_measure():
    honest = squared([3500.0, 25.0, 25.0], [Evidence.MEASURED, Evidence.INFERRED, Evidence.INFERRED], 3560.0)
    assert honest.evidence.tolist() == [Evidence.MEASURED, Evidence.METERED, Evidence.METERED]
    assert honest.power_w.tolist() == [3500.0, 25.0, 25.0]
    assert honest.beyond_w == {}
    liars = squared([25.0] * 4, [Evidence.MEASURED, *[Evidence.INFERRED] * 3], 9100.0)
    assert liars.power_w.tolist() == pytest.approx([25.0, 3025.0, 3025.0, 3025.0])
    assert liars.beyond_w == {"f1": pytest.approx(9000.0)}


@pytest.mark.parametrize(("beyond", "is_told"), [(1.015, False), (1.03, True)])
def test_a_meter_and_its_feeders_losses_are_two_percent_apart(beyond, is_told):
    read = squared([3500.0] * 100, [Evidence.MEASURED] * 100, 350_000.0 * beyond)
    assert bool(read.beyond_w) is is_told


def test_a_third_of_a_hall_that_says_it_sleeps_and_hashes_on_does_not_hide_in_the_meters_tolerance():
    hall = squared(
        [3500.0] * 60 + [25.0] * 40, [Evidence.MEASURED] * 60 + [Evidence.INFERRED] * 40, 60 * 3500.0 + 40 * 3000.0
    )
    assert hall.power_w[60:].tolist() == pytest.approx([3000.0] * 40, rel=0.01)


def test_what_a_silent_device_may_draw_is_not_held_against_the_others_and_the_rest_is():
    left = squared([np.nan, 25.0], [Evidence.NONE, Evidence.INFERRED], 3500.0)
    assert left.power_w[1] == 25.0
    many = squared([np.nan, *[25.0] * 99], [Evidence.NONE, *[Evidence.INFERRED] * 99], 300_000.0)
    assert many.power_w[1:].min() > 2900
    assert np.isnan(many.power_w[0])


def test_miners_that_all_measure_and_all_lie_are_found_by_the_meter():
    liars = squared([25.0] * 100, [Evidence.MEASURED] * 100, 350_000.0)
    assert liars.power_w.tolist() == pytest.approx([3500.0] * 100)
    assert set(liars.evidence.tolist()) == {Evidence.METERED}
    one = squared([25.0] * 99 + [3500.0], [Evidence.MEASURED] * 100, 99 * 25.0 + 3500.0 + 3500.0)
    assert one.power_w[:99].max() < 25.0 + 60.0  # a single one hides in the tolerance, and accuses nobody
    honest = squared([25.0] * 100, [Evidence.MEASURED] * 100, 2540.0)
    assert set(honest.evidence.tolist()) == {Evidence.MEASURED}


def test_the_inferred_are_charged_with_no_more_than_they_can_draw():
    mixed = squared([25.0] * 10, [Evidence.INFERRED] + [Evidence.MEASURED] * 9, 35_000.0)
    assert mixed.power_w[0] < 3500.0 + 3500.0
    assert mixed.power_w[1:].min() > 3000.0


# -- replies that are almost right ---------------------------------------------------------------------------------------


def summary(**changes):
    values = {"MHS 5s": 186_000_000.0, "Power": 3440, "Power Limit": 3441, "Power Mode": "Normal"} | changes
    return {"SUMMARY": [{key: value for key, value in values.items() if value is not None}]}


def test_a_whatsminer_that_reads_no_power_has_not_measured_any():
    decode = whatsminer_codec.decode_summary
    assert decode(summary()).power_w == 3440
    for power in (0, -1, None, ""):
        assert decode(summary(Power=power)).power_w is None
        assert not decode(summary(Power=power)).is_power_measured
    assert decode(summary(**{"Power Mode": "Low"})).state_told is ECO
    with pytest.raises(DeviceReplyError, match="no number MHS 5s"):
        decode(summary(**{"MHS 5s": None}))


@pytest.mark.parametrize(
    ("key", "said", "is_off"), [("mineroff", "false", False), ("btmineroff", "true", True), ("mineroff", True, True)]
)
def test_a_text_of_false_is_not_true(key, said, is_off):
    assert whatsminer_codec.decode_status({"Msg": {key: said}}) is is_off


@pytest.mark.parametrize("reply", [{}, {"Msg": {}}, {"Msg": "off"}, {"Msg": {"mineroff": ""}}])
def test_a_status_that_does_not_say_is_an_error(reply):
    with pytest.raises(DeviceReplyError):
        whatsminer_codec.decode_status(reply)


@pytest.mark.parametrize(
    "reply", [{}, {"code": -1, "msg": "no"}, {"code": 0, "msg": "ok"}, {"code": 0, "msg": {"summary": {}}}]
)
def test_a_version_3_reply_without_figures_is_an_error(reply):
    with pytest.raises(DeviceReplyError):
        whatsminer_codec.decode_v3_summary(reply)


def test_stock_stats_are_read_in_both_shapes():
    old = {"STATS": [{"Type": "Antminer S21"}, {"GHS 5s": "198123.4"}]}
    new = {"STATS": [{"rate_5s": 198_123.4, "miner-mode": "3", "power": 2790}]}
    assert antminer_codec.decode_stats(old) == Telemetry(198.1234)
    told = antminer_codec.decode_stats(new)
    assert (told.state_told, told.is_asleep, told.power_w, told.is_power_measured) == (ECO, False, 2790.0, False)
    for wrong in ({}, {"STATS": [{}]}, {"STATS": [{}, {"GHS 5s": ""}]}, {"STATS": [{"rate_5s": 1, "miner-mode": 9}]}):
        with pytest.raises(DeviceReplyError):
            antminer_codec.decode_stats(wrong)


CONFIGURATION = {
    "pools": [{"url": "stratum+tcp://a", "user": "u", "pass": "x"}], "bitmain-fan-ctrl": False, "bitmain-fan-pwm": "100",
    "bitmain-work-mode": 0, "bitmain-freq-level": "100",
}  # fmt: skip


@pytest.mark.parametrize(("mode", "state"), [(0, FULL), ("", FULL), ("0", FULL), (2, FULL), (1, OFF), ("3", ECO)])
def test_every_spelling_of_a_stock_mode_is_read(mode, state):
    read = antminer_codec.decode_configuration(CONFIGURATION | {"bitmain-work-mode": mode})
    assert antminer_codec.decode_state(read) is state


@pytest.mark.parametrize(
    "reply",
    [
        {}, {"success": False, "message": "HTTP error"}, {k: v for k, v in CONFIGURATION.items() if k != "pools"},
        CONFIGURATION | {"pools": "none"}, CONFIGURATION | {"bitmain-work-mode": "asleep"},
        {k: v for k, v in CONFIGURATION.items() if k != "bitmain-work-mode"},
    ],
)  # fmt: skip
def test_a_configuration_that_is_not_whole_is_refused(reply):
    with pytest.raises(DeviceReplyError):
        antminer_codec.decode_configuration(reply)


def test_what_is_written_is_what_was_read_with_another_mode():
    written = antminer_codec.encode_configuration(CONFIGURATION, OFF, {})
    assert written == CONFIGURATION | {"miner-mode": 1, "bitmain-work-mode": 1}
    emptied = CONFIGURATION | {"pools": [{"url": "", "user": "", "pass": ""}] * 3}
    with pytest.raises(DeviceReplyError, match="without a pool"):
        antminer_codec.encode_configuration(emptied, FULL, {})
    assert antminer_codec.encode_configuration(emptied, FULL, CONFIGURATION)["pools"] == CONFIGURATION["pools"]


@pytest.mark.parametrize("reply", [{}, {"stats": "error", "code": "M001"}, {"code": None}])
def test_only_the_firmwares_own_word_for_done_is_done(reply):
    with pytest.raises(DeviceRefusedError):
        antminer_codec.check_written(reply)


def test_luxos_profiles_without_watts_are_no_choice():
    reply = {"PROFILES": [{"Profile Name": "a", "Watts": "2800"}, {"Profile Name": "b"}, {"Watts": 1}, "c"]}
    assert [one.name for one in luxos_codec.decode_profiles(reply)] == ["a"]
    assert luxos_codec.choose_profile(luxos_codec.decode_profiles(reply), 2000) is None


@pytest.mark.parametrize(
    ("said", "dialect"),
    [
        (b'{"VERSION":[{"LUXminer":"2025","Type":"Antminer S21"}]}', Dialect.LUXOS),
        (b'{"VERSION":[{"BMMiner":"1.0","Type":"Antminer S21"}]}', Dialect.ANTMINER),
        (b'{"VERSION":[{"BMMiner":"1.0","Type":"Antminer S21 (Vnish 1.2.6)"}]}', Dialect.VNISH),
        (b'{"VERSION":[{"BOSer":"boser-openwrt"}]}', Dialect.BRAIINS),
        (b'{"STATUS":"E","Code":14,"Msg":"invalid cmd"}', None),
    ],
)
def test_a_reply_gives_its_dialect_away(said, dialect):
    assert dialect_of(said) is dialect


@pytest.mark.parametrize(
    ("version", "dialect"),
    [
        ("20230714.15.REL", Dialect.WHATSMINER_V2),
        ("'20210322.22.REL'", Dialect.WHATSMINER_V2),
        ("20250115.07.REL1", Dialect.WHATSMINER_V3),
    ],
)
def test_the_date_of_the_firmware_says_which_api(version, dialect):
    assert decode_get_version({"Msg": {"fw_ver": version, "api_ver": "2.0.5"}}).dialect is dialect
    assert decode_get_version({"Msg": "whatsminer v1"}) is None


def test_json_that_firmware_breaks_is_mended():
    assert parse(b'{"STATS":[{"a":1}{"b":2,}],\n"id":1}') == {"STATS": [{"a": 1}, {"b": 2}], "id": 1}
    assert parse(b"not at all") is None
    assert parse(b"[1]") is None


# -- polling ---------------------------------------------------------------------------------------------------------------


def test_a_silent_miner_is_asked_ever_more_rarely_and_then_who_it_is():
    fleet = MinerFleet([MinerGroup(3, ("10.0.0.1", "10.0.0.2"), "stock", LEVELS, "f1")], 6)
    miner = fleet.by_slot[3]
    miner.device = object()
    rounds, known, at = [], [], 1
    for _ in range(6):
        miner.failed(at)
        rounds.append(miner.next_round - at)
        known.append(miner.device is not None)
        at = miner.next_round
    assert rounds == [1, 2, 4, 8, 8, 8], "as docs/devices.md has it"
    assert known == [True, True, False, False, False, False], "by now it may be another device: identified again"
    power, evidence = fleet.power()
    assert power.tolist()[:3] == [0.0, 0.0, 0.0]
    assert np.isnan(power[3:5]).all(), "silent is not idle"
    assert evidence[3] == Evidence.NONE
    miner.answered(Telemetry(200.0, is_asleep=False))
    assert fleet.power()[0][3] == 3500.0
    miner.answered(Telemetry(190.0, is_asleep=False, chip_temperature_celsius=71.0))
    hashrate, temperature = fleet.told()
    assert [hashrate[3], temperature[3]] == [190.0, 71.0]
    assert np.isnan([*hashrate[[0, 4]], *temperature[[0, 4]]]).all()
    assert fleet.states().tolist() == [255, 255, 255, FULL, 255, 255]


def test_a_newer_command_makes_the_older_one_void():
    fleet = MinerFleet([MinerGroup(0, ("10.0.0.1",), "stock", LEVELS)], 1)
    first, second = fleet.give_ticket([0, 99]), fleet.give_ticket([0])
    assert (fleet.by_slot[0].ticket, second > first) == (second, True)


def test_a_miner_on_its_way_is_so_until_its_deadline():
    fleet = MinerFleet([MinerGroup(0, ("10.0.0.1",), "stock", LEVELS)], 1)
    miner = fleet.by_slot[0]
    miner.told, miner.told_at_s = FULL, 100.0
    assert [miner.is_on_its_way(LEVELS[2], at) for at in (101.0, 149.0, 151.0)] == [True, True, False]
    assert not miner.is_on_its_way(LEVELS[0], 101.0)


# -- what is remembered ----------------------------------------------------------------------------------------------------

PROFILE = Profile("fw", ECO, limit_w=2800.0, configuration=CONFIGURATION)


async def test_a_profile_is_on_the_disk_when_it_is_remembered_and_only_once(tmp_path):
    store = ProfileStore(tmp_path)
    await asyncio.gather(*(store.remember(f"10.0.0.{n}", PROFILE) for n in range(1, 51)))
    await store.remember("10.0.0.1", PROFILE)
    path = tmp_path / "profiles.jsonl"
    assert path.read_text().count("\n") == 50
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await store.close()
    again = ProfileStore(tmp_path)
    assert again.recall("10.0.0.50") == PROFILE
    assert again.recall("10.0.0.51") is None
    await again.close()


async def test_a_profile_is_remembered_when_the_disk_has_it_and_not_before(tmp_path, monkeypatch):
    """The sleep command leaves after `remember`: a loss of power in between must find the profile on the disk."""
    path, on_disk, goes_on = tmp_path / "profiles.jsonl", [], threading.Event()

    def sync(_fd):
        on_disk.append(path.read_text())
        goes_on.wait(20)

    monkeypatch.setattr(profiles.os, "fdatasync", sync)
    store = ProfileStore(tmp_path)
    remembering = asyncio.create_task(store.remember("10.0.0.1", PROFILE))
    try:
        await until(lambda: on_disk, "the disk is asked to keep it")
        assert "10.0.0.1" in on_disk[0], "after it was written"
        assert not remembering.done()
        assert store.recall("10.0.0.1") is None
    finally:
        goes_on.set()
        await remembering
    assert store.recall("10.0.0.1") == PROFILE
    await store.close()


async def test_a_torn_line_is_passed_over_and_the_next_stands_alone(tmp_path):
    store = ProfileStore(tmp_path)
    await store.remember("10.0.0.1", PROFILE)
    await store.close()
    path = tmp_path / "profiles.jsonl"
    path.write_bytes(path.read_bytes() + b'{"address": "10.0.0.2", "firmw')
    store = ProfileStore(tmp_path)
    await store.remember("10.0.0.3", PROFILE)
    await store.close()
    store = ProfileStore(tmp_path)
    assert [store.recall(f"10.0.0.{n}") for n in (1, 2, 3)] == [PROFILE, None, PROFILE]
    await store.close()


def test_a_profiles_file_that_is_a_link_or_no_file_is_refused_by_name(tmp_path):
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "profiles.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"profiles\.jsonl is a symbolic link.*remove it"):
        ProfileStore(tmp_path)
    assert (tmp_path / "elsewhere").read_text() == ""
    (tmp_path / "profiles.jsonl").unlink()
    (tmp_path / "profiles.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"profiles\.jsonl: Is a directory"):
        ProfileStore(tmp_path)
    with pytest.raises(ConfigError, match="Not a directory"):
        ProfileStore(tmp_path / "elsewhere" / "f")


async def test_what_was_overtaken_is_dropped_at_the_next_start(tmp_path):
    store = ProfileStore(tmp_path)
    for n in range(10):
        await store.remember("10.0.0.1", Profile("fw", FULL, limit_w=float(n)))
    await store.close()
    assert (tmp_path / "profiles.jsonl").read_text().count("\n") == 10
    store = ProfileStore(tmp_path)
    assert store.recall("10.0.0.1").limit_w == 9.0
    await store.close()
    assert len((tmp_path / "profiles.jsonl").read_text().splitlines()) == 1
    assert json.loads((tmp_path / "profiles.jsonl").read_text())["limit_w"] == 9.0


async def test_a_disk_that_refuses_keeps_the_miner_awake(tmp_path, monkeypatch):
    store = ProfileStore(tmp_path)

    def full(_data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_write", full)
    with pytest.raises(StorageError, match="not put to sleep"):
        await store.remember("10.0.0.1", PROFILE)
    assert store.recall("10.0.0.1") is None
    await store.close()


# -- quirks ----------------------------------------------------------------------------------------------------------------


def test_every_quirk_has_its_firmware_its_remedy_and_its_source():
    names = [quirk.name for quirk in quirks.TABLE]
    assert len(names) == len(set(names))
    assert all(quirk.firmware and quirk.remedy and quirk.source for quirk in quirks.TABLE)
