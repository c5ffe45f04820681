"""The answer to one question (比对结果), as the counter sees it. Never a boolean: see `Outcome`."""

import datetime
import enum
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final, NoReturn

from google.protobuf.timestamp_pb2 import Timestamp

from lanjie.v1 import screening_pb2 as pb
from lanjie_matcher.catalogues import Effect
from lanjie_matcher.decide import Outcome
from lanjie_matcher.decide import Reason as UndeterminedReason
from lanjie_matcher.identifiers import Identifier, parse
from lanjie_matcher.views import Manifest

__all__ = [
    "Decision",
    "Effect",
    "ListingEvidence",
    "Measure",
    "MissingFact",
    "Outcome",
    "Source",
    "UndeterminedReason",
    "decision_from",
]


class Source(enum.Enum):
    """Where an answer comes from."""

    GATEWAY = "gateway"
    """The exact index of a gateway."""
    LOCAL = "local"
    """The set held next to the application: only ever a pass."""
    NONE = "none"
    """Nobody answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A measure of a published list that applies to the case (惩戒措施, Art. 45).

    Attributes:
        code: code in its catalogue.
        title: title.
        content: content.
        effect: effect; only `Effect.DENY` may stop a case.
        basis: legal basis.
        department: department that implements it.
        instruction: what the clerk does.
        catalogue: ``id@edition`` of the catalogue that publishes it.
        publication: number and date of the publication.
        listing_ids: ids of the listings of the decision that bear it.
    """

    code: str
    title: str
    content: str
    effect: Effect
    basis: str
    department: str
    instruction: str
    catalogue: str
    publication: str = ""
    listing_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingEvidence:
    """A listing that bears a measure of the decision: what Art. 31 wants told to the subject.

    Attributes:
        listing_id: id of the listing.
        list_type: code of the list type; `list_type_name` its name.
        authority: authority that decided.
        decision_no: number of the decision document, of `decision_date`.
        listed_on: day of entry.
        expires_on: last day, inclusive to 24:00 in Asia/Shanghai; `None` where none is set.
        reason: reason of the entry.
        basis: legal basis of the entry.
        removal_conditions: conditions and procedure of removal.
        remedies: reconsideration, litigation, objection.
        objection: an objection is open (Art. 64); it changes nothing else.
        source: source system.
        sanction_no: number of the underlying decision, where the list points at one; it ends with `sanction_ends_on`.
        objection_channel: where the subject objects to what the listing says (Art. 64).
    """

    listing_id: str
    list_type: str
    list_type_name: str = ""
    authority: str = ""
    decision_no: str = ""
    decision_date: datetime.date | None = None
    listed_on: datetime.date | None = None
    expires_on: datetime.date | None = None
    reason: str = field(default="", repr=False)
    basis: str = ""
    removal_conditions: str = field(default="", repr=False)
    remedies: str = field(default="", repr=False)
    objection: bool = False
    source: str = ""
    sanction_no: str = ""
    sanction_ends_on: datetime.date | None = None
    objection_channel: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingFact:
    """A fact that a measure turns on and the record of a listing does not hold."""

    listing_id: str
    measure_code: str
    fact: str


class _LocalPass:
    """What the other fields of a local pass are made of when they are first read: a counter reads few of them."""

    __slots__ = ("_asked", "_head", "_number", "_spool", "_unix_nanos")
    _asked: str | Identifier
    _head: Manifest
    _number: int
    _spool: str
    _unix_nanos: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Decision(_LocalPass):
    """The answer to one question.

    Attributes:
        outcome: the result. Only `Outcome.INTERCEPT` may stop a case; `Outcome.UNDETERMINED` means that a person must
            look, and is neither a pass nor a refusal. `Outcome.PASS` does not say whether the subject is listed.
        instruction: one sentence a clerk can act on, Chinese.
        reason: why the outcome is undetermined; `None` with any other.
        measures: measures that apply, strongest first; empty for a pass.
        listings: listings that bear one of the measures or lack a fact; empty for a pass.
        confirmation_required: an officer decides, with name and time, before an effect is carried out.
        officer_verifies: what the officer must find out first.
        missing_facts: facts missing from the record.
        warnings: codes of doubts that change nothing, e.g. ``check-digit``, ``name-mismatch``, ``verify-at-source``.
        source: where the answer comes from.
        revision: revision of the ledger it was judged on; 0 when nobody answered.
        epoch: epoch of the ledger.
        lineage: identity of the ledger.
        as_of: instant it was judged at, aware.
        decided_at: instant it was made, aware.
        decision_id: name of the answer and of its inquiry record; empty when nobody answered.
        record_digest: digest of the inquiry record, by `digest_algorithm`; empty for a local pass, whose record is made
            when it is uploaded.
        resolve_by: with an undetermined outcome, an officer settles it by this instant.
        catalogue_editions: editions it was judged by, ``id@edition``.
        masked_identifier: the identifier asked about, masked.
        remedies: what the subject may do against what the answer rests on, to be told with every effect (Art. 31, 71);
            never empty where there are listings.
        objection_channel: where the subject objects to what the listings say (Art. 64); the same.
    """

    outcome: Outcome
    instruction: str
    as_of: datetime.datetime
    decided_at: datetime.datetime
    source: Source
    masked_identifier: str
    reason: UndeterminedReason | None = None
    measures: tuple[Measure, ...] = ()
    listings: tuple[ListingEvidence, ...] = ()
    confirmation_required: bool = False
    officer_verifies: tuple[str, ...] = ()
    missing_facts: tuple[MissingFact, ...] = ()
    warnings: tuple[str, ...] = ()
    revision: int = 0
    epoch: int = 0
    lineage: str = ""
    decision_id: str = ""
    record_digest: bytes = b""
    digest_algorithm: str = ""
    resolve_by: datetime.datetime | None = None
    catalogue_editions: tuple[str, ...] = ()
    remedies: str = ""
    objection_channel: str = ""

    def __post_init__(self) -> None:
        if self.outcome is Outcome.PASS and (self.measures or self.listings):
            raise ValueError("a pass has neither measures nor listings (Art. 40, 47)")
        if (self.outcome is Outcome.UNDETERMINED) is (self.reason is None):
            raise ValueError("an undetermined answer has a reason, and no other has one")

    def __getattr__(self, name: str) -> Any:
        # A field that is not there yet, of a local pass.
        value: Any
        if name in {"revision", "epoch", "lineage"}:
            value = getattr(self._head, name)
        elif name in {"as_of", "decided_at"}:
            value = instant_of(self._unix_nanos)
        elif name == "decision_id":
            value = f"{self._spool[:12]}-{self._number}"
        elif name == "masked_identifier":
            value = (parse(self._asked) if isinstance(self._asked, str) else self._asked).masked
        elif name == "instruction":
            value = _PASS
        elif name in _DEFAULTS:
            value = _DEFAULTS[name]
        else:
            raise AttributeError(f"a decision has no {name!r}")
        object.__setattr__(self, name, value)
        return value

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a decision is not a boolean: UNDETERMINED is neither a pass nor a refusal; "
            "compare .outcome, e.g. `if decision.outcome is Outcome.PASS`"
        )

    def __repr__(self) -> str:
        what = self.outcome.name if self.reason is None else f"{self.outcome.name}({self.reason.name})"
        codes = "".join(f" {measure.code}" for measure in self.measures)
        return (
            f"<Decision {what} {self.masked_identifier}{codes} "
            f"{self.source.name.lower()} r{self.revision} {self.decision_id or '-'}>"
        )


class _Open(Decision):
    """A local pass that is being made; see `local_pass`."""

    __slots__ = ()
    __init__ = object.__init__
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__


def local_pass(  # noqa: PLR0917  the fastest way to call
    asked: str | Identifier,
    warnings: tuple[str, ...],
    head: Manifest,
    spool: str,
    number: int,
    unix_nanos: int,
) -> Decision:
    """Return the pass that a record of a spool tells of, for a tenth of what the constructor costs.

    Args:
        asked: what was asked about.
        warnings: see `Decision`.
        head: of the set that does not hold it.
        spool: name of the spool.
        number: of the record.
        unix_nanos: nanoseconds since 1970 of the answer.
    """
    made: Any = _Open()
    made.outcome = _PASSED
    made.source = _LOCAL
    made.warnings = warnings
    made._asked = asked  # noqa: SLF001
    made._head = head  # noqa: SLF001
    made._spool = spool  # noqa: SLF001
    made._number = number  # noqa: SLF001
    made._unix_nanos = unix_nanos  # noqa: SLF001
    made.__class__ = Decision
    return made  # type: ignore[no-any-return]


def instant_of(nanos: int) -> datetime.datetime:
    """Return the instant of nanoseconds since 1970, to the microsecond."""
    return _EPOCH + datetime.timedelta(microseconds=nanos // 1_000)


_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_PASS: Final = "未发现适用于本事项的惩戒措施，按正常程序办理。"
_PASSED: Final = Outcome.PASS
_LOCAL: Final = Source.LOCAL
_DEFAULTS: Final = {each.name: each.default for each in fields(Decision) if each.default is not MISSING}
_SOURCES: Final = {pb.SOURCE_GATEWAY: Source.GATEWAY, pb.SOURCE_LOCAL: Source.LOCAL, pb.SOURCE_NONE: Source.NONE}
_EFFECTS: Final = {
    pb.EFFECT_ADVISE: Effect.ADVISE,
    pb.EFFECT_HEIGHTEN: Effect.HEIGHTEN,
    pb.EFFECT_RESTRICT: Effect.RESTRICT,
    pb.EFFECT_DENY: Effect.DENY,
}
_OUTCOMES: Final = {pb.Outcome.Value(f"OUTCOME_{outcome.name}"): outcome for outcome in Outcome}
_REASONS: Final = {
    pb.UndeterminedReason.Value(f"UNDETERMINED_REASON_{reason.name}"): reason for reason in UndeterminedReason
}


def decision_from(message: pb.Decision) -> Decision:
    """Return the decision that a message holds.

    Raises:
        ValueError: the message says what no decision may say: an outcome, effect or reason that is not known here, or a
            pass with measures. It is never read as a pass.
    """
    try:
        return Decision(
            outcome=_OUTCOMES[message.outcome],
            reason=_REASONS[message.undetermined_reason] if message.undetermined_reason else None,
            instruction=message.instruction,
            measures=tuple(_measure(each) for each in message.measures),
            listings=tuple(_listing(each) for each in message.listings),
            confirmation_required=message.confirmation_required,
            officer_verifies=tuple(message.officer_verifies),
            missing_facts=tuple(
                MissingFact(listing_id=each.listing_id, measure_code=each.measure_code, fact=each.fact)
                for each in message.missing_facts
            ),
            warnings=tuple(message.warnings),
            source=_SOURCES[message.source],
            revision=message.revision,
            epoch=message.epoch,
            lineage=message.lineage,
            as_of=_time(message.as_of_time),
            decided_at=_time(message.decided_time),
            decision_id=message.decision_id,
            record_digest=message.record_digest,
            digest_algorithm=message.digest_algorithm,
            resolve_by=_time(message.resolve_by_time) if message.HasField("resolve_by_time") else None,
            catalogue_editions=tuple(message.catalogue_editions),
            masked_identifier=message.masked_identifier,
            remedies=message.remedies,
            objection_channel=message.objection_channel,
        )
    except KeyError:
        raise ValueError("the decision uses a value that this version does not know") from None


def _measure(message: pb.AppliedMeasure) -> Measure:
    return Measure(
        code=message.code,
        title=message.title,
        content=message.content,
        effect=_EFFECTS[message.effect],
        basis=message.basis,
        department=message.department,
        instruction=message.instruction,
        catalogue=message.catalogue,
        publication=message.publication,
        listing_ids=tuple(message.listing_ids),
    )


def _listing(message: pb.ListingEvidence) -> ListingEvidence:
    return ListingEvidence(
        listing_id=message.listing_id,
        list_type=message.list_type,
        list_type_name=message.list_type_name,
        authority=message.authority,
        decision_no=message.decision_no,
        decision_date=_date(message.decision_date),
        listed_on=_date(message.listed_date),
        expires_on=_date(message.expires_date),
        reason=message.reason,
        basis=message.basis,
        removal_conditions=message.removal_conditions,
        remedies=message.remedies,
        objection=message.objection,
        source=message.source,
        sanction_no=message.sanction_no,
        sanction_ends_on=_date(message.sanction_end_date),
        objection_channel=message.objection_channel,
    )


def _date(text: str) -> datetime.date | None:
    return datetime.date.fromisoformat(text) if text else None


def _time(stamp: Timestamp) -> datetime.datetime:
    return stamp.ToDatetime(datetime.UTC)
