"""A new generation of the view key (Art. 43, 48).

1. The key is on the disk before a digest made with it counts.
2. Slice by slice, each a transaction of its own, every listing is unsealed and its digests under the new key are
   written into the slot that is not in use; what an import that waits will change, too. A key that is no longer among
   a listing's identifiers, and a person's, gets none.
3. The switch is one small commit: from then on the other slot is the one in use.
4. The lock of the imports is held from before the first slice until the caller ends the rotation: what they look up and
   stage holds one generation. Removals and other events go on; they change no key.
5. A live listing of a company that gets no new digest would be missing from the view, and a counter would pass it in
   silence. Such a listing refuses the rotation, and one that had ended is not brought back afterwards (`missing`).

Interrupted anywhere before the switch, nothing has changed: the next rotation begins anew, with the same key.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.keys import KeyRing
from lanjie_gateway.adapters.ledger import commits, feed, locks
from lanjie_gateway.adapters.ledger.rows import signed64
from lanjie_gateway.adapters.ledger.tables import HEAD, LISTING, LISTING_KEY, STAGED_CHANGE, STAGED_KEY
from lanjie_gateway.adapters.sealing import SealBrokenError, Sealer
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.errors import Refused, Unanswerable
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import PERSON_KINDS, IdentifierError, parse

SLICE_ROWS: Final = 1_000
"""Listings that one step takes: removals wait that long."""
_CHECKED_ROWS: Final = 1_000
_ENDED: Final = (LISTING.c.ended | LISTING.c.annulled).label("ended")


class Rotation:
    """One rotation under way. Made by `begin`, used by the ledger alone.

    Attributes:
        keys: of the new generation.
        done: rows whose digests are made.
        total: rows there are.
    """

    def __init__(self, keys: KeyRing, slot: int, total: int) -> None:
        self.keys = keys
        self.done = 0
        self.total = total
        self.complete = False
        self._slot = slot
        self._index = IndexKey(keys.index)
        self._view = ViewKey(keys.view, 24)
        self._sealer = Sealer(keys.store)
        self._unread: list[int] = []
        self._after = -1
        self._staged_after = (-1, -1)

    def step(self, connection: sa.Connection, limit: int = SLICE_ROWS) -> None:
        """Make the digests of the next rows; `complete` tells when there are none left (2)."""
        self._fence(connection)
        count = self._listings(connection, limit)
        if count < limit:
            staged = self._staged(connection, limit)
            self.complete = staged < limit
            count += staged
        self.done = self.total if self.complete else min(self.done + count, self.total - 1)

    def switch(self, connection: sa.Connection, actor: str, now: int) -> int:
        """Make the new generation the ledger's, as a commit of its own; return its revision (3)."""
        self._fence(connection)
        self._check_unread(connection)
        batch = commits.begin(connection, actor, now, kind="view")
        connection.execute(
            HEAD.update().values(
                generation=self.keys.generation,
                other_generation=HEAD.c.generation,
                view_slot=self._slot,
                view_check=self.keys.view_check,
            )
        )
        return commits.commit(connection, batch, now)

    def _fence(self, connection: sa.Connection) -> None:
        # (4) A host whose connection was lost has lost the lock: others may have imported, or rotated.
        generation = connection.execute(sa.select(HEAD.c.generation)).scalar_one()
        if not locks.holds(connection, locks.IMPORTS) or generation != self.keys.generation - 1:
            raise Unanswerable("LEDGER_UNAVAILABLE", "the connection to the ledger was lost; rotate the key again")

    def _check_unread(self, connection: sa.Connection) -> None:
        # (5) An event may have brought one back since its slice. It is held, so that none does so until the commit.
        for start in range(0, len(self._unread), _CHECKED_ROWS):
            some = LISTING.c.id.in_(self._unread[start : start + _CHECKED_ROWS])
            for row in connection.execute(sa.select(LISTING.c.id, _ENDED).where(some).with_for_update()):
                if not row.ended:
                    raise _unreadable(row.id)

    def _listings(self, connection: sa.Connection, limit: int) -> int:
        rows = connection.execute(
            sa.select(
                *(LISTING.c.id, LISTING.c.natural_key, LISTING.c.sealed, LISTING.c.wrapped_key),
                _ENDED,
            )
            .where(LISTING.c.id > self._after)
            .order_by(LISTING.c.id)
            .limit(limit)
        ).all()
        if not rows:
            return 0
        numbers = [row.id for row in rows]
        own = sa.select(
            LISTING_KEY.c.listing_id, LISTING_KEY.c.bucket, feed.slot(1 - self._slot), LISTING_KEY.c.current
        )
        held: dict[int, list[Any]] = {number: [] for number in numbers}
        for listing, *key in connection.execute(own.where(LISTING_KEY.c.listing_id.in_(numbers))):
            held[listing].append(key)
        made = []
        for row in rows:
            digests = self._digests(row)
            for bucket, old, current in held[row.id]:
                digest = digests.get(bucket)
                if digest is None and old is not None and current:
                    self._unread.append(row.id)
                    if not row.ended:
                        raise _unreadable(row.id)  # (5)
                made.append((signed64(digest), bucket, row.id))
        self._write(connection, LISTING_KEY, ("bucket", "listing_id"), made)
        self._after = numbers[-1]
        return len(rows)

    def _staged(self, connection: sa.Connection, limit: int) -> int:
        place = sa.tuple_(STAGED_CHANGE.c.batch_id, STAGED_CHANGE.c.listing_id)
        rows = connection.execute(
            sa.select(
                STAGED_CHANGE.c.batch_id,
                STAGED_CHANGE.c.listing_id,
                *(LISTING.c.natural_key, STAGED_CHANGE.c.sealed, STAGED_CHANGE.c.wrapped_key),
            )
            .join(LISTING, LISTING.c.id == STAGED_CHANGE.c.listing_id)
            .where(place > self._staged_after)
            .order_by(STAGED_CHANGE.c.batch_id, STAGED_CHANGE.c.listing_id)
            .limit(limit)
        ).all()
        if not rows:
            return 0
        last = (rows[-1].batch_id, rows[-1].listing_id)
        found = connection.execute(
            sa.select(STAGED_KEY.c.batch_id, STAGED_KEY.c.listing_id, STAGED_KEY.c.bucket, self._old_staged()).where(
                sa.tuple_(STAGED_KEY.c.batch_id, STAGED_KEY.c.listing_id) > self._staged_after,
                sa.tuple_(STAGED_KEY.c.batch_id, STAGED_KEY.c.listing_id) <= last,
            )
        ).all()
        digests = {(row.batch_id, row.listing_id): self._digests(row) for row in rows}
        made = []
        for batch, listing, bucket, old in found:
            digest = digests.get((batch, listing), {}).get(bucket)
            if digest is None and old is not None:
                raise _unreadable(listing)  # (5)
            made.append((signed64(digest), batch, listing, bucket))
        self._write(connection, STAGED_KEY, ("batch_id", "listing_id", "bucket"), made)
        self._staged_after = last
        return len(rows)

    def _old_staged(self) -> sa.Column[int]:
        return STAGED_KEY.c.view_digest if self._slot else STAGED_KEY.c.other_digest

    def _digests(self, row: Any) -> dict[bytes, int]:
        """Return the new digests of a row's details by bucket; none where they were erased or do not open."""
        if row.sealed is None or row.wrapped_key is None:
            return {}
        try:
            details = packed.unpack_details(self._sealer.open(row.sealed, row.wrapped_key, row.natural_key))
            keys = [each.key for each in map(parse, details.identifiers) if not each.is_person]
        except (SealBrokenError, IdentifierError, ValueError):
            return {}
        return {self._index.token(key): self._view.digest64(key) for key in keys}

    def _write(
        self, connection: sa.Connection, table: sa.Table, places: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Write digests, the first value of each row, into the new slot; the others say where."""
        if not rows:
            return
        column = table.c.other_digest if self._slot else table.c.view_digest
        names = [f"at_{name}" for name in places]
        where = [table.c[name] == sa.bindparam(at) for name, at in zip(places, names, strict=True)]
        statement = table.update().where(*where).values({column: sa.bindparam("digest")})
        connection.execute(statement, [dict(zip(("digest", *names), row, strict=True)) for row in rows])


def begin(connection: sa.Connection, keys: KeyRing) -> Rotation:
    """Return a rotation to the keys of the next generation; the digests of the one before this are given up."""
    slot = connection.execute(sa.select(HEAD.c.view_slot)).scalar_one()
    retire(connection)
    total = sum(
        connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        for table in (LISTING, STAGED_CHANGE)
    )
    return Rotation(keys, 1 - slot, total)


def retire(connection: sa.Connection) -> None:
    """Let nobody follow the view of the generation before: what is imported from now on has no digest in it."""
    connection.execute(HEAD.update().where(HEAD.c.other_generation.is_not(None)).values(other_generation=None))


def missing(connection: sa.Connection, listing: int, kinds: Iterable[str]) -> bool:
    """Whether a listing of a company has no digest in use: its details could not be read when the key was replaced."""
    if all(kind in PERSON_KINDS for kind in kinds):
        return False
    slot = connection.execute(sa.select(HEAD.c.view_slot)).scalar_one()
    held = sa.select(LISTING_KEY.c.bucket).where(
        LISTING_KEY.c.listing_id == listing, LISTING_KEY.c.current.is_(True), feed.slot(slot).is_not(None)
    )
    return connection.execute(held.limit(1)).first() is None


def _unreadable(listing: int) -> Refused:
    message = f"the details of listing {listing:016x} cannot be read, so it would be missing from the new view"
    return Refused("TRANSITION_ILLEGAL", message, state="unreadable", event="rotation")
