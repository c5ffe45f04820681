"""The spool: nothing that was answered is lost, and nothing is answered that cannot be recorded."""

import errno
import itertools
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lanjie import _spool
from lanjie._inquiries import Uploader
from lanjie._spool import Basis, Record, Spool
from lanjie.errors import GatewayFault, Unavailable
from lanjie.v1 import audit_pb2
from lanjie.v1 import screening_pb2 as pb

LINEAGE = "ab" * 16
CONTEXT = pb.InquiryContext(matter="m", purpose="p").SerializeToString()


@pytest.fixture
def spool(tmp_path):
    made = Spool.create(tmp_path, LINEAGE, segment_bytes=4096, limit_bytes=3 * 4096)
    yield made
    made.close()


def write(spool, count, context=CONTEXT):
    """One pass after the other, until it is full."""
    told = 1_700_000_000_000_000_000, Basis(1, 2, 9, 30)
    numbers = (spool.append(told[0], digest.to_bytes(8, "big"), told[1], context) for digest in range(count))
    return list(itertools.takewhile(bool, numbers))


def test_records_are_numbered_and_read_back(spool):
    assert write(spool, 3) == [1, 2, 3]
    assert write(spool, 2, b"other") == [4, 5]
    read = spool.pending(10)
    assert [record.sequence for record in read] == [1, 2, 3, 4, 5]
    assert [record.context for record in read] == [CONTEXT] * 3 + [b"other"] * 2
    assert read[1] == Record(2, 1_700_000_000_000_000_000, 1, 1, 2, 9, 30, CONTEXT)


def test_acknowledged_records_are_forgotten_and_their_segments_deleted(spool, tmp_path):
    assert len(write(spool, 200)) == 200
    assert len(list(tmp_path.rglob("*.segment"))) == 3
    spool.acknowledge(100)
    assert spool.pending(1)[0].sequence == 101
    assert spool.unsent == 100
    spool.acknowledge(200)
    assert spool.pending(1) == []
    assert len(list(tmp_path.rglob("*.segment"))) == 1
    assert write(spool, 1) == [201]


def test_a_disk_that_lets_nothing_go_any_more_holds_no_upload_up(spool, tmp_path, monkeypatch):
    assert len(write(spool, 200)) == 200

    def unlink(path, **_):
        raise OSError(errno.EROFS, "read-only", str(path))

    server = Server()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        Uploader(server).drain(spool, 1)
        assert spool.pending(1) == []
        spool.close()
    assert len(server.taken) == 200
    # Whoever comes later tells it again; the gateway knows that it has it.
    assert Uploader(server).take_over(tmp_path, LINEAGE) == 1
    assert not list(tmp_path.rglob("*.segment"))


def test_a_spool_whose_directory_was_deleted_goes_on(spool, tmp_path):
    write(spool, 10)
    shutil.rmtree(tmp_path / LINEAGE)
    assert len(write(spool, 190)) == 190
    server = Server()
    assert Uploader(server).drain(spool, 1)
    assert [number for _, number in server.taken] == list(range(1, 201))


def test_a_full_spool_takes_no_more_until_it_was_uploaded(spool):
    first = write(spool, 10_000)
    assert 0 < len(first) < 10_000
    assert len(write(spool, 1)) == 0
    spool.acknowledge(first[-1])
    assert write(spool, 1)[0] == first[-1] + 1


def test_files_are_for_their_owner_only(spool, tmp_path):
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_closed_spool_leaves_nothing_when_all_is_acknowledged(tmp_path):
    made = Spool.create(tmp_path, LINEAGE)
    write(made, 5)
    made.acknowledge(5)
    made.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert len(write(made, 1)) == 0


def test_a_full_disk_is_not_filled_with_spools_that_could_not_be_made(tmp_path, monkeypatch):
    def full(descriptor, size):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(_spool, "reserve", full)
    for _ in range(3):
        with pytest.raises(OSError, match="no space"):
            Spool.create(tmp_path, LINEAGE)
    assert list((tmp_path / LINEAGE / "spool").iterdir()) == []


def test_a_lineage_is_no_path(tmp_path):
    with pytest.raises(ValueError, match="lineage"):
        Spool.create(tmp_path, "../../etc")


def test_a_living_spool_is_not_taken_over_and_a_left_one_is(tmp_path):
    living = Spool.create(tmp_path, LINEAGE)
    left = Spool.create(tmp_path, LINEAGE)
    write(living, 1)
    write(left, 4)
    left.close()
    (found,) = Spool.left_behind(tmp_path, LINEAGE)
    assert (found.sdk_id, len(found.pending(10))) == (left.sdk_id, 4)
    found.close()
    living.acknowledge(1)
    living.close()


CHILD = """
import sys, pathlib
from lanjie._spool import Basis, Spool
spool = Spool.create(pathlib.Path(sys.argv[1]), "ab" * 16, segment_bytes=8192)
while True:
    number = spool.append(1, b"7digests", Basis(1, 1, 2, 0), b"context")
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_every_answered_pass_survives_kill_9(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(700):
        child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    rest = child.stdout.read().splitlines()
    child.stdout.close()
    child.wait()
    answered = int(rest[-2]) if len(rest) > 1 else 700
    (spool,) = Spool.left_behind(tmp_path, LINEAGE)
    numbers = [record.sequence for record in spool.pending(10**6)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= answered
    spool.close()


def test_a_torn_record_ends_its_segment_and_the_next_upload_starts_behind_it(tmp_path):
    made = Spool.create(tmp_path, LINEAGE, segment_bytes=4096)
    write(made, 100)
    made.close()
    first, second = sorted(tmp_path.rglob("*.segment"))[:2]
    data = bytearray(first.read_bytes())
    data[2000] ^= 1
    first.write_bytes(data)
    (spool,) = Spool.left_behind(tmp_path, LINEAGE)
    before = spool.pending(1000)
    assert 0 < before[-1].sequence < int(second.stem)
    spool.acknowledge(before[-1].sequence)
    after = spool.pending(1000)
    assert after[0].sequence == int(second.stem)
    spool.acknowledge(after[-1].sequence)
    spool.close()
    assert list(tmp_path.rglob("*.segment")) == []


class Server:
    def __init__(self):
        self.taken = []
        self.error = None
        self.short = 0

    def __call__(self, request):
        if self.error:
            raise self.error
        assert len(request.passes) <= 500
        self.taken += [(request.sdk_id, each.sequence) for each in request.passes]
        return audit_pb2.UploadLocalPassesResponse(acknowledged_sequence=request.passes[-1].sequence - self.short)


def test_uploads_go_in_batches_and_in_order(tmp_path):
    made, server = Spool.create(tmp_path, LINEAGE), Server()
    write(made, 1200)
    assert not Uploader(server).drain(made, 2)
    assert Uploader(server).drain(made, 2)
    assert server.taken == [(made.sdk_id, number) for number in range(1, 1201)]
    made.close()


def test_what_is_not_acknowledged_stays(tmp_path):
    made, server = Spool.create(tmp_path, LINEAGE), Server()
    write(made, 5)
    server.error = Unavailable("away")
    with pytest.raises(Unavailable):
        Uploader(server).drain(made, 1)
    server.error, server.short = None, 1
    with pytest.raises(GatewayFault):
        Uploader(server).drain(made, 1)
    assert len(made.pending(10)) == 5
    made.acknowledge(5)
    made.close()


def test_spools_of_dead_processes_are_uploaded_under_their_own_name(tmp_path):
    left = Spool.create(tmp_path, LINEAGE)
    write(left, 3)
    left.close()
    other = Spool.create(tmp_path, "cd" * 16)
    write(other, 1)
    other.close()
    server = Server()
    assert Uploader(server).take_over(tmp_path, LINEAGE) == 1
    assert server.taken == [(left.sdk_id, 1), (left.sdk_id, 2), (left.sdk_id, 3)]
    assert [path for path in (tmp_path / LINEAGE).rglob("*") if path.is_file()] == []
    assert len(list((tmp_path / ("cd" * 16)).rglob("*.segment"))) == 1


def test_a_spool_whose_lock_somebody_deleted_is_uploaded_all_the_same(tmp_path):
    left = Spool.create(tmp_path, LINEAGE)
    write(left, 3)
    left.close()
    (lock,) = (tmp_path / LINEAGE / "spool").glob("*.lock")
    lock.unlink()
    server = Server()
    assert Uploader(server).take_over(tmp_path, LINEAGE) == 1
    assert len(server.taken) == 3
    assert list((tmp_path / LINEAGE / "spool").iterdir()) == []


def test_what_cannot_be_read_in_one_spool_keeps_no_other_back(tmp_path, caplog):
    left = [Spool.create(tmp_path, LINEAGE) for _ in range(5)]
    left.sort(key=lambda spool: spool.sdk_id)
    for number, spool in enumerate(left):
        write(spool, 1, b"\xff\xff" if number == 1 else CONTEXT)
        spool.close()
    # Somebody made a copy beside it.
    (segment,) = (tmp_path / LINEAGE / "spool" / left[2].sdk_id).glob("*.segment")
    shutil.copy(segment, segment.with_stem(f"{segment.stem} copy"))
    server = Server()
    assert Uploader(server).take_over(tmp_path, LINEAGE) == 4
    assert server.taken == [(left[number].sdk_id, 1) for number in (0, 2, 3, 4)]
    assert "cannot be read" in caplog.text
    assert len(list(tmp_path.rglob("*.segment"))) == 2, "what was not taken stays"


def test_what_is_damaged_at_the_end_of_a_spool_is_told(tmp_path, caplog):
    spool = Spool.create(tmp_path, LINEAGE)
    for number in range(1, 6):
        spool.append(number, number.to_bytes(8, "big"), (1, 1, 1, 0), CONTEXT)
    (path,) = tmp_path.rglob("*.segment")
    spool.abandon()
    content = bytearray(path.read_bytes())
    content[len(content.rstrip(b"\0")) - 100] ^= 1
    path.write_bytes(content)
    sent: list[int] = []

    def upload(request):
        sent.extend(each.sequence for each in request.passes)
        return audit_pb2.UploadLocalPassesResponse(acknowledged_sequence=sent[-1])

    assert Uploader(upload).take_over(tmp_path, LINEAGE) == 1
    assert sent == [1, 2, 3]
    assert "is damaged: passes in its last 10" in caplog.text
