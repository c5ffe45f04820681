"""Working days and deadlines: the years that came with the gateway, and those of the ledger (Art. 64-66).

1. A year of the ledger prevails over one that came with the gateway, and of two in the ledger the newer: a notice may
   be corrected by another.
2. Nothing that was computed is kept: what was provisional is certain as soon as its year is here, on every host.
3. Only a manager publishes a year: all terms hang on it.
"""

import asyncio
import datetime
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread, StoredYear
from lanjie_gateway.domain import deadline_file, year_file
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.catalogue_yaml import CatalogueRefused, Fault
from lanjie_gateway.domain.errors import invalid_argument, not_found
from lanjie_gateway.domain.signing import Signature, SignatureRefused, Signed, SignedKind, require_signed
from lanjie_gateway.domain.year_file import YearFile
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.deadlines import DEADLINES, Deadline, due
from lanjie_matcher.workdays import Due, WorkCalendar

MAX_FILE_NAME: Final = 255
NOTICE_AHEAD: Final = datetime.timedelta(days=60)
"""How long before the end of a year the file of the next is due; notices come out in November."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YearRecord:
    """A year that is known; `stored` is `None` for one that came with the gateway, and after a dry run."""

    year: YearFile
    file: bytes
    stored: StoredYear | None = None

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the file."""
        return hashlib.sha256(self.file).digest()


def bundled() -> tuple[YearRecord, ...]:
    """Return the years that came with the gateway."""
    folder = resources.files("lanjie_gateway") / "years"
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".yaml")), key=lambda each: each.name)
    return tuple(_record(each.read_bytes(), each.name) for each in files)


def deadlines_of(path: Path | None) -> Mapping[str, Deadline]:
    """Return the table of deadlines, with the periods of a file where there is one.

    Raises:
        Refused: ARGUMENT_INVALID: it cannot be read, or breaks a rule; rule and key are named.
    """
    if path is None:
        return DEADLINES
    try:
        file = path.read_bytes()
    except OSError as error:
        raise invalid_argument("deadlines", "unreadable", f"{path} cannot be read: {error.strerror}") from None
    return deadline_file.load(file)


class CalendarService:
    """Keeps the known years at hand, publishes more, and says when something is due.

    Args:
        ledger: the ledger's thread.
        published: awaited with the revision of a commit.
        clock: aware instants.
        deadlines: rules by code.
        allow_examples: whether years marked ``example: true`` are taken.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        published: Callable[[int], Awaitable[None]],
        clock: Callable[[], datetime.datetime],
        deadlines: Mapping[str, Deadline] = DEADLINES,
        *,
        allow_examples: bool,
    ) -> None:
        self.deadlines = deadlines
        self._ledger = ledger
        self._published = published
        self._clock = clock
        self._allow_examples = allow_examples
        self._bundled = bundled()
        self._running: set[asyncio.Task[tuple[YearRecord, tuple[str, ...]]]] = set()
        self._newest = 0
        self._take(())

    def current(self) -> WorkCalendar:
        """Return the working days of all years that are known (1)."""
        return self._current

    @property
    def newest(self) -> int:
        """Revision of the newest year file of the ledger at hand; 0 for none."""
        return self._newest

    def years(self) -> tuple[YearRecord, ...]:
        """Return the years that are known, in order."""
        return self._records

    def due(self, rule: str, started_on: datetime.date) -> Due:
        """Return the last day of a term, by the years known now (2).

        Raises:
            KeyError: no rule has that code.
        """
        return due(rule, started_on, self._current, table=self.deadlines)

    def due_year(self) -> int:
        """Return the first year from this one on whose file should be here by now; 0 for none."""
        today = day_of(self._clock())
        for year in (today.year, (today + NOTICE_AHEAD + datetime.timedelta(days=1)).year):
            if year not in self._current.years:
                return year
        return 0

    async def load_all(self) -> None:
        """Read the years of the ledger.

        Raises:
            CatalogueRefused: ``example-refused``: the ledger holds an invented year, and this gateway takes none.
        """
        self._take(await self._ledger.call(Ledger.years))
        for record in self._records:
            if record.stored is not None:
                self._refuse_example(record.year, record.stored.file_name)

    async def publish(
        self,
        file: bytes,
        file_name: str,
        principal: Principal,
        *,
        signature: Signature | None = None,
        dry_run: bool = False,
    ) -> tuple[YearRecord, tuple[str, ...]]:
        """Check a year file and, unless it is a dry run, publish it (3).

        The newest file of a year again returns what its publication did.

        Args:
            file: its bytes.
            file_name: its name, for messages; at most 255 characters.
            principal: the caller.
            signature: of one of the caller's keys over the file; a dry run needs none.
            dry_run: check it only.

        Returns:
            The year, and what in the file is worth a look.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID.
            CatalogueRefused: it breaks rules.
        """
        principal.require(Role.MANAGER)
        if len(file_name) > MAX_FILE_NAME:
            raise invalid_argument("file_name", "too-long", f"a file name has at most {MAX_FILE_NAME} characters")
        if "\0" in file_name:
            raise invalid_argument("file_name", "characters", "a file name holds no NUL")
        year, warnings = year_file.load(file, file_name)
        self._refuse_example(year, file_name)
        if dry_run:
            return YearRecord(year=year, file=file), warnings
        try:
            signed = require_signed(principal.actor, principal.signing_keys, SignedKind.YEAR_FILE, file, signature)
        except SignatureRefused as error:
            raise CatalogueRefused(file_name, (Fault("file", error.rule, str(error)),)) from None
        # A caller that hangs up must not leave a commit that the years at hand do not show.
        task = asyncio.create_task(self._publish(year, file, file_name, signed, warnings))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def get(self, year: int, principal: Principal) -> tuple[YearRecord, ...]:
        """Return all known years, or one.

        Args:
            year: the year; 0 for all.
            principal: the caller; any role may read what is public anyway.

        Raises:
            Refused: NOT_FOUND, NOT_PERMITTED.
        """
        principal.require(*Role)
        found = tuple(record for record in self._records if year in (0, record.year.year))
        if not found:
            raise not_found("the working days of this year are not known")
        return found

    async def _publish(
        self, year: YearFile, file: bytes, file_name: str, signed: Signed, warnings: tuple[str, ...]
    ) -> tuple[YearRecord, tuple[str, ...]]:
        revision = await self._ledger.call(Ledger.publish_year, year.year, year.number, file, file_name, signed)
        stored = await self._ledger.call(Ledger.years)
        self._take(stored)
        await self._published(revision)
        # Another host may have published a newer file of the year meanwhile: the caller hears of its own.
        mine = next(each for each in stored if each.revision == revision)
        return YearRecord(year=year, file=file, stored=mine), warnings

    def _refuse_example(self, year: YearFile, file_name: str) -> None:
        if year.example and not self._allow_examples:
            message = "this year is invented; only a gateway started with --allow-examples takes it"
            raise CatalogueRefused(file_name, (Fault("file", "example-refused", message),))

    def _take(self, stored: Sequence[StoredYear]) -> None:
        # Two calls may end in another order than they began; what was read later holds all of what was read before.
        newest = max((each.revision for each in stored), default=0)
        if newest < self._newest:
            return
        records = {record.year.year: record for record in self._bundled}
        for each in stored:
            records[each.year] = _record(each.file, each.file_name, each)
        self._newest = newest
        self._records = tuple(record for _, record in sorted(records.items()))
        self._current = WorkCalendar.of(record.year.days() for record in self._records)


def _record(file: bytes, file_name: str, stored: StoredYear | None = None) -> YearRecord:
    year, _ = year_file.load(file, file_name)
    return YearRecord(year=year, file=file, stored=stored)
