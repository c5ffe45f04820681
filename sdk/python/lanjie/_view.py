"""What the threads that check look at: a verified set, what the department may ask of it, and how long it is good."""

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from lanjie._context import Context
from lanjie.v1 import screening_pb2
from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.ages import Age, AgeBounds
from lanjie_matcher.filters import LocalFilter
from lanjie_matcher.grants import Mode, Officer, Terms
from lanjie_matcher.shards import RefusedError
from lanjie_matcher.views import ED25519, Manifest, ViewState, verify_signatures

_EPOCH_DAY: Final = datetime.date(1970, 1, 1).toordinal()
_ALWAYS: Final = 1 << 31
_EIGHT_HOURS: Final = 8 * 3_600
_DAY_SECONDS: Final = 86_400
_NANOS: Final = 1_000_000_000
_KNOWN_CONTEXTS: Final = 512
_MODES: Final = tuple(screening_pb2.InquiryMode.items())


@dataclass(frozen=True, slots=True)
class MatterRule:
    """What the local path must know of a matter from one day to another, inclusive: days since 1970-01-01."""

    first: int
    last: int
    case_no_required: bool
    high_consequence: bool
    stale_pass: bool
    broader: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What goes with a set: its key, and what may be asked of it.

    Attributes:
        raw: as it came; the head names its digest.
        key: view key.
        catalogue_revision: revision of the newest catalogue it was made from.
        matters: what holds when, by code; an absent one was never defined.
        covers_companies: absence of a company from the set is an answer.
        terms: what the department may ask; `None` for nothing.
        home_region: handling region of a question that names none.
        known: what `standing` found, by the wire form of the context.
    """

    raw: bytes
    key: bytes
    catalogue_revision: int
    matters: Mapping[str, tuple[MatterRule, ...]]
    covers_companies: bool
    terms: Terms | None
    home_region: str
    known: dict[bytes, "Standing"] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, raw: bytes) -> "Scope":
        """Read a scope.

        Raises:
            RefusedError: ``encoding``.
        """
        try:
            message = pb.ViewScope.FromString(raw)
        except DecodeError:
            raise RefusedError("encoding", "the scope cannot be read") from None
        matters = {each.code: tuple(map(_rule, each.rules)) for each in message.matters}
        companies = "company" in message.covers
        terms = _terms(message.grant) if message.HasField("grant") else None
        home = message.grant.home_region
        return cls(raw, message.key, message.catalogue_revision, matters, companies, terms, home)

    def standing(self, context: Context, unix_nanos: int) -> "Standing":
        """Return how a question stands by the grant and the catalogues; found once a day.

        Args:
            context: of the question.
            unix_nanos: nanoseconds since 1970 of the wall clock.
        """
        known = self.known.get(context.wire)
        if known is None or not known.first <= unix_nanos < known.end:
            if len(self.known) >= _KNOWN_CONTEXTS:
                self.known.clear()
            known = self.known[context.wire] = self._find_standing(context, unix_nanos // _NANOS)
        return known

    def _find_standing(self, context: Context, seconds: int) -> "Standing":
        day = (seconds + _EIGHT_HOURS) // _DAY_SECONDS
        first = day * _DAY_SECONDS - _EIGHT_HOURS
        last = first + _DAY_SECONDS - 1
        fault = self._fault(context, day)
        if not fault and self.terms is not None:
            fault = self.terms.officer_fault(context.claim, context.case, seconds)
            if context.claim.signature:
                # A claim ends, and may not have begun: then it is looked at anew.
                first, last = seconds, max(seconds, min(last, context.claim.expires) if not fault else seconds)
        rules = self.matters.get(context.matter)
        rule = next((each for each in rules or () if each.first <= day <= each.last), None)
        if rule is not None and rule.case_no_required and not context.case_no:
            rule = None
        passes = context.local and not fault and self.covers_companies
        return Standing(first * _NANOS, (last + 1) * _NANOS, fault, rules is not None, rule if passes else None)

    def _fault(self, context: Context, day: int) -> str:
        if self.terms is None:
            return "grant"
        region = context.region or self.home_region
        today = datetime.date.fromordinal(day + _EPOCH_DAY)
        return self.terms.fault(self._lineage(context.matter, day), context.mode, region, today)

    def _lineage(self, matter: str, day: int) -> list[str]:
        """Return a matter and those that hold it on a day, as `CatalogueSet.lineage` does."""
        codes: list[str] = []
        code = matter
        while code and code not in codes:
            codes.append(code)
            rule = next((each for each in self.matters.get(code, ()) if each.first <= day <= each.last), None)
            code = rule.broader if rule is not None else ""
        return codes

    def require_named_by(self, head: Manifest) -> None:
        """Refuse a head that wants another scope.

        Raises:
            RefusedError: ``scope``.
        """
        if hashlib.sha256(self.raw).digest() != head.scope_digest:
            raise RefusedError("scope", "the head wants another scope")


class Standing(NamedTuple):
    """How a question stands from `first` up to `end`, nanoseconds since 1970.

    Attributes:
        first: the first instant.
        end: the instant from which on it is to be found anew.
        fault: what of it the grant does not cover, by the very rule of the gateway, empty for nothing: ``grant`` where
            nothing is granted; otherwise see `Terms.fault` and `Terms.officer_fault`.
        defined: whether a catalogue ever defined the matter.
        rule: what holds for the matter that day, where the set may answer such a question; else `None`.
    """

    first: int
    end: int
    fault: str
    defined: bool
    rule: MatterRule | None


@dataclass(frozen=True, slots=True)
class LocalView:
    """A verified set, ready to be probed, and how long it may answer.

    Attributes:
        state: the set and its head.
        filter: what is probed.
        scope: what may be asked of it.
        bounds: how long it is good for what.
        contact: monotonic seconds at which the contact that last confirmed it began.
        applied: the same for the contact that brought the set.
        fresh_until: monotonic seconds up to which it is fresh.
    """

    state: ViewState
    filter: LocalFilter
    scope: Scope
    bounds: AgeBounds
    contact: float
    applied: float
    fresh_until: float

    @classmethod
    def of(
        cls, state: ViewState, probe: LocalFilter, scope: Scope, *, contact: float, applied: float | None = None
    ) -> "LocalView":
        """Return a view as of a contact."""
        bounds = state.manifest.bounds.capped()
        brought = contact if applied is None else applied
        return cls(state, probe, scope, bounds, contact, brought, contact + bounds.fresh)

    def confirmed(self, contact: float) -> "LocalView":
        """Return the same view as of a later contact."""
        return replace(self, contact=contact, fresh_until=contact + self.bounds.fresh)

    def age(self, monotonic: float) -> Age:
        """Return what the set is good for at an instant of the monotonic clock."""
        return self.bounds.of(monotonic - self.contact)


def read_head(head: pb.SignedManifest, trusted: Mapping[str, bytes]) -> Manifest:
    """Verify and then read a signed manifest.

    Raises:
        RefusedError: ``signature``, ``encoding`` or ``algorithm``.
    """
    algorithms = {pb.SIGNATURE_ALGORITHM_ED25519: ED25519}
    signatures = [(each.key_id, algorithms.get(each.algorithm, ""), each.value) for each in head.signatures]
    verify_signatures(head.manifest, signatures, trusted)
    try:
        message = pb.Manifest.FromString(head.manifest)
    except DecodeError:
        raise RefusedError("encoding", "the head cannot be read") from None
    if message.prf != pb.PRF_ALGORITHM_BLAKE2B_64 or message.digest != pb.DIGEST_ALGORITHM_SHA256:
        raise RefusedError("algorithm", "the set was made with algorithms that are not known here")
    bounds = message.bounds
    return Manifest(
        view=message.view,
        lineage=message.lineage,
        epoch=message.epoch,
        generation=message.generation,
        revision=message.revision,
        root=message.root,
        count=message.count,
        bits=message.bits,
        key_id=message.key_id,
        key_check=message.key_check,
        normalisation=message.normalisation,
        canaries_hit=tuple(message.canaries_hit),
        canaries_miss=tuple(message.canaries_miss),
        issued_at=message.issued_time.ToDatetime(datetime.UTC),
        expires_at=message.expires_time.ToDatetime(datetime.UTC),
        scope_digest=message.scope_digest,
        bounds=AgeBounds(
            fresh=bounds.fresh_seconds,
            soft=bounds.soft_seconds,
            stale=bounds.stale_seconds,
            purge=bounds.purge_seconds,
        ),
    )


def _rule(message: pb.MatterRules) -> MatterRule:
    return MatterRule(
        _day(message.days.start_date, -_ALWAYS),
        _day(message.days.end_date, _ALWAYS),
        message.case_no_required,
        message.high_consequence,
        message.stale_pass,
        message.broader,
    )


def _terms(message: pb.GrantScope) -> Terms:
    modes = {number: Mode(name.removeprefix("INQUIRY_MODE_").lower()) for name, number in _MODES if number}
    first, last = (_date(text) for text in (message.days.start_date, message.days.end_date))
    return Terms(
        department=message.department,
        regions=frozenset(message.regions),
        matters=None if message.all_matters else frozenset(message.matters),
        # One that is not known here is asked for at the gateway.
        modes=frozenset(modes[number] for number in message.modes if number in modes),
        valid_from=first,
        valid_until=last,
        officers=tuple(Officer(id=each.officer_id, key=each.public_key) for each in message.officers),
        officers_required=message.officers_required,
        counter_key=message.counter_key,
    )


def _date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise RefusedError("encoding", "a day of the grant is no date") from None


def _day(text: str, otherwise: int) -> int:
    if not text:
        return otherwise
    try:
        return datetime.date.fromisoformat(text).toordinal() - _EPOCH_DAY
    except ValueError:
        raise RefusedError("encoding", "a day of the scope is no date") from None
