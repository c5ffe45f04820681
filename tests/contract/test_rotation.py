"""A new view key: every live company gets its digest under it, or nothing has changed. Nobody goes missing."""

import datetime
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lanjie_gateway.adapters.keys import KeysLostError, make_view_key
from lanjie_gateway.adapters.ledger import GenerationGoneError, Ledger
from lanjie_gateway.domain.errors import Refused, Unanswerable
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.import_rules import Counts
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import parse
from tests.support.core import citizen, uscc
from tests.support.ledger import NOON, Clock, cells, open_ledger, receipt, stage, stage_rows, staged, take
from tests.support.postgres import PostgresServer

Open = Callable[..., Ledger]


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Open]:
    """Opens a ledger with the keys of a host, in a file below them unless told otherwise."""
    opened = []

    def one(name: str = "a", url: str = "") -> Ledger:
        (tmp_path / name).mkdir(exist_ok=True)
        opened.append(open_ledger(tmp_path / name, Clock(), url))
        return opened[-1]

    yield one
    for each in opened:
        each.close()


@pytest.fixture
def ledger(reopen: Open) -> Ledger:
    return reopen()


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., bool]:
    def one(ledger: Ledger, name: str = "a") -> bool:
        return ledger.begin_rotation(functools.partial(make_view_key, tmp_path / name / "keys"))

    return one


def carry_out(ledger: Ledger, limit: int = 2) -> int:
    """Make all digests and switch."""
    done, total = 0, 1
    while done < total:
        done, total = ledger.rotate(limit)
    return ledger.switch_generation("local/agency")


def key(number: int) -> str:
    return parse(f"uscc:{uscc(number)}").key


def digests(ledger: Ledger, *numbers: int) -> list[int]:
    """What the view holds when these companies are in it."""
    view = ViewKey(ledger.keys.view, 40)
    return sorted(view.digest64(key(number)) for number in numbers)


def act(ledger: Ledger, number: int, kind: EventKind = EventKind.REMOVED) -> int:
    stored = ledger.find(parse(f"uscc:{uscc(number)}"))[0]
    return ledger.record(stored.id, Act(kind=kind, actor="tax/bert", reason="paid up", document="No. 9"))


def bucket(ledger: Ledger, number: int) -> Any:
    (state,) = ledger.buckets([IndexKey(ledger.keys.index).token(key(number))])
    return state


def spoil(ledger: Ledger, number: int) -> str:
    """Make the details of a listing unreadable; return its id."""
    listing = ledger.find(parse(f"uscc:{uscc(number)}"))[0].id
    with ledger._engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE listing SET wrapped_key = NULL WHERE id = {int(listing, 16)}")
    return listing


def test_every_live_company_has_its_digest_under_the_new_key(reopen: Open, ledger_url: str, begin: Any) -> None:
    ledger = reopen(url=ledger_url)
    take(ledger, *(cells(number) for number in range(5)), cells(5, id_kind="citizen", id_number=citizen(5)))
    take(ledger, cells(6, source_record_id="6", source_version="1"), cells(1, decision_no="another"))
    take(ledger, cells(7, source_record_id="6", source_version="2", other_ids=f"uscc:{uscc(8)}"))
    act(ledger, 2)
    old = ledger.keys
    assert begin(ledger)
    assert ledger.listed_digests().tolist() == digests(ledger, 0, 1, 3, 4, 7, 8)
    assert carry_out(ledger) == 5
    assert (ledger.generation, ledger.keys.view_key_id, ledger.epoch) == (2, "view-2", 1)
    assert ledger.keys.view != old.view
    assert ledger.listed_digests().tolist() == digests(ledger, 0, 1, 3, 4, 7, 8)
    listed = (0, 1, 3, 4, 7, 8)
    shards = {IndexKey(ledger.keys.index).token(key(number))[0] for number in listed}
    parts = [ledger.listed_digests_of(number) for number in shards]
    assert sorted(digest for part in parts for digest in part) == ledger.listed_digests().tolist()
    before = ViewKey(old.view, 40)
    assert ledger.listed_digests(other=True).tolist() == sorted(before.digest64(key(number)) for number in listed)
    for number in (0, 2, 7):
        state = bucket(ledger, number)
        assert state.digest(1) == before.digest64(key(number))
        assert state.digest(2) == state.view_digest == ViewKey(ledger.keys.view, 40).digest64(key(number))
    assert [info.kind for info in ledger.commits_after(4, 9)] == ["view"]
    assert ledger.changed(5, 0, 9) == ([], None)
    ledger.end_rotation()
    with pytest.raises(GenerationGoneError):
        bucket(ledger, 0).digest(1)
    with pytest.raises(GenerationGoneError):
        ledger.listed_digests(other=True)
    # Into the slot that has just become free, and once more.
    assert take(ledger, cells(9)).revision == 6
    for generation in (3, 4):
        assert begin(ledger)
        carry_out(ledger, 100)
        ledger.end_rotation()
        assert ledger.generation == generation
        assert ledger.listed_digests().tolist() == digests(ledger, 0, 1, 3, 4, 7, 8, 9)


def test_what_is_interrupted_leaves_the_old_generation_whole(reopen: Open, begin: Any, tmp_path: Path) -> None:
    ledger = reopen()
    take(ledger, *(cells(number) for number in range(7)))
    assert begin(ledger)
    ledger.rotate(3)
    ledger.close()
    made = (tmp_path / "a" / "keys" / "view-2").read_bytes()
    ledger = reopen()
    assert ledger.generation == 1
    assert ledger.listed_digests().tolist() == digests(ledger, *range(7))
    take(ledger, cells(7))
    assert begin(ledger)
    assert carry_out(ledger) == 3
    ledger.close()
    # Killed while the view before is still served: imports go on after the next start.
    ledger = reopen()
    assert (ledger.generation, ledger.keys.view) == (2, made)
    assert ledger.listed_digests().tolist() == digests(ledger, *range(8))
    assert bucket(ledger, 1).other_generation == 1
    take(ledger, cells(8), cells(1, reason="corrected"))
    assert ledger.listed_digests().tolist() == digests(ledger, *range(9))
    with pytest.raises(GenerationGoneError):
        bucket(ledger, 1).digest(1)


def test_a_rotation_that_fails_changes_nothing(ledger: Ledger, begin: Any) -> None:
    take(ledger, *(cells(number) for number in range(4)))
    assert begin(ledger)
    ledger.rotate(3)
    ledger.end_rotation()
    assert take(ledger, cells(4), cells(1, reason="corrected")).revision == 2
    assert ledger.listed_digests().tolist() == digests(ledger, *range(5))
    assert begin(ledger)
    carry_out(ledger)
    assert ledger.listed_digests().tolist() == digests(ledger, *range(5))


def test_removals_go_on_and_show_in_both_views(ledger: Ledger, begin: Any) -> None:
    take(ledger, *(cells(number) for number in range(5)))
    assert begin(ledger)
    ledger.rotate(2)
    assert act(ledger, 0) == 2
    assert act(ledger, 4) == 3
    assert not bucket(ledger, 0).listed
    assert carry_out(ledger) == 4
    assert act(ledger, 2) == 5
    assert ledger.listed_digests().tolist() == digests(ledger, 1, 3)
    assert len(ledger.listed_digests(other=True)) == 2
    ((state,), _) = ledger.changed(5, 0, 9)
    assert not state.listed
    assert None not in (state.digest(1), state.digest(2))


def test_nobody_imports_or_confirms_meanwhile(ledger: Ledger, begin: Any) -> None:
    batch, _ = stage(ledger, cells(1))
    assert not begin(ledger)
    waiting = ledger.park_import(receipt(batch))
    assert begin(ledger)
    assert not begin(ledger)
    assert ledger.begin_import("tax/anna") is None
    assert not ledger.hold_imports()
    ledger.end_import()
    carry_out(ledger)
    with pytest.raises(Unanswerable) as busy:
        ledger.commit_import(waiting, "tax/bert")
    assert busy.value.reason == "OVERLOADED"
    assert ledger.begin_import("tax/anna") is None
    ledger.end_rotation()
    assert ledger.commit_import(waiting, "tax/bert").revision == 2
    assert ledger.listed_digests().tolist() == digests(ledger, 1)


def test_a_file_that_waits_is_given_the_new_digests_too(reopen: Open, ledger_url: str, begin: Any) -> None:
    ledger = reopen(url=ledger_url)
    rows = [cells(n, source_record_id=str(n), source_version="1") for n in range(3)]
    take(ledger, *rows)
    moved = [cells(n + 10, source_record_id=str(n), source_version="2") for n in range(3)]
    batch, _ = stage(ledger, *moved, cells(5), cells(6))
    waiting = ledger.park_import(receipt(batch, counts=Counts(rows=5, added=2, amended=3)))
    assert begin(ledger)
    carry_out(ledger)
    ledger.end_rotation()
    assert ledger.listed_digests().tolist() == digests(ledger, 0, 1, 2)
    ledger.commit_import(waiting, "tax/bert")
    assert ledger.listed_digests().tolist() == digests(ledger, 10, 11, 12, 5, 6)


def test_an_identifier_that_comes_back_after_a_rotation_is_in_the_view(ledger: Ledger, begin: Any) -> None:
    for version, number in enumerate((1, 2), 1):
        take(ledger, cells(number, source_record_id="7", source_version=str(version)))
    assert begin(ledger)
    carry_out(ledger)
    ledger.end_rotation()
    take(ledger, cells(1, source_record_id="7", source_version="3"))
    assert ledger.listed_digests().tolist() == digests(ledger, 1)
    assert bucket(ledger, 1).view_digest == digests(ledger, 1)[0]


def test_a_live_listing_that_cannot_be_read_refuses_the_rotation(ledger: Ledger, begin: Any) -> None:
    take(ledger, *(cells(number) for number in range(3)))
    listing = spoil(ledger, 1)
    assert begin(ledger)
    with pytest.raises(Refused, match=listing) as refused:
        carry_out(ledger)
    assert uscc(1) not in str(refused.value)
    ledger.end_rotation()
    assert ledger.generation == 1
    assert ledger.listed_digests().tolist() == digests(ledger, 0, 1, 2)


def test_an_ended_listing_that_cannot_be_read_is_not_brought_back(ledger: Ledger, begin: Any) -> None:
    take(ledger, *(cells(number) for number in range(3)))
    act(ledger, 1)
    listing = spoil(ledger, 1)
    assert begin(ledger)
    ledger.rotate(100)
    # Its slice is over; the switch sees it all the same.

    def again(kind: EventKind, at: datetime.datetime | None) -> None:
        ledger.record(listing, Act(kind=kind, effective_at=at, actor="a", reason="b", document="c"))

    again(EventKind.REINSTATED, None)
    with pytest.raises(Refused, match=listing):
        ledger.switch_generation("local/agency")
    again(EventKind.REMOVED, NOON + datetime.timedelta(minutes=1))
    carry_out(ledger)
    ledger.end_rotation()
    with pytest.raises(Refused, match="anew"):
        again(EventKind.REINSTATED, NOON + datetime.timedelta(minutes=2))
    # Whoever can be read is.
    act(ledger, 2)
    act(ledger, 2, EventKind.REINSTATED)
    assert ledger.listed_digests().tolist() == digests(ledger, 0, 2)


def test_rows_of_an_older_key_are_never_staged(ledger: Ledger, begin: Any) -> None:
    old = ledger.keys
    assert begin(ledger)
    carry_out(ledger)
    ledger.end_rotation()
    new, ledger.keys = ledger.keys, old
    batch = ledger.begin_import("tax/anna")
    assert batch is not None
    # The turn has brought the new key.
    assert ledger.keys == new
    ledger.keys = old
    with pytest.raises(Refused) as refused:
        stage_rows(ledger, batch, staged(ledger, batch, [cells(1)]))
    assert refused.value.reason == "IMPORT_OUTDATED"


def test_another_host_needs_the_new_key(reopen: Open, shared_url: str, begin: Any, tmp_path: Path) -> None:
    first = reopen(url=shared_url)
    take(first, cells(1), cells(2))
    shutil.copytree(tmp_path / "a" / "keys", tmp_path / "b" / "keys")
    second = reopen("b", shared_url)
    assert begin(first)
    assert not begin(second, "b")
    assert second.begin_import("tax/carl") is None
    carry_out(first)
    with pytest.raises(GenerationGoneError):
        # The key it holds is not the one these digests are of.
        second.listed_digests(other=True)
    assert second.listed_digests().tolist() == digests(second, 1, 2)
    first.end_rotation()
    with pytest.raises(GenerationGoneError):
        second.listed_digests()
    for _ in range(2):
        with pytest.raises(KeysLostError, match=r"copy .*keys.* from the host that has it"):
            second.refresh_generation()
        with pytest.raises(Unanswerable, match="from the host that has it") as away:
            second.begin_import("tax/carl")
        assert away.value.reason == "LEDGER_UNAVAILABLE"
        # Nor is a key of that name that an interrupted rotation of its own left here.
        make_view_key(tmp_path / "b" / "keys", 2)
    assert act(second, 1) == 3
    with pytest.raises(KeysLostError, match="from the host that has it"):
        reopen("b", shared_url)
    shutil.copy(tmp_path / "a" / "keys" / "view-2", tmp_path / "b" / "keys" / "view-2")
    assert take(second, cells(3)).revision == 4
    assert second.generation == second.refresh_generation() == 2
    assert first.listed_digests() == second.listed_digests()
    assert first.listed_digests().tolist() == digests(first, 2, 3)


def test_a_host_that_lost_its_connection_has_lost_its_rotation(
    reopen: Open, shared_url: str, begin: Any, postgres: PostgresServer
) -> None:
    ledger = reopen(url=shared_url)
    take(ledger, *(cells(number) for number in range(3)))
    assert begin(ledger)
    ledger.rotate(100)
    postgres.cut(shared_url)
    with pytest.raises(Unanswerable) as lost:
        ledger.switch_generation("local/agency")
    assert lost.value.reason == "LEDGER_UNAVAILABLE"
    ledger.end_rotation()
    assert take(ledger, cells(4)).revision == 2
    assert ledger.listed_digests().tolist() == digests(ledger, 0, 1, 2, 4)
