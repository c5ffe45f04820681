"""The exact index of a worker: bucket -> packed listings, as bytes, with a short memory of what was there before.

One mechanism serves two needs (docs/adr/0005): a commit of a million rows arrives in slices and becomes readable at
once, and the parts of a batch are judged on one revision although commits go on between them. Every overwritten value
is remembered with the revision that replaced it; a read at an older revision takes it from there. Memories older than
`HOLD_SECONDS` are dropped, slice by slice.

Records stay bytes: objects would cost a garbage collector pause of a tenth of a second a million (ADR 0005).
"""

import asyncio
from collections import deque
from typing import Final

from lanjie_gateway.domain.errors import Refused
from lanjie_matcher.catalogues import CatalogueSet

HOLD_SECONDS: Final = 60.0


class ExactIndex:
    """Buckets and catalogues by revision. Used from one event loop; reads never wait."""

    def __init__(self) -> None:
        self.revision = 0
        self._oldest = 0
        self._values: dict[bytes, bytes] = {}
        # bucket -> ((revision that replaced it, value until then), ...), oldest first
        self._before: dict[bytes, tuple[tuple[int, bytes], ...]] = {}
        self._touched: deque[tuple[int, list[bytes]]] = deque()
        self._advanced: deque[tuple[int, float]] = deque()
        self._catalogues: list[tuple[int, CatalogueSet]] = [(0, CatalogueSet())]
        self._next_catalogues: CatalogueSet | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def __len__(self) -> int:
        return len(self._values)

    def load(self, bucket: bytes, value: bytes) -> None:
        """Put a value of the initial load; nothing reads before the first `advance`."""
        if value:
            self._values[bucket] = value

    def stage(self, revision: int, slice_: list[tuple[bytes, bytes]]) -> None:
        """Take a slice of the commit `revision`; readers see it after `advance` only."""
        values, before = self._values, self._before
        for bucket, value in slice_:
            history = before.get(bucket, ())
            if not history or history[-1][0] < revision:
                before[bucket] = (*history, (revision, values.get(bucket, b"")))
            if value:
                values[bucket] = value
            else:
                values.pop(bucket, None)
        self._touched.append((revision, [bucket for bucket, _ in slice_]))

    def stage_catalogues(self, catalogues: CatalogueSet) -> None:
        """Take the catalogues of the commit that comes next."""
        self._next_catalogues = catalogues

    def advance(self, revision: int, now: float) -> None:
        """Make everything staged for `revision` readable at once.

        Args:
            revision: the commit.
            now: monotonic seconds.
        """
        if self._next_catalogues is not None:
            self._catalogues.append((revision, self._next_catalogues))
            self._next_catalogues = None
        if self.revision == 0:
            self._oldest = revision
        self.revision = revision
        self._advanced.append((revision, now))
        for entry in [entry for entry in self._waiting if entry[0] <= revision]:
            self._waiting.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)

    def compact(self, now: float, most: int = 2_000) -> None:
        """Forget, a slice of at most `most` buckets a call, what no pinned read may ask for any more."""
        while len(self._advanced) > 1 and self._advanced[1][1] <= now - HOLD_SECONDS:
            self._advanced.popleft()
            self._oldest = self._advanced[0][0]
        while len(self._catalogues) > 1 and self._catalogues[1][0] <= self._oldest:
            self._catalogues.pop(0)
        budget = most
        while self._touched and self._touched[0][0] <= self._oldest and budget > 0:
            _, buckets = self._touched.popleft()
            for bucket in buckets:
                kept = tuple(entry for entry in self._before.get(bucket, ()) if entry[0] > self._oldest)
                if kept:
                    self._before[bucket] = kept
                else:
                    self._before.pop(bucket, None)
            budget -= len(buckets)

    def get(self, bucket: bytes, revision: int) -> bytes:
        """Return the packed listings of a bucket at a revision that `pin` gave; empty for none."""
        if self._before:
            for until, value in self._before.get(bucket, ()):
                if revision < until:
                    return value
        return self._values.get(bucket, b"")

    def catalogues(self, revision: int) -> CatalogueSet:
        """Return the catalogues at a revision that `pin` gave."""
        for since, catalogues in reversed(self._catalogues):
            if since <= revision:
                return catalogues
        return self._catalogues[0][1]

    def pin(self, revision: int) -> int:
        """Return the revision to read at: the one asked for, or the newest for 0.

        Raises:
            Refused: REVISION_COMPACTED, the revision is no longer (or not yet) held.
        """
        if revision == 0:
            return self.revision
        if not self._oldest <= revision <= self.revision:
            raise Refused(
                "REVISION_COMPACTED", "the pinned revision is not held; start the batch again", oldest=str(self._oldest)
            )
        return revision

    async def reached(self, revision: int, timeout: float) -> bool:
        """Wait until `revision` is readable, at most `timeout` seconds; return whether it is."""
        if self.revision >= revision:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, future))
        try:
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            self._waiting = [entry for entry in self._waiting if entry[1] is not future]
            return False
        return True
