"""The gateway's spool: what is in it survives deaths and torn ends, numbers never repeat, and it stays within its bound."""

import errno

import pytest

from hcp_pipelines.edge.telemetry import spool as spool_module
from hcp_pipelines.edge.telemetry.segments import SUFFIX, Segment
from hcp_pipelines.edge.telemetry.spool import SYNC_AFTER_S, Spool

NOW_MS = 1_700_000_000_000
PAYLOAD = bytes(1000)


def opened(folder, max_bytes=100_000, free_bytes=0, now_ms=NOW_MS):
    return Spool(folder, max_bytes, free_bytes, now_ms)


def filled(folder, count, **options):
    made = opened(folder, **options)
    for n in range(count):
        made.append(PAYLOAD[: 900 + n], float(n))
    return made


def seqs(spool, after=0):
    found = []
    while kept := spool.read(after, 2500):
        found += [seq - NOW_MS for seq, _ in kept]
        after = kept[-1][0]
    return found


def test_numbers_rise_by_one_and_reads_are_bounded(tmp_path):
    spool = filled(tmp_path, 5)
    assert seqs(spool) == [0, 1, 2, 3, 4]
    assert [len(payload) for _, payload in spool.read(0, 2500)] == [900, 901]
    assert [len(payload) for _, payload in spool.read(NOW_MS + 3, 1)] == [904]  # one always


def test_a_restart_goes_on_above_what_was_kept_and_sent(tmp_path):
    filled(tmp_path, 3)
    earlier = opened(tmp_path, now_ms=NOW_MS - 10**9)  # the clock was set back
    assert earlier.next_seq == NOW_MS + 3
    assert seqs(earlier) == [0, 1, 2]
    lost = opened(tmp_path / "new_disk")
    lost.acknowledge(NOW_MS + 500)  # the collector has more than this spool ever saw
    lost.append(PAYLOAD, 0.0)
    assert seqs(lost) == [501]


def test_a_torn_end_is_cut_and_written_over(tmp_path):
    spool = filled(tmp_path, 3)
    path = next(tmp_path.glob(f"*{SUFFIX}"))
    whole = path.read_bytes()
    for torn in (whole[:-1], whole + b"\0" * 7, whole[:-3] + b"xyz"):
        path.write_bytes(torn)
        kept = 3 if len(torn) > len(whole) else 2
        spool = opened(tmp_path)
        assert seqs(spool) == list(range(kept))
    spool.append(PAYLOAD, 0.0)
    assert [seq for seq, _, _ in Segment.open(path).records][-1] == spool.next_seq - 1


def test_over_its_bound_the_oldest_go_first_and_are_counted(tmp_path):
    spool = filled(tmp_path, 40, max_bytes=16_000)
    left = seqs(spool)
    assert left[-1] == 39
    assert left == list(range(left[0], 40))
    assert spool.shed == left[0] > 0
    assert spool.size <= 16_000
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) == spool.size


def test_what_is_acknowledged_goes_and_is_not_counted_as_given_up(tmp_path):
    spool = filled(tmp_path, 60, max_bytes=100_000)
    assert len(list(tmp_path.iterdir())) > 2
    spool.acknowledge(NOW_MS + 59)
    assert seqs(spool) == []
    assert len(list(tmp_path.iterdir())) == 1
    assert spool.shed == 0


def test_a_full_disk_costs_the_oldest_first(tmp_path, monkeypatch):
    spool = filled(tmp_path, 60)
    monkeypatch.setattr(spool, "_free_bytes", 2**62)
    spool.append(PAYLOAD, 0.0)
    assert len(list(tmp_path.iterdir())) == 1
    assert spool.shed > 0


def test_a_disk_that_takes_nothing_costs_the_samples_and_no_more(tmp_path, monkeypatch):
    spool = filled(tmp_path, 3)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Segment, "append", refuse)
        full.setattr(Segment, "create", refuse)
        spool.append(PAYLOAD, 0.0)
    assert spool.shed == 4
    spool.append(PAYLOAD, 0.0)
    assert seqs(spool) == [4]


def test_a_file_that_can_not_be_opened_costs_one_sample_not_what_is_kept(tmp_path, monkeypatch):
    spool = filled(tmp_path, 60)

    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as busy:
        busy.setattr(Segment, "append", refuse)
        spool.append(PAYLOAD, 0.0)
    assert spool.shed == 1
    assert seqs(spool) == list(range(60))
    spool.append(PAYLOAD, 0.0)
    assert seqs(spool)[-1] == 61


def test_only_what_waits_is_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(spool_module.Segment, "sync", lambda segment: synced.append(segment.last_seq - NOW_MS))
    spool = filled(tmp_path, 2)
    spool.sync(SYNC_AFTER_S - 1)
    assert synced == []
    spool.sync(SYNC_AFTER_S)
    assert synced == [1]
    spool.acknowledge(NOW_MS + 1)
    spool.sync(10 * SYNC_AFTER_S)
    assert synced == [1]


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_spool_reads_nothing(tmp_path, count):
    assert opened(tmp_path / str(count)).read(0, 10) == []
