"""What time has ended leaves the view, and comes back where anything may put it in force again (Art. 41, 48).

It shrinks what is derived and decides nothing: the exact index keeps every listing, and `standing` judges it.

1. Slices in the order of ids, each looked at by `lanjie_matcher.listings.ended_by_date` and committed by itself.
2. A listing leaves as it was judged: by editions that are still all there are, and before any later event. Where either
   has changed, it is left for the next time.
3. Every later event and correction brings its listing back in its own transaction (`Ledger.record`,
   `receipts.commit_import`), and an edition that ends a list type otherwise brings back all of that type.
4. A commit tells whom it touched by rows of ``event``, for that is where the feed of any host looks them up, after a
   restart too. Their kinds are the ledger's own, and no event of the law: nobody is shown them.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import commits, editions, locks
from lanjie_gateway.adapters.ledger.rows import Pruned
from lanjie_gateway.adapters.ledger.tables import BATCH, EVENT, LISTING
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.history import PRUNED, UNPRUNED
from lanjie_matcher.listings import Listing

ACTOR: Final = "gateway"
_LIVE: Final = LISTING.c.ended.is_(False) & LISTING.c.annulled.is_(False)


def prune(
    connection: sa.Connection, after: int, limit: int, ended: Callable[[Listing], bool], *, known: int, now: int
) -> Pruned | None:
    """Look at one slice; arguments and result as for `Ledger.prune`."""
    # (2) An edition that is published meanwhile waits, and then brings back what this slice has taken.
    locks.wait(connection, editions.LOCK)
    if editions.count(connection) != known:
        return None
    some = sa.select(LISTING.c.id).where(LISTING.c.id > after).order_by(LISTING.c.id).limit(limit).subquery()
    last, count = connection.execute(sa.select(sa.func.max(some.c.id), sa.func.count())).one()
    if not count:
        return Pruned(None, 0, None)
    rows = connection.execute(
        sa.select(LISTING.c.id, LISTING.c.changed_by, LISTING.c.pruned, LISTING.c.packed)
        .join(BATCH, BATCH.c.id == LISTING.c.batch_id)
        .where(LISTING.c.id > after, LISTING.c.id <= last, _LIVE, BATCH.c.revision.is_not(None))
    )
    # The other way round too: a clock that was ahead must not leave anybody out of the view for good.
    found = {row.id: row for row in rows if ended(packed.unpack(row.packed).listing) is not row.pruned}
    moved = _held(connection, found)
    revision = None
    if moved:
        batch = commits.begin(connection, ACTOR, now, kind="prune")
        for pruned, kind in ((True, PRUNED), (False, UNPRUNED)):
            numbers = [number for number in moved if found[number].pruned is not pruned]
            connection.execute(LISTING.update().where(LISTING.c.id.in_(numbers)).values(pruned=pruned))
            told = {"batch_id": batch, "kind": kind, "actor": ACTOR, "reason": "", "document": ""}
            if numbers:
                connection.execute(EVENT.insert(), [{**told, "listing_id": number} for number in numbers])
        revision = commits.commit(connection, batch, now)
    return Pruned(revision, len(moved), last if count == limit else None)


def unprune(connection: sa.Connection, batch: int, list_types: Collection[str]) -> None:
    """Bring the pruned listings of list types back, as part of a commit (3)."""
    mine = LISTING.c.pruned.is_(True) & LISTING.c.list_type.in_(list_types)
    if not list_types:
        return
    if locks.shared(connection):
        # By a statement of its own, and in one order, as in `receipts`: hosts record events meanwhile.
        held = sa.select(LISTING.c.id).where(mine).order_by(LISTING.c.id).with_for_update()
        connection.execute(sa.select(sa.func.count()).select_from(held.subquery()))
    columns = ["batch_id", "listing_id", "kind", "actor", "reason", "document"]
    values = (sa.literal(each) for each in (UNPRUNED, ACTOR, "", ""))
    told = sa.select(sa.literal(batch), LISTING.c.id, *values).where(mine).order_by(LISTING.c.id)
    connection.execute(EVENT.insert().from_select(columns, told))
    connection.execute(LISTING.update().where(mine).values(pruned=False))


def _held(connection: sa.Connection, found: Mapping[int, Any]) -> list[int]:
    """Hold those of the listings that nobody changes or has changed since they were read."""
    if not found:
        return []
    rows = sa.select(LISTING.c.id, LISTING.c.changed_by, LISTING.c.pruned).where(LISTING.c.id.in_(found))
    held = connection.execute(rows.order_by(LISTING.c.id).with_for_update(skip_locked=True))
    return [row.id for row in held if (row.changed_by, row.pruned) == (found[row.id].changed_by, found[row.id].pruned)]
