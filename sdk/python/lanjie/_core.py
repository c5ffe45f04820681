"""The core that `Client` and `AsyncClient` share: questions, local answers, requests, answers. It does no network I/O.

A local pass is given only when all of this holds; otherwise the gateway is asked:

1. the set is young enough for the matter (`lanjie_matcher.ages`): fresh, or up to 15 minutes old, and then the pass
   is flagged and no matter of high consequence has it; older, only where the gateway was asked and cannot be reached,
   the matter allows it, and the set is at most 24 hours old;
2. absence from the set is an answer for this kind of subject: companies, never persons;
3. the question is about now, ex officio, and a catalogue in force today in Asia/Shanghai knows the matter; what it
   wants of it today is what counts here;
4. the gateway would not refuse it: the department's grant covers matter, mode, region and day, and the officer's claim
   is sound where one is wanted; there is a purpose, and a case number where the matter wants one. The gateway is asked
   then, and refuses; where it cannot be reached, what is not granted is refused here;
5. the set is at least of the revision asked for;
6. the fingerprint is not in the set: a hit is never an answer;
7. the inquiry record is written (Art. 39).
"""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lanjie._context import Context, Inquiry, InquiryFields, bounded, make_context
from lanjie._spool import Spool
from lanjie._view import LocalView, MatterRule
from lanjie.decision import (
    Decision,
    Outcome,
    Source,
    UndeterminedReason,
    decision_from,
    instant_of,
    local_pass,
)
from lanjie.errors import GatewayFault, InvalidArgument, InvalidIdentifier, PermissionDenied, UnknownMatter
from lanjie.v1 import screening_pb2 as pb
from lanjie.v1 import subject_pb2
from lanjie_matcher.ages import Age
from lanjie_matcher.identifiers import Identifier, IdentifierError, parse, sound_organisation

if TYPE_CHECKING:
    from lanjie.officers import OfficerSigner

RESOLVE_WITHIN: Final = datetime.timedelta(hours=24)
RATE_LIMITED: Final = "rate-limited"
"""Warning of an answer that the gateway did not give because too much was asked in too short a time."""
MAX_NAME: Final = 256
_KNOWN_CONTEXTS: Final = 512
_NANOS: Final = 1_000_000_000
_number: Final = int.from_bytes
_FRESH: Final = Age.FRESH
_CLAIM_SPAN: Final = 300
"""Seconds after which an officer's claim is signed anew."""
_UNAVAILABLE: Final = (
    "待核：暂时无法取得比对结果，请继续受理并稍后重新比对；"
    "仍无法比对的，由办理人员在规定时限内核实处理，不得据此拒绝办理。"
)
_UNREADABLE: Final = "待核：标识号码格式不正确，请核对证照号码后重新比对，期间不影响受理。"


@dataclass(frozen=True, slots=True)
class Local:
    """What local answers need: a set, and a spool of the same ledger."""

    view: LocalView
    spool: Spool


class Core:
    """Makes questions and answers. Thread-safe.

    Args:
        monotonic: seconds of the clock that the view's freshness is measured by.
        unix_nanos: nanoseconds of the wall clock.
        signer: signs for officers who are named by number; `None` for nobody.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        unix_nanos: Callable[[], int],
        signer: "OfficerSigner | None" = None,
    ) -> None:
        self._monotonic = monotonic
        self.unix_nanos = unix_nanos
        self._signer = signer
        self._contexts: dict[InquiryFields, Context] = {}
        self._signed_in = 0

    def context(self, inquiry: InquiryFields) -> Context:
        """Check and build a context; the same one again costs a look-up, save for one about an instant.

        Raises:
            InvalidArgument: a field breaks a rule.
        """
        if self._signer is not None:
            self._begin_claims()
        found = self._contexts.get(inquiry)
        if found is None:
            found = make_context(self._claimed(Inquiry._make(inquiry)))
            # The two instants that a clock shows alike, before it was set back and after, compare equal.
            if not found.message.HasField("as_of_time"):
                if len(self._contexts) >= _KNOWN_CONTEXTS:
                    self._contexts.clear()
                self._contexts[inquiry] = found
        return found

    def _begin_claims(self) -> None:
        """Forget what was signed some minutes ago: a claim ends."""
        span = self.unix_nanos() // (_CLAIM_SPAN * _NANOS)
        if span != self._signed_in:
            self._contexts = {}
            self._signed_in = span

    def _claimed(self, inquiry: Inquiry) -> Inquiry:
        if self._signer is None or not isinstance(inquiry.officer, str):
            return inquiry
        # Good for at least two spans, for clocks differ and a batch takes its time.
        expires = (self.unix_nanos() // (_CLAIM_SPAN * _NANOS) + 3) * _CLAIM_SPAN
        said = (inquiry.officer, inquiry.matter, inquiry.case_no, inquiry.purpose)
        return inquiry._replace(officer=self._signer.sign(*said, expires))

    def quick(
        self, local: Local | None, asked: str | Identifier, inquiry: InquiryFields, at_least_revision: int
    ) -> Decision | None:
        """Return what `answer` would for the usual question, in half the time; `None`: go the long way.

        That is a sound company in plain form, on a fresh set, in a context that was asked about today. Same conditions.
        """
        if local is None or not isinstance(asked, str):
            return None
        if self._signer is not None:
            self._begin_claims()
        context = self._contexts.get(inquiry)
        organisation = sound_organisation(asked)  # (2)
        if context is None or not organisation:
            return None
        view, wire = local.view, context.wire
        scope, state = view.scope, view.state
        head, key = state.manifest, state.key
        standing = scope.known.get(wire)
        unix_nanos, monotonic = self.unix_nanos(), self._monotonic()
        if (
            standing is None
            or standing.rule is None  # (2), (3), (4)
            or not standing.first <= unix_nanos < standing.end
            or monotonic > view.fresh_until  # (1)
            or head.revision < at_least_revision  # (5)
        ):
            return None
        digest = key.digest("org:" + organisation)
        if _number(digest, "big") >> key.shift in view.filter:  # (6)
            return None
        basis = head.epoch, head.generation, head.revision, int(monotonic - view.contact)
        spool = local.spool
        number = spool.append(unix_nanos, digest, basis, wire)  # (7)
        return local_pass(asked, (), head, spool.sdk_id, number, unix_nanos) if number else None

    def answer(
        self, local: Local | None, identifier: Identifier, context: Context, at_least_revision: int
    ) -> Decision | None:
        """Answer locally, or return `None`: ask the gateway.

        Raises:
            UnknownMatter: a fresh view says that no catalogue ever defined the matter.
        """
        if local is None:
            return None
        now = self.now()
        age = self.may_answer(local.view, context, at_least_revision, now)
        return None if age is None else self._pass(local, identifier, context, age, now)

    def without_gateway(
        self, local: Local | None, identifier: Identifier, context: Context, at_least_revision: int
    ) -> Decision:
        """Answer where the gateway cannot be reached: a flagged pass where the matter allows it (1), else undetermined.

        Raises:
            UnknownMatter: no catalogue had ever defined the matter, by a set that is not expired.
            PermissionDenied: by such a set the grant does not cover the question.
        """
        passed = None
        if local is not None and local.view.state.manifest.revision >= at_least_revision:
            view, now = local.view, self.now()
            unix_nanos, monotonic = now
            age = view.age(monotonic)
            if age is not Age.EXPIRED:
                if fault := view.scope.standing(context, unix_nanos).fault:
                    told = {"required": fault}
                    raise PermissionDenied("no grant covers this inquiry", reason="NOT_PERMITTED", metadata=told)
                rule = _local_rule(view, context, unix_nanos)
                if rule is not None and rule.stale_pass and not rule.high_consequence:
                    passed = self._pass(local, identifier, context, age, now)
        return passed if passed is not None else self.unanswered(identifier)

    def question(
        self, local: Local | None, identifier: Identifier, name: str, context: Context, at_least_revision: int
    ) -> pb.CheckRequest:
        """Build the question to the gateway."""
        return pb.CheckRequest(
            subject=subject_pb2.Subject(identifier=identifier.reveal(), name=name),
            context=context.message,
            at_least_revision=floor(local, at_least_revision),
        )

    def unanswered(self, identifier: Identifier, *warnings: str) -> Decision:
        """Return the answer where nobody answered: the same for a hit, a person and a stale set.

        A gateway that asks to wait is there, so no set answers in its place.
        """
        doubts = (*identifier.warnings, *warnings)
        return self._undetermined(UndeterminedReason.UNAVAILABLE, _UNAVAILABLE, identifier.masked, doubts)

    def unreadable(self, rule: str) -> Decision:
        """Return the answer to an item of a batch that is no identifier."""
        return self._undetermined(UndeterminedReason.IDENTIFIER_INVALID, _UNREADABLE, "", (f"identifier-{rule}",))

    def now(self) -> tuple[int, float]:
        """Return nanoseconds of the wall clock, and seconds of the one that the view's freshness is measured by."""
        return self.unix_nanos(), self._monotonic()

    def may_answer(
        self, view: LocalView, context: Context, at_least_revision: int, now: tuple[int, float]
    ) -> Age | None:
        """Whether a company that the set does not hold may be passed on it, `now`.

        Returns:
            `Age.FRESH` or `Age.SOFT`, which flags the pass; `None`: ask the gateway.

        Raises:
            UnknownMatter: the view is young and no catalogue ever defined the matter.
        """
        age = _FRESH
        unix_nanos, monotonic = now
        if monotonic > view.fresh_until:  # (1)
            age = view.age(monotonic)
            if age is not Age.SOFT:
                return None
        if view.state.manifest.revision < at_least_revision:  # (5)
            return None
        rule = _local_rule(view, context, unix_nanos)
        if rule is None or (age is Age.SOFT and rule.high_consequence):  # (1)
            return None
        return age

    def _pass(
        self, local: Local, identifier: Identifier, context: Context, age: Age, now: tuple[int, float]
    ) -> Decision | None:
        """Pass a company that is not in the set, its record first; `None` for a person, a hit, or a full spool."""
        if identifier.is_person:  # (2)
            return None
        view, unix_nanos = local.view, now[0]
        key = view.state.key
        digest = key.digest(identifier.key)
        if key.narrow(int.from_bytes(digest, "big")) in view.filter:  # (6)
            return None
        number = local.spool.append(unix_nanos, digest, basis(view, now), context.wire)  # (7)
        return passed(identifier, local, number, unix_nanos, age) if number else None

    def _undetermined(
        self, reason: UndeterminedReason, instruction: str, masked: str, warnings: tuple[str, ...]
    ) -> Decision:
        now = instant_of(self.unix_nanos())
        return Decision(
            outcome=Outcome.UNDETERMINED,
            reason=reason,
            instruction=instruction,
            warnings=warnings,
            source=Source.NONE,
            as_of=now,
            decided_at=now,
            resolve_by=now + RESOLVE_WITHIN,
            masked_identifier=masked,
        )


def read_identifier(asked: str | Identifier) -> Identifier:
    """Return the identifier that a caller stated.

    Raises:
        InvalidIdentifier: it cannot be one.
    """
    if isinstance(asked, Identifier):
        return asked
    if not isinstance(asked, str):
        raise InvalidIdentifier("an identifier is text, 'kind:number'", metadata={"rule": "type"})
    try:
        return parse(asked)
    except IdentifierError as error:
        raise InvalidIdentifier(str(error), metadata={"rule": error.rule}) from None


def read_answer(message: pb.Decision) -> Decision:
    """Return the decision of a gateway.

    Raises:
        GatewayFault: it says what no decision may say.
    """
    try:
        return decision_from(message)
    except ValueError as error:
        raise GatewayFault(f"the gateway's answer is not understood: {error}") from None


def check_name(name: str) -> None:
    """Refuse a name that is too long, or none that can be sent.

    Raises:
        InvalidArgument: ``length`` or ``encoding``.
    """
    bounded("name", name, MAX_NAME)


def floor(local: Local | None, at_least_revision: int) -> int:
    """Return the revision an answer must know: what is asked for, and what was already seen here.

    Raises:
        InvalidArgument: ``range``.
    """
    if not 0 <= at_least_revision < 1 << 63:
        told = {"field": "at_least_revision", "rule": "range"}
        raise InvalidArgument("there is no such revision", metadata=told)
    return max(at_least_revision, local.view.state.manifest.revision) if local is not None else at_least_revision


def basis(view: LocalView, now: tuple[int, float]) -> tuple[int, int, int, int]:
    """Return what a pass on a set rests on, for its record, as `Basis`."""
    head = view.state.manifest
    return head.epoch, head.generation, head.revision, int(now[1] - view.contact)


def passed(identifier: Identifier, local: Local, number: int, unix_nanos: int, age: Age) -> Decision:
    """Return a local pass; `number` is that of its record in the spool."""
    warnings = identifier.warnings if age is _FRESH else (*identifier.warnings, f"set-{age.value}")
    return local_pass(identifier, warnings, local.view.state.manifest, local.spool.sdk_id, number, unix_nanos)


def _local_rule(view: LocalView, context: Context, unix_nanos: int) -> MatterRule | None:
    """Return what holds for the matter today, where the local path may answer: (2), (3), (4)."""
    standing = view.scope.standing(context, unix_nanos)
    # Whoever may not ask does not hear which matters there are.
    if not standing.defined and context.local and not standing.fault:
        raise UnknownMatter("no catalogue ever defined this matter", metadata={"matter": context.matter})
    return standing.rule
