"""Many questions at once: what is local in slices, the rest in chunks on one revision. Free of transport."""

import datetime
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, overload

from lanjie._context import Context
from lanjie._core import (
    RATE_LIMITED,
    Core,
    Local,
    basis,
    check_name,
    floor,
    instant_of,
    passed,
    read_answer,
    read_identifier,
)
from lanjie.decision import Decision
from lanjie.errors import (
    GatewayFault,
    InvalidArgument,
    InvalidIdentifier,
    LanjieError,
    RateLimited,
    RevisionCompacted,
    Unavailable,
)
from lanjie.v1 import screening_pb2 as pb
from lanjie.v1 import subject_pb2
from lanjie_matcher.ages import Age
from lanjie_matcher.identifiers import Identifier

CHUNK: Final = 300
"""Questions in one batch request; the gateway takes 500."""
CHUNK_BYTES: Final = 60_000
"""Bytes of one batch request; the gateway takes 64 KiB."""
RESTARTS: Final = 3
"""How often a batch starts again because the list has moved on under it: what was found in it has changed."""
_SLICE: Final = 500
_Slot = tuple[int, Age] | Decision | None


class Batch:
    """Many questions that share a context: what is local is answered in slices, the rest in chunks on one revision.

    Drive it so::

        for _ in batch.judge():
            ...                                        # a breath between slices
        while (request := batch.next_request()) is not None:
            try:
                batch.answered(transport.batch_check(request))
            except LanjieError as error:
                batch.failed(error)                    # raises what is the caller's
        batch.decisions()

    Raises:
        InvalidArgument: `names` are not as many as `identifiers`, or one is too long.
    """

    def __init__(
        self,
        core: Core,
        local: Local | None,
        identifiers: Iterable[str | Identifier],
        *,
        names: Sequence[str] | None,
        context: Context,
        at_least_revision: int,
    ) -> None:
        asked = tuple(identifiers)
        if names is not None and len(names) != len(asked):
            raise InvalidArgument("names are as many as identifiers", metadata={"field": "names", "rule": "count"})
        for name in names or ():
            check_name(name)
        self._core = core
        self._local = local
        self._asked = asked
        self._names = names
        self._context = context
        self._at_least = at_least_revision
        # What is known of each item: number and flag of a local pass, a decision, or nothing yet.
        self._slots: list[_Slot] = [None] * len(asked)
        self._remote: list[tuple[int, Identifier]] = []
        self._instant = instant_of(core.unix_nanos())
        self._next = 0
        self._chunk = 0
        self._pinned = 0
        self._restarts = 0

    def judge(self) -> Iterator[None]:
        """Answer what is local, a slice at a time."""
        local, nanos = self._local, self._core.unix_nanos()
        self._instant = instant_of(nanos)
        for start in range(0, len(self._asked), _SLICE):
            # Asked anew for each slice: the set may go stale under a long batch.
            age = None
            if local is not None:
                age = self._core.may_answer(local.view, self._context, self._at_least, nanos)
            self._judge_slice(range(start, min(start + _SLICE, len(self._asked))), nanos, age)
            yield

    def _judge_slice(self, places: range, nanos: int, age: Age | None) -> None:
        missed: list[tuple[int, Identifier, int]] = []
        for place in places:
            try:
                identifier = read_identifier(self._asked[place])
            except InvalidIdentifier as error:
                self._slots[place] = self._core.unreadable(error.rule)
                continue
            if age is not None and self._local is not None and not identifier.is_person:
                key = self._local.view.state.key
                digest = key.digest64(identifier.key)
                if key.narrow(digest) not in self._local.view.filter:
                    missed.append((place, identifier, digest))
                    continue
            self._remote.append((place, identifier))
        if missed and age is not None and self._local is not None:
            view = self._local.view
            rests_on = basis(view, self._core.age_seconds(view))
            numbers = self._local.spool.append(nanos, [digest for *_, digest in missed], rests_on, self._context.wire)
            for (place, *_), number in zip(missed, numbers, strict=False):
                self._slots[place] = (number, age)
            # What found no room in the spool is asked: there is no pass without its record.
            self._remote.extend((place, identifier) for place, identifier, _ in missed[len(numbers) :])

    def next_request(self) -> pb.BatchCheckRequest | None:
        """Return the next request, `None` when all is asked."""
        subjects: list[subject_pb2.Subject] = []
        size = len(self._context.wire) + 64
        for place, identifier in self._remote[self._next : self._next + CHUNK]:
            subject = subject_pb2.Subject(
                identifier=identifier.reveal(), name=self._names[place] if self._names else ""
            )
            size += subject.ByteSize() + 4
            if subjects and size > CHUNK_BYTES:
                break
            subjects.append(subject)
        self._chunk = len(subjects)
        if not subjects:
            return None
        return pb.BatchCheckRequest(
            context=self._context.message,
            subjects=subjects,
            at_least_revision=floor(self._local, self._at_least),
            pinned_revision=self._pinned,
        )

    def answered(self, response: pb.BatchCheckResponse) -> None:
        """Take the answer to the last request.

        Raises:
            GatewayFault: it does not fit the request.
        """
        if len(response.decisions) != self._chunk or (self._pinned and response.revision != self._pinned):
            raise GatewayFault("the answers do not fit the questions")
        for (place, _), message in zip(self._remote[self._next :], response.decisions, strict=False):
            self._slots[place] = read_answer(message)
        self._next += self._chunk
        self._pinned = response.revision

    def failed(self, error: LanjieError) -> None:
        """Take the failure of the last request: start again when the revision is gone, else leave the rest open.

        Raises:
            LanjieError: `error` itself, when neither holds.
        """
        if isinstance(error, RevisionCompacted) and self._restarts < RESTARTS:
            self._restarts += 1
            self._pinned = self._next = 0
            for place, _ in self._remote:
                self._slots[place] = None
        elif isinstance(error, Unavailable):
            for place, identifier in self._open():
                self._slots[place] = self._core.without_gateway(self._local, identifier, self._context, self._at_least)
        elif isinstance(error, RevisionCompacted):
            # The gateway is there, only not for a batch as slow as this one on a list that changes so fast.
            for place, identifier in self._open():
                self._slots[place] = self._core.unanswered(identifier)
        elif isinstance(error, RateLimited):
            for place, identifier in self._open():
                self._slots[place] = self._core.unanswered(identifier, RATE_LIMITED)
        else:
            raise error

    def _open(self) -> list[tuple[int, Identifier]]:
        """Give up asking; return the questions without an answer."""
        self._next = len(self._remote)
        return [(place, identifier) for place, identifier in self._remote if self._slots[place] is None]

    def decisions(self) -> "Decisions":
        """Return the answers."""
        return Decisions(self._asked, self._slots, self._local, self._instant)


class Decisions(Sequence[Decision]):
    """The answers of a batch, in the order of the questions. Decisions of local passes are built when looked at."""

    __slots__ = ("_asked", "_instant", "_local", "_slots")

    def __init__(
        self,
        asked: tuple[str | Identifier, ...],
        slots: "list[_Slot]",
        local: Local | None,
        instant: datetime.datetime,
    ) -> None:
        self._asked = asked
        self._slots = slots
        self._local = local
        self._instant = instant

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, index: int) -> Decision: ...
    @overload
    def __getitem__(self, index: slice) -> list[Decision]: ...
    def __getitem__(self, index: int | slice) -> Decision | list[Decision]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self._slots)))]
        slot = self._slots[index]
        if isinstance(slot, Decision):
            return slot
        if slot is None or self._local is None:
            raise RuntimeError("the batch was not driven to its end")
        number, age = slot
        return passed(read_identifier(self._asked[index]), self._local, number, self._instant, age)

    def __repr__(self) -> str:
        return f"<Decisions of {len(self)}>"
