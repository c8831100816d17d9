"""A recorded fault log laid over our GPU nodes: recognised by its columns, and its timing is the nodes'."""

import gzip
from pathlib import Path

import pytest

from simulators import faults as f
from simulators.fault_log import FaultLog
from simulators.fleet import Fleet
from simulators.scenarios import scenario_named
from simulators.script import Script
from simulators.settings import SiteConfig

T0, DAY_S = 1_735_689_600.0, 86_400.0
HEAD = "node_id,event_time_days,event_type,fault_level,fault_class,fault_desc\n"
ROWS = (
    "a,1.0,fault_start,Hardware,GPU,GPU DBE(Double Bit ECC) > Threshold\n"
    "b,2.0,fault_start,Hardware,Fan,Speed Critical (Sensor)\n"
    "a,1.5,fault_end,Hardware,GPU,GPU DBE(Double Bit ECC) > Threshold\n"
    "b,2.25,fault_end,Hardware,Fan,Speed Critical (Sensor)\n"
    "b,3.0,fault_start,Hardware,GPU,GPU Lost\n"
    "b,nonsense,fault_start,Hardware,GPU,GPU Lost\n"
    "c,4.0,fault_start,Hardware,GPU,GPU Temperature High\n"
)


def site(gpus: int) -> SiteConfig:
    states = [{"state": 1, "power_w": 200.0}, {"state": 5, "power_w": 1300.0}]
    group = {"group": "h", "kind": "GPU", "model": "H100 SXM5", "first_slot": 4, "devices": gpus, "states": states}
    return SiteConfig.model_validate({"site": "one", "settlement_point": "HB_NORTH", "groups": [group]})


def folder_with(tmp_path: Path, text: str = HEAD + ROWS) -> Path:
    (tmp_path / "other.csv").write_text("interval_start_utc,price\n2025-01-01,3\n")
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)))
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(text.encode())[:40])
    (tmp_path / "deep").mkdir()
    with gzip.open(tmp_path / "deep" / "whatever.csv.gz", "wt") as file:
        file.write(text)
    return tmp_path


def fleet(log: FaultLog | None, gpus=24) -> Fleet:
    return Fleet([site(gpus)], 7, T0, Script(scenario_named("calm"), T0), fault_log=log)


def test_a_log_is_found_by_its_columns_and_read_in_pairs(tmp_path):
    log = FaultLog.below(folder_with(tmp_path))
    assert log is not None
    assert [(one.start_days, one.end_days, one.kind, one.xid) for one in log.faults if one.node == 0] == [
        (1.0, 1.5, f.ECC, 48)
    ]
    rest = sorted((one.start_days, one.end_days, one.kind, one.xid) for one in log.faults if one.node)
    assert rest == [(2.0, 2.25, f.NODE_LOST, 0), (3.0, 4.0, f.FALLEN_OFF_BUS, 79), (4.0, 5.0, f.THROTTLED, 0)]


def test_a_folder_without_a_log_changes_nothing(tmp_path):
    (tmp_path / "empty.csv").write_text(HEAD)
    assert FaultLog.below(tmp_path) is None
    assert fleet(None).schedules["one"].is_empty


def test_recorded_faults_come_to_our_nodes_at_their_time_and_end(tmp_path):
    one = fleet(FaultLog.below(folder_with(tmp_path))).sites["one"]
    slots = range(4, 28)

    def having(kind, days):
        return [slot for slot in slots if kind in one.faults.at(slot, T0 + days * DAY_S)]

    assert having(f.ECC, 0.99) == []
    (broken,) = having(f.ECC, 1.01)
    assert one.gpu(broken, T0 + 1.02 * DAY_S).last_xid == 48
    assert having(f.ECC, 1.51) == []
    lost = having(f.NODE_LOST, 2.1)
    assert len(lost) == 8
    assert (lost[0] - 4) % 8 == 0
    assert lost == list(range(lost[0], lost[0] + 8))
    (gone,) = having(f.FALLEN_OFF_BUS, 3.5)
    assert gone in lost
    assert having(f.FALLEN_OFF_BUS, 4.1) == []


def test_the_days_may_be_asked_for_in_any_order_and_the_log_begins_anew(tmp_path):
    log = FaultLog.below(folder_with(tmp_path))
    first, second = fleet(log).schedules["one"], fleet(log).schedules["one"]
    day = int(T0 // DAY_S)

    def told(schedule, n):
        return [(each.start_s, each.kind, each.unit) for each in schedule.of_day(n)]

    forwards = [told(first, day + n) for n in range(12)]
    assert [told(second, day + n) for n in reversed(range(12))] == forwards[::-1]
    kinds = [[kind for _, kind, _ in one] for one in forwards]
    assert kinds[:6] == [[], [f.ECC], [f.NODE_LOST], [f.FALLEN_OFF_BUS], [f.THROTTLED], []]
    assert kinds[6:10] == kinds[1:5]
    assert all(each.start_s >= T0 for n in range(-3, 2) for each in first.of_day(day + n))


def test_more_nodes_than_were_recorded_do_not_break_together(tmp_path):
    log = FaultLog.below(folder_with(tmp_path))
    schedule = fleet(log, gpus=8 * 9).schedules["one"]
    day = int(T0 // DAY_S)
    starts = [each.start_s for n in range(1, 6) for each in schedule.of_day(day + n)]
    assert len(starts) > 9
    assert len(set(starts)) == len(starts)


SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data are not beside the project")
def test_the_recorded_rate_of_400_servers_is_ours(tmp_path):
    log = FaultLog.below(SHARED)
    assert log is not None
    assert len(log.faults) == 584
    nodes = 400
    schedule = fleet(log, gpus=8 * nodes).schedules["one"]
    day = int(T0 // DAY_S)
    found = [each for n in range(100) for each in schedule.of_day(day + n)]
    per_node_day = len(found) / (nodes * 100)
    assert 0.5 * 584 / (400 * 348) < per_node_day < 2.0 * 584 / (400 * 348)
    assert {each.kind for each in found} >= {f.ECC, f.NODE_LOST, f.FALLEN_OFF_BUS}
