"""Many questions at once: what is local in slices, the rest in chunks on one revision. Free of transport."""

import contextlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final, NamedTuple, overload

from lanjie._context import Context
from lanjie._core import (
    RATE_LIMITED,
    Core,
    Local,
    basis,
    check_name,
    floor,
    passed,
    read_answer,
    read_identifier,
)
from lanjie._spool import DIGEST_BYTES
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
from lanjie_matcher.filters import LocalFilter
from lanjie_matcher.identifiers import PLAIN_LENGTH, Identifier, sound_organisations

CHUNK: Final = 300
"""Questions in one batch request; the gateway takes 500."""
CHUNK_BYTES: Final = 60_000
"""Bytes of one batch request; the gateway takes 64 KiB."""
RESTARTS: Final = 3
"""How often a batch starts again because the list has moved on under it: what was found in it has changed."""
SLICE: Final = 1_000
"""Items that are answered locally in one go: a millisecond."""
MANY: Final = 256
"""Items from which on NumPy is worth its calls."""
_Slot = int | Decision | None


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
        self._means = _Means.of(len(asked))
        # What is known of each item: number of a local pass, a decision, or nothing yet; by slice the age of the set.
        self._slots: list[_Slot] = [None] * len(asked)
        self._ages: list[Age | None] = []
        self._remote: list[tuple[int, Identifier]] = []
        self._nanos = core.unix_nanos()
        self._next = 0
        self._most = CHUNK
        self._chunk = 0
        self._pinned = 0
        self._restarts = 0

    def judge(self) -> Iterator[None]:
        """Answer what is local, a slice at a time."""
        local, self._nanos = self._local, self._core.unix_nanos()
        for start in range(0, len(self._asked), SLICE):
            # Asked anew for each slice: the set may go stale under a long batch.
            now = self._nanos, self._core.now()[1]
            age = None
            if local is not None:
                age = self._core.may_answer(local.view, self._context, self._at_least, now)
            if local is None or age is None:
                for place, asked in enumerate(self._asked[start : start + SLICE], start):
                    self._ask(place, asked)
            else:
                self._pass_slice(local, start, now)
            self._ages.append(age)
            yield

    def _pass_slice(self, local: Local, start: int, now: tuple[int, float]) -> None:
        """Pass the companies of a slice that are not in the set, their records first; the rest is to be asked."""
        view, asked = local.view, self._asked[start : start + SLICE]
        key, before = view.state.key, len(self._remote)
        places: Sequence[int] = range(start, start + len(asked))
        digests = key.digests(self._organisations(asked))
        if b"" in digests:
            for place, digest in zip(places, digests, strict=True):
                if not digest and (company := self._company(place, self._asked[place])) is not None:
                    digests[place - start] = key.digest(company.key)
            places = [place for place, digest in zip(places, digests, strict=True) if digest]
        known = b"".join(digests)
        if hits := frozenset(self._means.hits(view.filter, known, key.shift)):  # (6)
            for hit in hits:
                self._ask(places[hit], self._asked[places[hit]])
            missed = [place for place in range(len(places)) if place not in hits]
            known = b"".join(known[DIGEST_BYTES * place : DIGEST_BYTES * (place + 1)] for place in missed)
            places = [places[place] for place in missed]
        numbers = local.spool.append_many(self._nanos, known, basis(view, now), self._context.wire)  # (7)
        if len(numbers) == len(asked):
            self._slots[start : start + SLICE] = numbers
        else:
            for place, number in zip(places, numbers, strict=False):
                self._slots[place] = number
        for place in places[len(numbers) :]:
            # What found no room in the spool is asked: there is no pass without its record.
            self._ask(place, self._asked[place])
        self._remote[before:] = sorted(self._remote[before:], key=itemgetter(0))

    def _organisations(self, asked: Sequence[str | Identifier]) -> list[bytes]:
        """Return the organisation codes of what `parse` takes in its plain form; empty for what goes the long way."""
        plain = [text for text in asked if isinstance(text, str) and len(text) == PLAIN_LENGTH]
        found = self._means.organisations(plain)
        if len(plain) == len(asked):
            return found
        each = iter(found)
        return [next(each) if isinstance(text, str) and len(text) == PLAIN_LENGTH else b"" for text in asked]

    def _company(self, place: int, asked: str | Identifier) -> Identifier | None:
        """Return what names a company; what does not is answered, or to be asked (2)."""
        try:
            identifier = read_identifier(asked)
        except InvalidIdentifier as error:
            self._slots[place] = self._core.unreadable(error.rule)
            return None
        if not identifier.is_person:
            return identifier
        self._remote.append((place, identifier))
        return None

    def _ask(self, place: int, asked: str | Identifier) -> None:
        identifier = self._company(place, asked)
        if identifier is not None:
            self._remote.append((place, identifier))

    def next_request(self) -> pb.BatchCheckRequest | None:
        """Return the next request, `None` when all is asked."""
        subjects: list[subject_pb2.Subject] = []
        size = len(self._context.wire) + 64
        for place, identifier in self._remote[self._next : self._next + self._most]:
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
        """Take the failure of the last request.

        Start again when the revision is gone, ask for less at a time when a message is full, else leave the rest open.

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
        elif isinstance(error, RateLimited) and not error.reason and self._chunk > 1:
            # A gateway says why it turns a call away. Without a reason the answers are more than one message holds.
            self._most = self._chunk // 2
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
        return Decisions(self._asked, self._slots, self._ages, self._local, self._nanos)


class _Means(NamedTuple):
    """How many texts and digests are looked at at once: with NumPy where it is there and they are many."""

    organisations: Callable[[Sequence[str]], list[bytes]]
    hits: Callable[[LocalFilter, bytes, int], list[int]]

    @classmethod
    def of(cls, count: int) -> "_Means":
        if count >= MANY:
            with contextlib.suppress(ImportError):
                from lanjie import _columns  # noqa: PLC0415  NumPy may be missing, and takes its time to load

                return cls(_columns.sound_organisations, _columns.hits)
        return cls(sound_organisations, _hits)


def _hits(probed: LocalFilter, digests: bytes, shift: int) -> list[int]:
    numbers = struct.unpack(f">{len(digests) // DIGEST_BYTES}Q", digests)
    return probed.hits([number >> shift for number in numbers])


class Decisions(Sequence[Decision]):
    """The answers of a batch, in the order of the questions. Decisions of local passes are built when looked at."""

    __slots__ = ("_ages", "_asked", "_local", "_nanos", "_slots")

    def __init__(
        self,
        asked: tuple[str | Identifier, ...],
        slots: list[_Slot],
        ages: list[Age | None],
        local: Local | None,
        nanos: int,
    ) -> None:
        self._asked = asked
        self._slots = slots
        self._ages = ages
        self._local = local
        self._nanos = nanos

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
        place = range(len(self._slots))[index]
        age = self._ages[place // SLICE] if place // SLICE < len(self._ages) else None
        if slot is None or self._local is None or age is None:
            raise RuntimeError("the batch was not driven to its end")
        return passed(read_identifier(self._asked[place]), self._local, slot, self._nanos, age)

    def __repr__(self) -> str:
        return f"<Decisions of {len(self)}>"
