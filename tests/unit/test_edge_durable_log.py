"""The durable logs of a gateway's facilities: what is on the disk after a crash, a torn write, a full disk."""

import asyncio
import errno
import os

import pytest

from hcp_pipelines.domain.errors import AlreadyRunningError, StorageError
from hcp_pipelines.edge import write_ahead
from hcp_pipelines.edge.durable_log import DurableLog, open_ahead, take_over
from hcp_pipelines.edge.log_files import framed, read_log
from hcp_pipelines.wire import edge_v1_pb2 as pb


@pytest.fixture
async def ahead(tmp_path):
    opened = open_ahead(tmp_path, "g")
    yield opened
    await opened.close()


async def fill(log, count=5):
    for n in range(count):
        await log.append([(log.reserve(), "epoch", pb.Announce(epoch=n + 1, owner="o").SerializeToString())])


async def test_a_tail_cut_or_damaged_anywhere_leaves_whole_entries_and_the_next_number(tmp_path, ahead):
    log = DurableLog(tmp_path / "f", ahead)
    await fill(log)
    await log.close()
    ahead.forget()
    path = tmp_path / "f" / "log.bin"
    whole = path.read_bytes()
    four = whole[: len(whole) * 4 // 5]
    for damaged in (
        *(whole[:cut] for cut in range(len(four), len(whole), 7)),
        whole[:-1] + b"\xff",
        whole + b"\x00" * 40,
    ):
        path.write_bytes(damaged)
        log = DurableLog(tmp_path / "f", ahead)
        kept = [e.seq for e in log.entries()]
        assert kept == list(range(1, log.last_seq + 1))
        assert log.last_seq == (5 if len(damaged) > len(whole) else 4)
        await fill(log, 1)
        assert [e.seq for e in log.entries(3)] == list(range(4, log.last_seq + 1))
        await log.close()
        ahead.forget()


async def test_a_reader_begins_near_where_it_wants_to_and_finds_all(tmp_path, ahead, monkeypatch):
    monkeypatch.setattr("hcp_pipelines.edge.durable_log.MARK_EACH_BYTES", 100)
    log = DurableLog(tmp_path / "f", ahead)
    await asyncio.gather(*(fill(log, 1) for _ in range(50)))
    await fill(log, 50)
    for again in range(2):
        for after in (0, 1, 37, 99, 100, 500):
            assert [e.seq for e in log.entries(after)] == list(range(after + 1, 101)), (again, after)
        await log.close()
        log = DurableLog(tmp_path / "f", ahead)
    await log.close()
    assert len(read_log(tmp_path / "f")) == 100


async def test_one_cancelled_writer_does_not_take_the_others_down(tmp_path, ahead):
    log = DurableLog(tmp_path / "f", ahead)
    writers = [asyncio.create_task(fill(log, 1)) for _ in range(3)]
    await asyncio.sleep(0)
    writers[1].cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    await asyncio.wait_for(fill(log, 1), 60)
    assert [e.seq for e in log.entries()] == [1, 2, 3, 4]
    await log.close()


async def test_a_facility_has_one_log_holder(tmp_path, ahead):
    log = DurableLog(tmp_path / "f", ahead)
    with pytest.raises(AlreadyRunningError, match="another gateway serves this facility"):
        DurableLog(tmp_path / "f", ahead)
    await log.close()
    await DurableLog(tmp_path / "f", ahead).close()


# -- the write-ahead file that they share -----------------------------------------------------------------------------


class Process:
    """A gateway process as far as its logs go; `crash` leaves what the disk has, less what was only in the page cache."""

    def __init__(self, folder, names=("f", "g"), gateway="gateway"):
        self.folder, self.gateway = folder, gateway
        self.ahead = open_ahead(folder, gateway)
        self.logs = {name: DurableLog(folder / name, self.ahead) for name in names}
        self.synced = {name: log._end for name, log in self.logs.items()}

    async def start(self):
        await take_over(self.folder, self.gateway, self.ahead, self.logs.values())
        return self

    async def stop(self):
        for log in self.logs.values():
            await log.close()
        await self.ahead.close()

    def crash(self, keep_bytes=0):
        """Each facility's file loses what was not synced, but for the first so many bytes of it."""
        for name, log in self.logs.items():
            os.ftruncate(log._fd, min(self.synced[name] + keep_bytes, log._end))
            os.close(log._fd)
            os.close(log._lock)
        for fd in (*self.ahead._fds, self.ahead._lock):
            os.close(fd)

    def seqs(self):
        return {name: [e.seq for e in log.entries()] for name, log in self.logs.items()}


async def filled(process, count=5):
    await asyncio.gather(*(fill(log, count) for log in process.logs.values()))
    return process


@pytest.mark.parametrize("keep_bytes", [0, 1, 50, 100, 10_000])
async def test_what_was_acknowledged_is_there_after_a_crash_whatever_the_facilities_files_lost(tmp_path, keep_bytes):
    (await filled(await Process(tmp_path).start())).crash(keep_bytes)
    again = await Process(tmp_path).start()
    assert again.seqs() == {"f": [1, 2, 3, 4, 5], "g": [1, 2, 3, 4, 5]}
    await filled(again, 2)
    again.synced = dict.fromkeys(again.logs, 0)  # the disk lost the whole of both files
    bodies = {name: log.folder.joinpath("log.bin").read_bytes() for name, log in again.logs.items()}
    again.crash()
    for name, body in bodies.items():
        (tmp_path / name / "log.bin").write_bytes(body[: len(body) * 5 // 7])  # what was synced at the second start
    third = await Process(tmp_path).start()
    assert third.seqs() == {"f": [*range(1, 8)], "g": [*range(1, 8)]}
    await third.stop()


async def test_a_record_that_was_torn_is_none_and_the_whole_ones_before_it_count(tmp_path):
    process = await Process(tmp_path, ("f",)).start()
    await filled(process)
    end = process.ahead._end
    process.crash()
    path = tmp_path / "gateway.ahead" / "0.bin"
    data = bytearray(path.read_bytes())
    data[end - 1] ^= 0xFF
    path.write_bytes(data)
    again = await Process(tmp_path, ("f",)).start()
    assert again.seqs() == {"f": [1, 2, 3, 4]}
    await again.stop()


async def test_taking_turns_loses_nothing_and_an_old_turn_is_not_read_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(write_ahead, "SWITCH_AFTER_BYTES", 600)
    process = await Process(tmp_path).start()
    await filled(process, 40)
    assert process.ahead._turn > 5
    process.synced = {name: log._end * 38 // 40 for name, log in process.logs.items()}  # all but the last two turns
    process.crash()
    again = await Process(tmp_path).start()
    assert again.seqs() == {"f": [*range(1, 41)], "g": [*range(1, 41)]}
    await again.stop()


async def test_a_facility_that_moves_to_another_gateway_takes_what_the_first_left_ahead(tmp_path):
    (await filled(await Process(tmp_path, ("f", "g"), "one").start())).crash()
    other = await Process(tmp_path, ("g",), "two").start()
    assert other.seqs() == {"g": [1, 2, 3, 4, 5]}
    first = await Process(tmp_path, ("f",), "one").start()  # empties its files: "g" is in use, and has it all
    assert first.seqs() == {"f": [1, 2, 3, 4, 5]}
    await first.stop()
    await other.stop()


async def test_a_restart_hands_over_to_a_facility_that_has_moved_and_is_not_open_yet(tmp_path):
    (await filled(await Process(tmp_path, ("f", "g"), "one").start())).crash()
    await (await Process(tmp_path, ("f",), "one").start()).stop()
    other = await Process(tmp_path, ("g",), "two").start()
    assert other.seqs() == {"g": [1, 2, 3, 4, 5]}
    await other.stop()


async def test_one_facility_whose_file_can_not_be_written_does_not_take_the_others_down(tmp_path, monkeypatch):
    process = await Process(tmp_path).start()
    await filled(process, 2)
    pwrite, broken = os.pwrite, process.logs["f"]._fd

    def refuse(fd, data, at):
        if fd == broken:
            pwrite(fd, bytes(data)[:10], at)
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(fd, data, at)

    monkeypatch.setattr(os, "pwrite", refuse)
    results = await asyncio.gather(*(fill(log, 1) for log in process.logs.values()), return_exceptions=True)
    monkeypatch.undo()
    assert isinstance(results[0], StorageError)
    assert "No space left" in str(results[0])
    assert results[1] is None
    assert process.seqs() == {"f": [1, 2], "g": [1, 2, 3]}
    await fill(process.logs["f"], 1)
    await process.stop()
    assert [e.seq for e in read_log(tmp_path / "f")] == [1, 2, 4]  # the number of what was refused is not given again


@pytest.mark.parametrize("call", ["pwrite", "fdatasync", "fsync"])
async def test_what_the_shared_file_refuses_counts_for_nobody_also_after_a_restart(tmp_path, monkeypatch, call):
    process = await Process(tmp_path).start()
    if call != "fsync":  # the first write of a turn makes room
        await filled(process, 2)
    real, broken = getattr(os, call), process.ahead._fds[0]

    def refuse(fd, *rest):
        if fd == broken and not (rest and rest[0] == bytes(len(rest[0]))):  # zeros still go through
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, *rest)

    monkeypatch.setattr(os, call, refuse)
    results = await asyncio.gather(*(fill(log, 1) for log in process.logs.values()), return_exceptions=True)
    monkeypatch.undo()
    assert all(isinstance(result, StorageError) for result in results)
    before = process.seqs()
    process.crash(10_000)
    again = await Process(tmp_path).start()
    assert again.seqs() == before
    await filled(again, 1)
    await again.stop()


async def test_a_gateway_of_the_same_name_is_refused(tmp_path, ahead):
    with pytest.raises(AlreadyRunningError, match="another gateway of this name"):
        open_ahead(tmp_path, "g")


# -- new files, old files, damage -------------------------------------------------------------------------------------


async def rolled(log, counts=(3, 3)):
    """Entries, a snapshot, entries, and so on."""
    for count in counts:
        await fill(log, count)
        await log.roll("snapshot", b"all")
    await fill(log, 2)


async def test_a_new_file_begins_with_what_is_known_and_readers_notice_nothing(tmp_path, ahead):
    log = DurableLog(tmp_path / "f", ahead)
    await rolled(log)
    numbers = list(range(1, 11))
    for again in range(2):
        assert log.base_seq == 8
        for after in (0, 2, 3, 4, 7, 8, 9, 10):
            assert [e.seq for e in log.entries(after)] == numbers[after:], (again, after)
        await log.close()
        log = DurableLog(tmp_path / "f", ahead)
    assert [e.seq for e in read_log(tmp_path / "f")] == numbers
    assert [e.kind for e in log.entries() if e.seq in (4, 8)] == ["snapshot", "snapshot"]
    await log.close()


async def test_a_reader_that_has_begun_sees_each_entry_once_while_a_new_file_is_begun(tmp_path, ahead):
    log = DurableLog(tmp_path / "f", ahead)
    await fill(log, 3)
    reading = log.entries()
    seen = [next(reading).seq]
    await log.roll("snapshot", b"all")
    await fill(log, 2)
    seen += [e.seq for e in reading]
    assert seen == [1, 2, 3]
    assert [e.seq for e in log.entries(seen[-1])] == [4, 5, 6]
    await log.close()


async def test_entries_that_come_while_a_new_file_is_begun_follow_its_snapshot(tmp_path, ahead):
    log = DurableLog(tmp_path / "f", ahead)
    await fill(log, 3)
    await asyncio.gather(log.roll("snapshot", b"all"), fill(log, 3))
    assert [(e.seq, e.kind) for e in log.entries(3)] == [(4, "snapshot"), (5, "epoch"), (6, "epoch"), (7, "epoch")]
    await log.close()


async def test_old_files_go_when_the_journal_has_them_and_they_are_old_or_too_many(tmp_path, ahead):
    log = DurableLog(tmp_path / "f", ahead)
    await rolled(log)
    assert log.drop(3, 10**9, 3600) == 0
    assert log.drop(2, 0, 3600) == 0  # the journal lacks an entry of the first file
    assert log.drop(3, 0, 3600) == 1
    assert log.drop(100, 10**9, -1) == 1
    assert log.drop(100, 0, -1) == 0  # the newest stays
    assert [e.seq for e in log.entries()] == [8, 9, 10]
    await log.close()
    log = DurableLog(tmp_path / "f", ahead)
    assert (log.base_seq, log.last_seq) == (8, 10)
    await log.close()


@pytest.mark.parametrize("crashed_after", ["written", "moved"])
async def test_a_crash_while_a_new_file_is_begun_loses_nothing(tmp_path, ahead, crashed_after):
    log = DurableLog(tmp_path / "f", ahead)
    await fill(log, 3)
    body = framed(pb.LogEntry(seq=4, kind="snapshot", payload=b"all"))
    await log.close()
    (tmp_path / "f" / "log.new").write_bytes(body)
    if crashed_after == "moved":
        (tmp_path / "f" / "log.bin").rename(tmp_path / "f" / "log-00000000000000000001.bin")
    log = DurableLog(tmp_path / "f", ahead)
    assert log.last_seq == (4 if crashed_after == "moved" else 3)
    await fill(log, 1)
    assert [e.seq for e in log.entries()] == list(range(1, log.last_seq + 1))
    assert not (tmp_path / "f" / "log.new").exists()
    await log.close()


async def test_a_disk_without_room_for_a_new_file_leaves_the_old_one_going(tmp_path, ahead, monkeypatch):
    log = DurableLog(tmp_path / "f", ahead)
    await fill(log, 3)
    monkeypatch.setattr("hcp_pipelines.edge.durable_log.write_new", _no_room)
    with pytest.raises(StorageError, match="no new file"):
        await log.roll("snapshot", b"all")
    monkeypatch.undo()
    await fill(log, 1)
    assert [e.seq for e in log.entries()] == [1, 2, 3, 5]
    await log.close()


def _no_room(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("at", [0, 3, 9, 30])
async def test_damage_with_whole_entries_behind_it_is_told_and_they_count(tmp_path, ahead, at):
    log = DurableLog(tmp_path / "f", ahead)
    await fill(log)
    await log.close()
    ahead.forget()
    path = tmp_path / "f" / "log.bin"
    data = bytearray(path.read_bytes())
    second = len(data) // 5 + at
    data[second] ^= 0xFF
    path.write_bytes(data)
    log = DurableLog(tmp_path / "f", ahead)
    assert [e.seq for e in log.entries()] == [1, 3, 4, 5]
    assert "damaged" in log.damage
    await fill(log, 1)
    assert [e.seq for e in read_log(tmp_path / "f")] == [1, 3, 4, 5, 6]
    await log.close()
