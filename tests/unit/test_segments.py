"""Inquiry segments: what was acknowledged is there, what was half-written is not."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lanjie_gateway.adapters.segments import MAGIC, SegmentWriter, is_closed, read_records, segments
from lanjie_gateway.domain.errors import Unanswerable


@pytest.mark.asyncio
async def test_records_come_back_in_order(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    for number in range(10):
        writer.append(b"record %d" % number)
    await asyncio.gather(*(writer.durable() for _ in range(20)))
    (path,) = segments(tmp_path)
    assert not is_closed(path)
    await writer.close()
    assert is_closed(path)
    first, position = read_records(path, 0, most=4)
    rest, _ = read_records(path, position)
    assert first + rest == [b"record %d" % number for number in range(10)]


@pytest.mark.asyncio
async def test_a_torn_end_is_left_out_wherever_it_is_torn(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(b"first")
    writer.append(b"second")
    await writer.close()
    (path,) = segments(tmp_path)
    whole = path.read_bytes()
    second_from = len(MAGIC) + 8 + len(b"first")
    for size in range(second_from, len(whole)):
        path.write_bytes(whole[:size])
        assert read_records(path, 0)[0] == [b"first"]


@pytest.mark.asyncio
async def test_after_a_failed_sync_nothing_is_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(b"first")
    await writer.durable()

    def fail(descriptor: int) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    writer.append(b"second")
    with pytest.raises(Unanswerable):
        await writer.durable()
    monkeypatch.undo()
    with pytest.raises(Unanswerable):
        writer.append(b"third")
    await writer.close()


def test_what_was_written_survives_the_death_of_the_process(tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib, sys\n"
        "from lanjie_gateway.adapters.segments import SegmentWriter\n"
        "async def main():\n"
        "    writer = SegmentWriter(pathlib.Path(sys.argv[1]))\n"
        "    for number in range(1000):\n"
        "        writer.append(b'%d' % number)\n"
        "        print(number, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        seen = int(line)
        if seen >= 500:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    (path,) = segments(tmp_path)
    records, _ = read_records(path, 0)
    assert [int(record) for record in records][: seen + 1] == list(range(seen + 1))
    assert is_closed(path)


@pytest.mark.asyncio
async def test_a_segment_with_records_is_closed_when_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanjie_gateway.adapters.segments.SYNC_SECONDS", 0.01)
    writer = SegmentWriter(tmp_path, keep=0.05)
    writer.start()
    await asyncio.sleep(0.1)
    assert len(segments(tmp_path)) == 1, "an empty one says nothing"
    writer.append(b"first")
    for _ in range(1_000):
        if len(segments(tmp_path)) == 2:
            break
        await asyncio.sleep(0.01)
    closed = {is_closed(path): read_records(path, 0)[0] for path in segments(tmp_path)}
    assert closed == {True: [b"first"], False: []}
    writer.append(b"second")
    await writer.close()
    assert {tuple(read_records(path, 0)[0]) for path in segments(tmp_path)} == {(b"first",), (b"second",)}


def test_a_segment_that_its_worker_has_not_locked_yet_is_not_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.segment"
    path.touch()
    assert not is_closed(path)
    path.write_bytes(MAGIC)
    assert is_closed(path)


@pytest.mark.asyncio
async def test_where_no_new_segment_can_be_made_the_old_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanjie_gateway.adapters.segments.SYNC_SECONDS", 0.01)
    directory = tmp_path / "inquiry"
    writer = SegmentWriter(directory, keep=0.05)
    writer.start()
    writer.append(b"first")
    directory.rename(tmp_path / "away")
    await asyncio.sleep(0.3)
    # Whoever opens something next must not be given the place of the segment that was closed.
    other = os.open(tmp_path / "another.file", os.O_RDWR | os.O_CREAT)
    for number in range(3):
        writer.append(b"later %d" % number)
    await writer.durable()
    assert os.pread(other, 100, 0) == b""
    os.close(other)
    (tmp_path / "away").rename(directory)
    for _ in range(1_000):
        if len(segments(directory)) == 2:
            break
        await asyncio.sleep(0.01)
    writer.append(b"last")
    await writer.close()
    found = [read_records(path, 0)[0] for path in segments(directory)]
    assert sorted(found) == [[b"first", b"later 0", b"later 1", b"later 2"], [b"last"]]


@pytest.mark.asyncio
async def test_a_new_segment_that_finds_no_room_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanjie_gateway.adapters.segments.SYNC_SECONDS", 0.01)
    writer = SegmentWriter(tmp_path, keep=0.05)
    writer.start()
    writer.append(b"first")
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if data == MAGIC:
            raise OSError(28, "no space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    await asyncio.sleep(0.3)
    writer.append(b"second")
    await writer.durable()
    assert [read_records(path, 0)[0] for path in segments(tmp_path)] == [[b"first", b"second"]]
    await writer.close()


def test_a_worker_that_cannot_write_records_any_more_starts_over(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, pathlib, sys\n"
        "from lanjie_gateway.adapters.segments import SegmentWriter\n"
        "from lanjie_gateway.domain.errors import Unanswerable\n"
        "async def main():\n"
        "    writer = SegmentWriter(pathlib.Path(sys.argv[1]))\n"
        "    writer.start()\n"
        "    os.write = lambda descriptor, data: len(data) - 1\n"
        "    try:\n"
        "        writer.append(b'record')\n"
        "    except Unanswerable:\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=30, check=False, capture_output=True)
    assert done.returncode == 1
