"""What time has ended leaves the view a whole day later, and comes back when anything may have changed."""

import asyncio
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.services.catalogue import CatalogueService
from lanjie_gateway.services.pruning import PruningService, _rule
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of, start_of
from lanjie_matcher.identifiers import parse
from lanjie_matcher.listings import EndsWith
from tests.support import catalogues as catalogue
from tests.support.core import uscc
from tests.support.ledger import NOON, Clock, cells, open_ledger, person, receipt, stage, take
from tests.support.signing import signed

TERM = catalogue.catalogues()
ENDED = "2026-10-31"
"""More than one whole day before noon of 2 November."""
ENDED_LATE = "2026-11-01"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reopen(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Ledger]]:
    opened = []

    def one(url: str = "") -> Ledger:
        opened.append(open_ledger(tmp_path, clock, url))
        return opened[-1]

    yield one
    for each in opened:
        each.close()


@pytest.fixture
def ledger(reopen: Callable[..., Ledger]) -> Ledger:
    return reopen()


def prune(ledger: Ledger, known: CatalogueSet = TERM, published: int = 0, limit: int = 2) -> list[int]:
    """Look at every listing; return how many moved in each slice that moved any."""
    after: int | None = 0
    counts = []
    while after is not None:
        done = ledger.prune(after, limit, _rule(known, day_of(ledger._clock())), known=published)
        assert done is not None
        after = done.after
        if done.revision is not None:
            counts.append(done.count)
    return counts


def find(ledger: Ledger, number: int) -> Any:
    return ledger.find(parse(f"uscc:{uscc(number)}"))[0]


def act(ledger: Ledger, number: int, kind: EventKind) -> int:
    return ledger.record(find(ledger, number).id, Act(kind=kind, actor="tax/bert", reason="a", document="b"))


def in_view(ledger: Ledger) -> int:
    return len(ledger.listed_digests())


def changes(ledger: Ledger, revision: int) -> list[bool]:
    return [state.listed for state in ledger.changed(revision, 0, 100)[0]]


def test_what_ended_by_date_leaves_the_view_and_nothing_else(reopen: Callable[..., Ledger], ledger_url: str) -> None:
    ledger = reopen(ledger_url)
    rows = [cells(n, expires_on=ENDED if n < 5 else ENDED_LATE) for n in range(7)]
    take(ledger, *rows, cells(0, decision_no="another"), cells(7, retention_until=ENDED))
    before = [state.value for state in ledger.shards([0])[0]], find(ledger, 1)
    hidden, _ = stage(ledger, cells(9, expires_on=ENDED))
    waiting = ledger.park_import(receipt(hidden))
    assert prune(ledger) == [2, 2, 1, 1]
    assert prune(ledger) == []
    assert [info.kind for info in ledger.commits_after(1, 9)] == ["prune"] * 4
    # Company 0 has another listing.
    assert in_view(ledger) == 3
    assert [sorted(changes(ledger, revision)) for revision in (2, 3, 4, 5)] == [
        [False, True],
        [False] * 2,
        [False],
        [False],
    ]
    assert ([state.value for state in ledger.shards([0])[0]], find(ledger, 1)) == before
    assert [event.kind for event in ledger.get(find(ledger, 1).id)[1]] == ["listed"]  # type: ignore[index]
    assert ledger.live_counts(["TAX"]) == {"TAX": 9}
    ledger.commit_import(waiting)
    assert in_view(ledger) == 4
    again = reopen(ledger_url)
    assert in_view(again) == 4
    assert changes(again, 3) == [False] * 2


def test_any_later_event_or_correction_brings_a_listing_back(ledger: Ledger) -> None:
    take(ledger, *(cells(n, expires_on=ENDED, source_record_id=str(n), source_version="1") for n in range(3)))
    assert prune(ledger, limit=9) == [3]
    assert changes(ledger, act(ledger, 0, EventKind.OBJECTION_OPENED)) == [True]
    corrected = cells(1, expires_on="2027-01-01", source_record_id="1", source_version="2")
    assert changes(ledger, take(ledger, corrected).revision) == [True]
    assert changes(ledger, act(ledger, 2, EventKind.REMOVED)) == [False]
    assert in_view(ledger) == 2
    assert prune(ledger) == [1]
    assert in_view(ledger) == 1


def test_an_event_since_it_was_looked_at_stands(reopen: Callable[..., Ledger], shared_url: str) -> None:
    first, second = reopen(shared_url), reopen(shared_url)
    take(first, *(cells(n, expires_on=ENDED) for n in range(3)))
    rule = _rule(TERM, day_of(NOON))

    def meanwhile(listing: Any) -> bool:
        if not done:
            done.append(act(second, 1, EventKind.OBJECTION_OPENED))
        return rule(listing)

    done: list[int] = []
    pruned = first.prune(0, 9, meanwhile, known=0)
    assert pruned is not None
    assert (pruned.count, pruned.after) == (2, None)
    assert in_view(second) == 1
    # Two hosts that look at once: each listing leaves once.
    assert [prune(second), prune(first)] == [[1], []]


def test_an_edition_that_ends_a_list_type_otherwise_brings_its_listings_back(
    reopen: Callable[..., Ledger], ledger_url: str
) -> None:
    ledger = reopen(ledger_url)
    take(ledger, *(cells(n, expires_on=ENDED) for n in range(3)))
    assert prune(ledger) == [2, 1]
    other = ledger.publish_edition(catalogue.edition(), b"a", "a.yaml", "m", known=0, unprune={"WAGE"})
    assert other is not None
    assert (changes(ledger, other), in_view(ledger)) == ([], 0)
    # Judged by editions that are no longer all there are.
    assert ledger.prune(0, 9, lambda _: True, known=0) is None
    edition = catalogue.edition("b")
    revision = ledger.publish_edition(edition, b"b", "b.yaml", "m", known=1, unprune={"TAX", "WAGE"})
    assert revision is not None
    assert (changes(ledger, revision), in_view(ledger)) == ([True] * 3, 3)
    removal = catalogue.catalogues(catalogue.edition(list_types=(catalogue.list_type(ends_with=EndsWith.REMOVAL),)))
    assert prune(ledger, removal, 2) == []


def test_a_clock_that_was_ahead_leaves_nobody_out_for_good(ledger: Ledger, clock: Clock) -> None:
    take(ledger, *(cells(n, expires_on="2026-12-31") for n in range(3)), cells(3, expires_on=ENDED))
    clock.pass_by(days=365)
    assert prune(ledger) == [2, 2]
    clock.now = NOON
    assert prune(ledger) == [2, 1]
    assert in_view(ledger) == 3
    assert prune(ledger) == []


async def test_it_looks_once_at_start_and_after_each_midnight(tmp_path: Path, clock: Clock) -> None:
    thread = LedgerThread(lambda: open_ledger(tmp_path, clock))
    await thread.start()
    told: asyncio.Queue[int] = asyncio.Queue()
    for last in (ENDED, "2026-11-02"):
        await thread.call(take, cells(int(last[-2:]), expires_on=last))
    service = PruningService(thread, lambda: TERM, clock, told.put, 0.01)
    await thread.call(lambda each: each.publish_edition(catalogue.edition(), b"a", "a.yaml", "m", known=0))
    service.start()
    assert await asyncio.wait_for(told.get(), 10) == 4
    clock.now = start_of(datetime.date(2026, 11, 4)) - datetime.timedelta(seconds=1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(told.get(), 0.15)
    clock.now = start_of(datetime.date(2026, 11, 4))
    assert await asyncio.wait_for(told.get(), 10) == 5
    await service.close()
    assert await thread.call(in_view) == 0
    await thread.close()


EXAMPLE = (Path(__file__).parents[2] / "examples" / "catalogues" / "national-example.yaml").read_bytes()
FIRST = EXAMPLE.replace(b"SXBZXR", b"TAX")
"""Its first list type ends with the term."""


async def test_a_published_file_that_ends_a_list_type_otherwise_brings_its_listings_back(
    tmp_path: Path, clock: Clock
) -> None:
    thread = LedgerThread(lambda: open_ledger(tmp_path, clock))
    await thread.start()
    told: asyncio.Queue[int] = asyncio.Queue()
    service = CatalogueService(thread, told.put, clock, allow_examples=True)
    mara = person("mara", Role.MANAGER)
    await service.publish(FIRST, "first.yaml", mara, signature=signed(FIRST))
    await thread.call(take, cells(1, expires_on=ENDED))
    assert await PruningService(thread, service.current, clock, told.put).run()
    assert await thread.call(in_view) == 0
    same = FIRST.replace(b'edition: "2026"', b'edition: "2026-2"')
    other = FIRST.replace(b'edition: "2026"', b'edition: "2026-3"').replace(
        b"ends_with: term", b"ends_with: removal", 1
    )
    for file, listed in ((same, 0), (other, 1)):
        await service.publish(file, "next.yaml", mara, signature=signed(file))
        assert await thread.call(in_view) == listed
    await thread.close()
