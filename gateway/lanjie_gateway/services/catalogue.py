"""Publishing measure lists, and the catalogues that are in the ledger (Art. 45).

A catalogue is an event like any other: it takes a revision, and the workers apply it in its place of the one sequence.

1. A manager publishes the lists of one level and region, nobody else does.
2. What is published bears a signature of who publishes it, by a key that is registered as that person's own.
"""

import asyncio
import dataclasses
import datetime
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread, StoredEdition
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.catalogue_file import CatalogueRefused, Fault, load
from lanjie_gateway.domain.edition_changes import EditionChanges, edition_changes
from lanjie_gateway.domain.edition_life import EditionLife, life_of
from lanjie_gateway.domain.errors import Refused, Unanswerable, invalid_argument, not_found
from lanjie_gateway.domain.signing import Signature, SignatureRefused, Signed, SignedKind, require_signed
from lanjie_matcher.catalogues import CatalogueSet, Edition, newly_ended
from lanjie_matcher.civil_time import day_of

MAX_FILE_NAME: Final = 255
_PRUNED_AHEAD: Final = datetime.timedelta(days=2)
_ATTEMPTS: Final = 5
"""How often a file is judged anew because another host published meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueRecord:
    """An edition and how it came into the ledger; `stored` is `None` after a dry run."""

    edition: Edition
    file: bytes
    stored: StoredEdition | None = None

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the file."""
        return hashlib.sha256(self.file).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What became of a file."""

    record: CatalogueRecord
    revision: int
    warnings: tuple[str, ...]
    foretold: "Foretold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """What an edition changes among those published before it, and where it stands today.

    `live` has the number of live listings by code of their list type, for all list types concerned.
    """

    changes: EditionChanges
    live: Mapping[str, int]
    life: EditionLife


class CatalogueService:
    """Keeps the catalogues of the ledger at hand, and publishes more.

    Args:
        ledger: the ledger's thread.
        published: awaited with the revision of a commit; returns when every live local worker has applied it.
        clock: aware instants.
        allow_examples: whether catalogues marked ``example: true`` are taken.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        published: Callable[[int], Awaitable[None]],
        clock: Callable[[], datetime.datetime],
        *,
        allow_examples: bool,
    ) -> None:
        self._ledger = ledger
        self._published = published
        self._clock = clock
        self._allow_examples = allow_examples
        self._records: tuple[CatalogueRecord, ...] = ()
        self._current = CatalogueSet.of(())
        # Two files published at once would each be judged without the other.
        self._one_at_a_time = asyncio.Lock()
        self._running: set[asyncio.Task[Published]] = set()

    def current(self) -> CatalogueSet:
        """Return all editions ever published."""
        return self._current

    @property
    def newest(self) -> int:
        """Revision of the newest edition at hand; 0 for none."""
        return self._records[-1].edition.revision if self._records else 0

    async def load_all(self) -> None:
        """Read every edition from the ledger.

        Raises:
            CatalogueRefused: ``example-refused``: the ledger holds an example, and this gateway takes none.
        """
        self._take(await asyncio.to_thread(_read, await self._ledger.call(Ledger.editions)))
        if not self._allow_examples:
            for record in self._records:
                if record.edition.example and record.stored is not None:
                    message = "the ledger holds this example; start with --allow-examples"
                    raise CatalogueRefused(record.stored.file_name, (Fault("catalogue", "example-refused", message),))

    async def publish(
        self,
        file: bytes,
        file_name: str,
        principal: Principal,
        *,
        signature: Signature | None = None,
        dry_run: bool = False,
    ) -> Published:
        """Check a file and, unless it is a dry run, publish it.

        The same file again returns what its first publication did.

        Args:
            file: its bytes.
            file_name: its name, for messages; at most 255 characters.
            principal: the caller.
            signature: of the caller over the file; a dry run needs none.
            dry_run: check it only.

        Raises:
            Refused: NOT_PERMITTED, also for a list of another level or region; ARGUMENT_INVALID.
            CatalogueRefused: it breaks rules, or is not signed.
        """
        principal.require(Role.MANAGER)
        if len(file_name) > MAX_FILE_NAME:
            raise invalid_argument("file_name", "too-long", f"a file name has at most {MAX_FILE_NAME} characters")
        if "\0" in file_name:
            raise invalid_argument("file_name", "characters", "a file name holds no NUL")
        task = asyncio.create_task(self._publish(file, file_name, principal, signature, dry_run=dry_run))
        # A caller that hangs up must not leave a commit that the catalogues at hand do not show.
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def get(self, catalogue_id: str, edition: str, principal: Principal) -> tuple[CatalogueRecord, ...]:
        """Return all editions, newest first, or one.

        Args:
            catalogue_id: id of the catalogue; empty for all editions of all catalogues.
            edition: its edition; the newest when empty.
            principal: the caller; any role may read what is public anyway.

        Raises:
            Refused: NOT_FOUND, NOT_PERMITTED.
        """
        principal.require(*Role)
        newest_first = self._records[::-1]
        if not catalogue_id:
            return newest_first
        for record in newest_first:
            if record.edition.id == catalogue_id and edition in ("", record.edition.edition):
                return (record,)
        raise not_found("no such catalogue or edition")

    def life(self, edition: Edition, on: datetime.date | None = None) -> EditionLife:
        """Return where a published edition stands on a day (default today), by what is published now."""
        return life_of(edition, self._current, on or day_of(self._clock()))

    async def _publish(
        self, file: bytes, file_name: str, principal: Principal, signature: Signature | None, *, dry_run: bool
    ) -> Published:
        async with self._one_at_a_time:
            for _ in range(_ATTEMPTS):
                # Another host may have published since.
                self._take(await asyncio.to_thread(_read, await self._ledger.call(Ledger.editions)))
                for record in self._records:
                    if record.file == file and not dry_run:
                        _require_own(record.edition, principal)  # (1)
                        earlier = [e for e in self._current.editions if e.revision < record.edition.revision]
                        told = await self._foretell(record.edition, earlier)
                        return Published(record=record, revision=record.edition.revision, warnings=(), foretold=told)
                known = [record.edition for record in self._records]
                edition, warnings = await asyncio.to_thread(
                    load, file, file_name, known, allow_examples=self._allow_examples
                )
                _require_own(edition, principal)  # (1)
                # Before the commit: after it nothing may fail any more.
                told = await self._foretell(edition, known)
                if dry_run:
                    dry = CatalogueRecord(edition=edition, file=file)
                    return Published(record=dry, revision=0, warnings=tuple(warnings), foretold=told)
                signed = _signed(file, file_name, principal, signature)  # (2)
                # Whoever has pruned did so by what counts until then, whatever the time of day was there.
                until = day_of(self._clock()) + _PRUNED_AHEAD
                revision = await self._ledger.call(
                    Ledger.publish_edition,
                    edition,
                    file,
                    file_name,
                    principal.actor,
                    known=len(known),
                    unprune=newly_ended(CatalogueSet.of(known), edition, until),
                    signed=signed,
                )
                if revision is not None:
                    break
            else:
                raise Unanswerable("OVERLOADED", "other hosts publish, try again", retry_after_ms="1000")
            self._take(await asyncio.to_thread(_read, await self._ledger.call(Ledger.editions)))
        record = next(each for each in self._records if each.edition.revision == revision)
        await self._published(revision)
        return Published(record=record, revision=revision, warnings=tuple(warnings), foretold=told)

    async def _foretell(self, edition: Edition, before: Sequence[Edition]) -> Foretold:
        changes = await asyncio.to_thread(edition_changes, before, edition)
        live = await self._ledger.call(Ledger.live_counts, sorted(changes.list_types))
        last = dataclasses.replace(edition, revision=max((each.revision for each in before), default=0) + 1)
        life = life_of(last, CatalogueSet.of([*before, last]), day_of(self._clock()))
        return Foretold(changes=changes, live=live, life=life)

    def _take(self, records: tuple[CatalogueRecord, ...]) -> None:
        self._records = records
        self._current = CatalogueSet.of(record.edition for record in records)


def _require_own(edition: Edition, principal: Principal) -> None:
    if not principal.may_publish(edition.level, edition.region):
        required = f"{edition.level.name.lower()} {edition.region}"
        raise Refused("NOT_PERMITTED", "the manager publishes lists of another level or region", required=required)


def _signed(file: bytes, file_name: str, principal: Principal, signature: Signature | None) -> Signed:
    try:
        return require_signed(principal.actor, principal.signing_keys, SignedKind.CATALOGUE, file, signature)
    except SignatureRefused as error:
        raise CatalogueRefused(file_name, (Fault("file", error.rule, str(error)),)) from None


def _read(stored: Sequence[StoredEdition]) -> tuple[CatalogueRecord, ...]:
    """Return the editions of the ledger in the order of their revisions."""
    records: list[CatalogueRecord] = []
    for each in sorted(stored, key=lambda one: one.revision):
        edition, _ = load(each.file, each.file_name, [record.edition for record in records])
        edition = dataclasses.replace(edition, revision=each.revision)
        records.append(CatalogueRecord(edition=edition, file=each.file, stored=each))
    return tuple(records)
