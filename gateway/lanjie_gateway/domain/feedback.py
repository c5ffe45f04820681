"""Feedback (反馈): what a department did about an answer with an effect (Art. 45-47; PIPL 24).

1. An answer with an effect asks for feedback, for each listing that bears a measure of it.
2. Only measures that the answer named for a listing can have been applied to it (Art. 45, 47).
3. What was not applied, or only in part, has a reason.
4. Before anything is applied to a natural person an officer has confirmed it, with name and time (PIPL 24(3)).
5. The same report again changes nothing; another one says that it corrects the first.
6. What should not happen is taken as it is told, and raises an alarm: a measure applied where the answer only advised,
   a case refused where it did not intercept. A measure outside of the answer is refused, and alarmed too.
"""

import datetime
import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from lanjie_gateway.domain.errors import Refused, invalid_argument
from lanjie_matcher.decide import Outcome
from lanjie_matcher.identifiers import PERSON_KINDS
from lanjie_matcher.masking import holds_personal_number

EFFECTS: Final = frozenset(
    outcome.name for outcome in (Outcome.ADVISE, Outcome.HEIGHTEN, Outcome.RESTRICT, Outcome.INTERCEPT)
)
"""Outcomes that ask for feedback, as records name them."""
REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "repaired": "已修复、移出或撤销",
        "objection": "异议正在处理",
        "identity": "经核实不是同一主体",
        "irrelevant": "与本次办理的具体内容无关",
        "discretion": "依法裁量后不予采取",
        "not_competent": "本单位无权实施",
        "other_measure": "已采取其他措施",
        "withdrawn": "申请人撤回或事项终止",
        "other": "其他",
    }
)
"""Why a measure was not applied. `other` wants words."""
MAX_TEXT: Final = 200
MAX_OFFICER: Final = 64
_NUMBER: Final = re.compile(r"[0-9A-Za-z]{8}")


class Disposition(enum.StrEnum):
    """What became of the measures that a listing bears."""

    APPLIED = "applied"
    PARTLY = "partly"
    NOT_APPLIED = "not_applied"


class Alarm(enum.StrEnum):
    """What somebody has to look at (6)."""

    APPLIED_ON_ADVICE = "applied-on-advice"
    REFUSED_WITHOUT_INTERCEPTION = "refused-without-interception"
    OUTSIDE_OF_ANSWER = "outside-of-answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a department tells of one answer.

    Attributes:
        applied: codes of the measures that were carried out.
        listings: ids of the listings it is about; empty for all of the answer.
        reason: code of `REASONS`, for what was not applied.
        text: the reason in words, at most 200 characters, without any number of a subject.
        officer: who handled the case, by number.
        case_refused: the application was refused because of the answer.
        confirmed_by: officer who confirmed the measures of a natural person (PIPL 24(3)).
        confirmed_at: when he did.
        corrects: it takes the place of an earlier report.
    """

    officer: str
    applied: frozenset[str] = frozenset()
    listings: frozenset[str] = frozenset()
    reason: str = ""
    text: str = field(default="", repr=False)
    case_refused: bool = False
    confirmed_by: str = ""
    confirmed_at: datetime.datetime | None = None
    corrects: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The feedback that one listing of an answer asks for, and what was told.

    Attributes:
        listing: id of the listing; empty for an answer that was undetermined, which asks for none but takes some.
        measures: codes of the measures that it bears in the answer.
        person: the subject is a natural person.
        told: what was told last; `None` before.
        disposition: of `told`.
        version: how often something was told.
    """

    decision_id: str
    listing: str
    department: str
    matter: str
    region: str
    list_type: str
    outcome: str
    measures: tuple[str, ...]
    person: bool
    decided_at: datetime.datetime
    told: Report | None = None
    told_at: datetime.datetime | None = None
    disposition: Disposition | None = None
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a report does to one listing.

    Attributes:
        report: with the measures of this listing alone.
        repeated: it was told before and changes nothing (5).
    """

    asked: Asked
    report: Report
    disposition: Disposition
    alarms: tuple[Alarm, ...]
    repeated: bool


def asks(fields: Mapping[str, Any]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Yield the listings of a gateway's record that ask for feedback, each with the measures it bears (1)."""
    if fields.get("outcome") not in EFFECTS:
        return
    borne: dict[str, list[str]] = {}
    measures = fields.get("measures", ())
    # Records of before this field do not tell the listings apart.
    bearers = fields.get("bearers") or [fields.get("listings", ())] * len(measures)
    for code, listings in zip(measures, bearers, strict=True):
        for listing in listings:
            borne.setdefault(listing, []).append(code)
    for listing, codes in borne.items():
        yield listing, tuple(codes)


def is_person(id_kind: str) -> bool:
    """Whether a record's kind of identifier names natural persons."""
    return id_kind in PERSON_KINDS


def require_sound(report: Report, now: datetime.datetime) -> None:
    """Raise unless a report is complete in itself.

    Raises:
        Refused: ARGUMENT_INVALID.
    """
    if not report.officer.strip() or len(report.officer) > MAX_OFFICER:
        raise invalid_argument("officer", "length", f"name the officer by number, 1 to {MAX_OFFICER} characters")
    for name, said in (("officer", report.officer), ("confirmed_by", report.confirmed_by)):
        if holds_personal_number(said):
            raise invalid_argument(name, "number", "an officer is named by a service number, never a citizen number")
    if report.reason and report.reason not in REASONS:
        raise invalid_argument("reason", "unknown", f"a reason is one of {', '.join(REASONS)}")
    if len(report.text) > MAX_TEXT:
        raise invalid_argument("text", "length", f"a reason in words has at most {MAX_TEXT} characters")
    if _NUMBER.search(report.text):
        raise invalid_argument("text", "number", "words only: no number of a subject or document (Art. 40)")
    if report.reason == "other" and not report.text.strip():
        raise invalid_argument("text", "required", "the reason `other` wants words")
    if bool(report.confirmed_by) is not (report.confirmed_at is not None):
        raise invalid_argument("confirmed_by", "required", "a confirmation has an officer and a time")
    if len(report.confirmed_by) > MAX_OFFICER:
        raise invalid_argument("confirmed_by", "length", f"an officer's number has at most {MAX_OFFICER} characters")
    if report.confirmed_at is not None and report.confirmed_at > now:
        raise invalid_argument("confirmed_at", "future", "a confirmation lies in the past")


def settle(asked: Sequence[Asked], report: Report) -> list[Settled]:
    """Return what a report does to each listing of an answer that it is about.

    Args:
        asked: all that the answer asks for.
        report: sound in itself (`require_sound`).

    Raises:
        Refused: ARGUMENT_INVALID: rule ``outside-of-answer`` (2), ``reason`` (3), ``confirmation`` (4),
            ``told-otherwise`` (5).
    """
    mine = [each for each in asked if not report.listings or each.listing in report.listings]
    if not mine or report.listings - {each.listing for each in mine}:
        raise invalid_argument("listings", Alarm.OUTSIDE_OF_ANSWER, "the answer has no such listing")
    if report.applied - {code for each in mine for code in each.measures}:
        raise invalid_argument("applied", Alarm.OUTSIDE_OF_ANSWER, "the answer names no such measure")  # (2)
    return [_settled(each, report) for each in mine]


def _settled(asked: Asked, report: Report) -> Settled:
    own = _about(report, asked)
    disposition = _disposition(asked, own)
    if disposition is not Disposition.APPLIED and not own.reason and asked.measures:  # (3)
        raise invalid_argument("reason", "required", "a measure that was not applied has a reason")
    if asked.person and own.applied:  # (4)
        _require_confirmed(asked, own)
    repeated = asked.told is not None and _about(asked.told, asked) == own
    if asked.told is not None and not repeated and not report.corrects:  # (5)
        raise invalid_argument("decision_id", "told-otherwise", "something else was reported; say that it is corrected")
    return Settled(
        asked=asked, report=own, disposition=disposition, alarms=tuple(_alarms(asked, own)), repeated=repeated
    )


def _about(report: Report, asked: Asked) -> Report:
    """The part of a report that is about one listing, as it is compared and kept."""
    applied = report.applied.intersection(asked.measures)
    whole = applied.issuperset(asked.measures)
    return Report(
        officer=report.officer,
        applied=applied,
        reason="" if whole and asked.measures else report.reason,
        text="" if whole and asked.measures else report.text,
        case_refused=report.case_refused,
        confirmed_by=report.confirmed_by if asked.person else "",
        confirmed_at=report.confirmed_at if asked.person else None,
    )


def _disposition(asked: Asked, report: Report) -> Disposition:
    if not report.applied:
        return Disposition.NOT_APPLIED
    return Disposition.APPLIED if report.applied.issuperset(asked.measures) else Disposition.PARTLY


def _require_confirmed(asked: Asked, report: Report) -> None:
    if report.confirmed_at is None:
        message = "for a natural person an officer confirms first, by number and time (PIPL 24)"
        raise invalid_argument("confirmed_by", "confirmation", message)
    if report.confirmed_at < asked.decided_at:
        raise invalid_argument("confirmed_at", "confirmation", "the confirmation is older than the answer")


def _alarms(asked: Asked, report: Report) -> Iterable[Alarm]:
    """Step 6."""
    if report.applied and asked.outcome == Outcome.ADVISE.name:
        yield Alarm.APPLIED_ON_ADVICE
    if report.case_refused and asked.outcome != Outcome.INTERCEPT.name:
        yield Alarm.REFUSED_WITHOUT_INTERCEPTION


def is_outside(error: Refused) -> bool:
    """Whether a report was refused because it names what the answer does not hold (6)."""
    return error.metadata.get("rule") == Alarm.OUTSIDE_OF_ANSWER
