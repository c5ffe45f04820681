"""After the end of retention a listing is shown to nobody, by the clock; soon after nothing of it can be opened."""

import datetime
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import sqlalchemy as sa

from lanjie_gateway.adapters.keys import make_view_key
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.adapters.ledger.tables import EVENT, LISTING, LISTING_KEY, PROPOSAL, STAGED_CHANGE, STAGED_KEY
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.import_rules import Counts
from lanjie_gateway.domain.retention import erased
from lanjie_gateway.services.pruning import PruningService, _rule
from lanjie_matcher.civil_time import day_of, start_of
from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.identifiers import parse
from tests.support import catalogues as catalogue
from tests.support.core import uscc
from tests.support.ledger import (
    COLUMNS,
    Clock,
    cells,
    csv_file,
    desk,
    open_ledger,
    person,
    receipt,
    stage,
    take,
)

K = EventKind
OVER = "2026-10-31"
"""More than one whole day before noon of 2 November."""
NOT_YET = "2026-11-01"
COMPANIES = catalogue.catalogues()
REPLY = {"outcome": "unfounded", "reply": "Dear subject, it was as it says."}


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


def listing(ledger: Ledger, number: int) -> str:
    return ledger.find(parse(f"uscc:{uscc(number)}"))[0].id


def act(ledger: Ledger, number: str, kind: EventKind, actor: str = "tax/bert", **detail: Any) -> int:
    return ledger.record(number, Act(kind=kind, actor=actor, reason="a", document="b", detail=detail))


def look(ledger: Ledger, limit: int = 2) -> int:
    """The daily look; return how many listings were erased."""
    today = day_of(ledger._clock())
    after: int | None = 0
    known = len(ledger.editions())
    while after is not None:
        pruned = ledger.prune(after, limit, _rule(COMPANIES, today), known=known)
        assert pruned is not None
        after = pruned.after
    count, after = 0, 0
    while after is not None:
        done = ledger.erase(after, limit, today)
        count, after = count + done.count, done.after
    ledger.tidy()
    return count


def rows(ledger: Ledger, statement: Any) -> list[Any]:
    with ledger._engine.begin() as connection:
        return list(connection.execute(statement).all())


def secrets(ledger: Ledger, number: str) -> list[bytes]:
    """Every sealed value and wrapped key of a listing."""
    mine = int(number, 16)
    found: list[Any] = []
    for table in (LISTING, STAGED_CHANGE):
        key = table.c.id if table is LISTING else table.c.listing_id
        found += [
            each
            for row in rows(ledger, sa.select(table.c.sealed, table.c.wrapped_key).where(key == mine))
            for each in row
        ]
    for table in (EVENT, STAGED_CHANGE):
        payloads = rows(ledger, sa.select(table.c.payload).where(table.c.listing_id == mine))
        found += [each for row in payloads if row.payload for each in msgpack.unpackb(row.payload)[1:]]
    return [each for each in found if each]


def test_nothing_of_it_is_left_to_open(
    reopen: Callable[..., Ledger], ledger_url: str, tmp_path: Path, clock: Clock
) -> None:
    ledger = reopen(ledger_url)
    kept = {"source_record_id": "1", "retention_until": OVER}
    take(ledger, cells(1, source_version="1", **kept), cells(2, retention_until=NOT_YET), cells(3))
    take(ledger, cells(1, source_version="2", reason="corrected", **kept))
    number = listing(ledger, 1)
    act(ledger, number, K.OBJECTION_OPENED)
    act(ledger, number, K.OBJECTION_CLOSED, **REPLY)
    batch, _ = stage(ledger, cells(1, source_version="3", reason="again", **kept), cells(3, reason="corrected"))
    waiting = ledger.park_import(receipt(batch, counts=Counts(rows=2, amended=2)))
    proposal: dict[str, Any] = {
        "kind": "amended",
        "state": "waiting",
        "base_content": b"x" * 16,
        "packed": b"p",
        "sealed": b"s",
    }
    proposal |= {"wrapped_key": b"w", "detail": {"name": "n"}, "actor": "a", "reason": "r", "document": "d"}
    with ledger._engine.begin() as connection:
        connection.execute(PROPOSAL.insert().values(listing_id=int(number, 16), proposed_at=0, **proposal))
    before = secrets(ledger, number)
    assert len(before) > 8
    head = ledger.head()

    assert look(ledger) == 1
    assert look(ledger) == 0
    assert ledger.head() == head + 2
    assert secrets(ledger, number) == []
    assert ledger.find(parse(f"uscc:{uscc(1)}")) == []
    stored, events = ledger.get(number)  # type: ignore[misc]
    assert (stored.details, erased(stored.packed), stored.packed.name_token) == (None, True, None)
    assert [event.kind for event in events][-1] == K.ERASED
    assert [dict(event.detail) for event in events if event.detail] == [{"outcome": "unfounded"}]
    (left,) = rows(ledger, sa.select(PROPOSAL))
    assert (left.state, left.packed, left.sealed, left.wrapped_key, left.detail) == ("declined", *[None] * 4)
    mine = STAGED_KEY.c.listing_id == int(number, 16)
    assert rows(ledger, sa.select(STAGED_KEY).where(mine)) == []
    # The exact index holds it no longer; who looks at the commit is told so.
    assert all(uscc(1) not in repr(state) for state in ledger.changed(head + 2, 0, 9)[0])
    assert [(state.value, state.listed) for state in ledger.changed(head + 2, 0, 9)[0]] == [(b"", False)]
    for kind in (K.REINSTATED, K.REVIEWED, K.ANNULLED):
        with pytest.raises(Refused) as error:
            act(ledger, number, kind, revision=1, verdict="agreed")
        assert error.value.reason == "NOT_FOUND"
    # What waited is committed without it, and a late file never lists it anew.
    assert ledger.commit_import(waiting, "tax/bert").counts.amended == 1
    _, done = stage(ledger, cells(1, source_version="9", **kept))
    assert [row.rule for row in done.bad] == ["ended-not-resurrected"]
    ledger.end_import()
    ledger.purge()
    ledger.tidy()
    if not ledger.shared:
        held = b"".join(file.read_bytes() for file in tmp_path.glob("ledger.sqlite3*"))
        assert [secret for secret in before if secret in held] == []
        assert REPLY["reply"].encode() not in held
    assert look(reopen(ledger_url)) == 0
    # One whole day later than its last day, and not before.
    clock.now = start_of(datetime.date(2026, 11, 3)) - datetime.timedelta(seconds=1)
    assert look(ledger) == 0
    clock.pass_by(seconds=1)
    assert look(ledger) == 1


def test_it_waits_for_what_has_to_be_done(reopen: Callable[..., Ledger]) -> None:
    ledger = reopen()
    take(ledger, *(cells(number, retention_until=OVER) for number in range(1, 4)))
    first, second, third = (listing(ledger, number) for number in range(1, 4))
    act(ledger, first, K.OBJECTION_OPENED)
    removed = act(ledger, second, K.REMOVED)
    assert look(ledger) == 1
    act(ledger, first, K.OBJECTION_CLOSED, **REPLY)
    act(ledger, second, K.REVIEWED, "tax/carl", revision=removed, verdict="contested")
    assert look(ledger) == 2
    assert ledger.open_duties() == {}
    kinds = [event.kind for number in (first, second, third) for event in ledger.get(number)[1]]  # type: ignore[index]
    assert kinds.count(K.ERASED) == 3


def test_hosts_that_look_at_once_erase_each_of_them_once(reopen: Callable[..., Ledger], shared_url: str) -> None:
    first, second = reopen(shared_url), reopen(shared_url)
    take(first, *(cells(number, retention_until=OVER) for number in range(1, 4)))
    for host in (first, second):
        assert look(host, 9) == (3 if host is first else 0)
    revisions = [info.revision for info in second.commits_after(0, 9)]
    assert revisions == [1, 2, 3]


def test_the_view_and_its_keys_go_on_without_it(reopen: Callable[..., Ledger], tmp_path: Path, clock: Clock) -> None:
    ledger = reopen()
    take(ledger, *(cells(number, retention_until=OVER) for number in range(1, 4)), cells(4), cells(1, decision_no="2"))
    since = clock.now - datetime.timedelta(hours=1)
    assert look(ledger) == 3
    expected = sorted(ViewKey(ledger.keys.view, 40).digest64(parse(f"uscc:{uscc(n)}").key) for n in (1, 4))
    assert ledger.listed_digests().tolist() == expected
    # An SDK that was away hears that they have left.
    told, _ = ledger.touched_since(since, ledger.head(), 100)
    assert len({digest for _, digest in told}) == 4
    clock.pass_by(days=32)
    ledger.erase(0, 9, day_of(clock.now))
    digests = rows(ledger, sa.select(LISTING_KEY.c.view_digest).where(LISTING_KEY.c.current.is_(False)))
    assert [row.view_digest for row in digests] == [None] * 3
    assert ledger.begin_rotation(functools.partial(make_view_key, tmp_path / "keys"))
    done, total = 0, 1
    while done < total:
        done, total = ledger.rotate(2)
    ledger.switch_generation("local/agency")
    ledger.end_rotation()
    assert len(ledger.listed_digests()) == 2


async def test_from_midnight_on_it_reads_like_one_that_never_was(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        file = csv_file([cells(1, retention_until="2026-11-03")], (*COLUMNS, "retention_until"))
        await at.take(file)
        (view,) = await at.find(1)
        reader = person("reader", Role.AGENCY)
        at.clock.now = start_of(datetime.date(2026, 11, 4)) - datetime.timedelta(seconds=1)
        await at.listings.get(view.listing.id, "test", reader)
        at.clock.pass_by(seconds=1)
        assert await at.find(1) == []
        messages = []
        for number in (view.listing.id, "0" * 16):
            with pytest.raises(Refused) as error:
                await at.listings.get(number, "test", reader)
            messages.append((error.value.reason, str(error.value)))
        assert messages[0] == messages[1]
        # What has to be recorded still can be, and answers nothing.
        _, shown = await at.listings.remove(view.listing.id, "r", "d", "", person("anna"))
        assert (shown.masked_identifiers, shown.name, shown.listing.decision_no) == ((), "", "")
        assert shown.not_in_force == "retention_ended"


async def test_the_daily_look_erases_and_tells(tmp_path: Path, clock: Clock) -> None:
    thread = LedgerThread(lambda: open_ledger(tmp_path, clock))
    await thread.start()
    await thread.call(take, cells(1, retention_until=OVER), cells(2))
    told: list[int] = []

    async def published(revision: int) -> None:
        told.append(revision)

    service = PruningService(thread, lambda: COMPANIES, clock, published)
    await thread.call(lambda each: each.publish_edition(catalogue.edition(), b"a", "a.yaml", "m", known=0))
    for _ in range(2):
        assert await service.run()
    assert told == [3, 4]
    assert await thread.call(lambda each: each.find(parse(f"uscc:{uscc(1)}"))) == []
    await thread.close()
