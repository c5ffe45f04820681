"""Two processes and one state directory: what the one that follows takes, and what it does when the lead is its own.

Both stand in one process here; a lock tells them apart as it tells processes apart.
"""

import contextlib
import datetime
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from lanjie._files import release_lock, take_lock
from lanjie._keeper import SetKeeper
from lanjie.testing import FakeGateway
from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.ages import Age
from lanjie_matcher.identifiers import parse
from lanjie_matcher.shards import RefusedError
from tests.support.sdk import Clock
from tests.support.subjects import uscc

NOON = datetime.datetime(2026, 3, 2, 4, tzinfo=datetime.UTC)


class Pair:
    """A gateway in memory and two keepers of its set on one directory."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.clock = Clock(NOON)
        self.gateway = FakeGateway(unix_nanos=self.clock.nanos)
        self.first, self.second = self.keeper(), self.keeper()

    def keeper(self) -> SetKeeper:
        """Return another one, turned to the ledger."""
        made = SetKeeper(
            self.state_dir,
            self.gateway.trust,
            use_bloom=True,
            monotonic=self.clock.monotonic,
            now=lambda: self.clock.at,
        )
        made.open(self.gateway.lineage)
        return made

    def take(self, keeper: SetKeeper) -> None:
        """Let the one that leads take what the gateway has."""
        assert keeper.lead()
        keeper.take([self.gateway.update(keeper.state("0" * 32, whole=False))], self.clock.monotonic())

    @property
    def directory(self) -> Path:
        """Where the set lies."""
        return self.state_dir / self.gateway.lineage


def build(keeper: SetKeeper) -> None:
    while keeper.build_some():
        pass


def holds(keeper: SetKeeper, identifier: str) -> bool:
    view = keeper.view
    assert view is not None
    return view.state.key.fingerprint(parse(identifier).key) in view.filter


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.first.close()
    made.second.close()


def test_a_filter_of_an_older_set_never_screens_a_newer_one(pair: Pair) -> None:
    pair.gateway.list_subject(uscc(1))
    pair.take(pair.first)
    late = pair.keeper()  # begins to build a filter of its own: there is no image yet
    build(pair.first)
    pair.clock.advance(5)
    assert not late.lead()
    assert late.follow()
    pair.gateway.list_subject(uscc(2))
    pair.take(pair.first)
    build(pair.first)
    assert late.follow()
    pair.first.close()
    assert late.lead()
    build(late)
    assert holds(late, uscc(2)), "a listed subject would pass"
    other = pair.keeper()
    assert holds(other, uscc(2)), "and in every process that maps the image"
    other.close()
    late.close()


def test_a_set_that_grew_too_old_while_nothing_ran_is_erased_at_the_next_start(pair: Pair) -> None:
    pair.take(pair.first)
    build(pair.first)
    pair.first.close()
    pair.clock.advance(49 * 3_600)
    late = pair.keeper()
    late.purge()
    assert late.view is None
    assert late.erased
    assert not list(pair.directory.glob("base-*")) + list(pair.directory.glob("bloom-*"))
    key = pb.ViewScope.FromString(pair.gateway.update(late.state("0" * 32, whole=True)).scope).key
    assert key not in (pair.directory / "current").read_bytes()
    late.close()


def test_who_takes_the_lead_goes_on_from_what_is_on_disk(pair: Pair) -> None:
    pair.gateway.list_subject(uscc(1))
    pair.take(pair.first)
    pair.clock.advance(5)
    assert not pair.second.lead()
    assert pair.second.follow()
    pair.gateway.list_subject(uscc(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lanjie._store.ViewStore.tell", lambda *_: None)  # killed before it told
        pair.take(pair.first)
    pair.first.close()
    older = pair.gateway.revision - 1
    assert pair.second.lead()
    assert holds(pair.second, uscc(2))
    pair.gateway.revision = older  # a replica that is behind
    with pytest.raises(RefusedError, match="older") as refused:
        pair.take(pair.second)
    assert refused.value.reason == "rollback"


def test_half_a_file_of_a_killed_leader_does_not_stay(pair: Pair) -> None:
    pair.take(pair.first)
    left = pair.directory / "current.4711.new"
    left.write_bytes(b"half a file, with the key")
    assert not pair.second.lead()
    pair.first.close()
    assert pair.second.lead()
    assert not left.exists()


def test_the_page_has_its_space_beforehand(pair: Pair) -> None:
    # A mapped write to a hole on a full disk ends the process.
    pair.take(pair.first)
    assert (pair.directory / "beat").stat().st_blocks > 0


def test_a_child_has_no_part_in_a_lock_even_of_something_nobody_holds_any_more(tmp_path: Path) -> None:
    lock = take_lock(tmp_path / "lock", os.O_CREAT)
    heard, told = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            opened = [Path(f"/proc/self/fd/{number}") for number in range(256)]
            held = tmp_path / "lock" in [each.readlink() for each in opened if each.is_symlink()]
            os.write(told, b"held" if held else b"free")
        os._exit(0)
    os.waitpid(child, 0)
    os.close(told)
    with os.fdopen(heard) as answer:
        assert answer.read() == "free"
    with pytest.raises(OSError, match="unavailable"):
        take_lock(tmp_path / "lock", 0)
    release_lock(lock)


def test_the_page_of_another_start_of_the_machine_is_not_read(pair: Pair) -> None:
    pair.take(pair.first)
    pair.clock.advance(5)
    assert not pair.second.lead()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lanjie._store._boot", lambda: 4711)
        elsewhere = pair.keeper()
    assert not elsewhere.follow()
    assert elsewhere.view is not None
    assert elsewhere.view.age(pair.clock.monotonic()) is Age.STALE
    assert pair.second.follow()
    elsewhere.close()
