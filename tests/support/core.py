"""Makers of invented subjects, listings and catalogues for the tests of the pure core."""

import dataclasses
import datetime
from typing import Any

from lanjie_matcher.catalogues import (
    CatalogueSet,
    Edition,
    Effect,
    Level,
    ListType,
    Matter,
    Measure,
    Trigger,
)
from lanjie_matcher.civil_time import SHANGHAI
from lanjie_matcher.decide import Question, Ruling, decide
from lanjie_matcher.identifiers import citizen_check, org_code_check, uscc_check
from lanjie_matcher.listings import Listing
from lanjie_matcher.subjects import SubjectKind

NANJING = "320100"
SUZHOU = "320500"
HEFEI = "340100"
JIANGSU = "320000"
NATION = "000000"


def day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


def at(text: str) -> datetime.datetime:
    """An instant in Asia/Shanghai; a day alone is its noon."""
    stamp = datetime.datetime.fromisoformat(text if "T" in text else f"{text}T12:00:00")
    return stamp if stamp.tzinfo else stamp.replace(tzinfo=SHANGHAI)


def org_code(number: int) -> str:
    """The organisation code of an invented company, sound."""
    body = f"{number:08d}"
    return body + org_code_check(body)


def uscc(number: int, head: str = "91320102") -> str:
    """The USCC of an invented company, sound."""
    body = head + org_code(number)
    return body + uscc_check(body)


def citizen(number: int, birth: str = "19900101", region: str = "320102") -> str:
    """An invented citizen number, sound."""
    body = f"{region}{birth}{number % 1000:03d}"
    return body + citizen_check(body)


def listing(id_: str = "L1", /, **changes: Any) -> Listing:
    fields: dict[str, Any] = {
        "id": id_,
        "list_type": "WAGE",
        "subject_kind": SubjectKind.ENTERPRISE,
        "recorded_on": day("2026-01-10"),
        "listed_on": day("2026-01-01"),
        **changes,
    }
    return Listing(**fields)


def list_type(code: str = "WAGE", /, **changes: Any) -> ListType:
    fields: dict[str, Any] = {
        "code": code,
        "name": code.title(),
        "authority": "authority",
        "basis": "basis of the list",
        "standard": "standard",
        "level": Level.NATIONAL,
        "region": NATION,
        **changes,
    }
    return ListType(**fields)


def matter(code: str = "procurement.supplier", /, **changes: Any) -> Matter:
    return Matter(code=code, name=code, **changes)


def measure(code: str = "M1", /, **changes: Any) -> Measure:
    fields: dict[str, Any] = {
        "code": code,
        "title": f"title of {code}",
        "content": "content",
        "objects": frozenset({SubjectKind.ORGANISATION}),
        "list_types": frozenset({"WAGE"}),
        "matters": frozenset({"procurement.supplier"}),
        "effect": Effect.DENY,
        "instruction": f"instruction of {code}",
        "trigger": Trigger.LISTING,
        "basis": "basis of the measure",
        **changes,
    }
    return Measure(**fields)


def sanctioned(code: str = "M1", **changes: Any) -> Measure:
    """A measure that acts only while a ban runs."""
    return measure(code, trigger=Trigger.LISTING_AND_DECISION, decision_kinds=frozenset({"ban"}), **changes)


def edition(id_: str = "nat", /, **changes: Any) -> Edition:
    fields: dict[str, Any] = {
        "id": id_,
        "edition": "2026",
        "level": Level.NATIONAL,
        "region": NATION,
        "example": True,
        "publication_number": "No. 1",
        "publication_date": day("2025-12-01"),
        "effective_from": day("2026-01-01"),
        "list_types": (list_type(),),
        "matters": (matter(),),
        "measures": (measure(),),
        **changes,
    }
    return Edition(**fields)


def catalogues(*measures: Measure, **changes: Any) -> CatalogueSet:
    """One national edition with these measures."""
    return CatalogueSet.of([edition(measures=measures or (measure(),), **changes)])


def question(**changes: Any) -> Question:
    fields: dict[str, Any] = {
        "matter": "procurement.supplier",
        "at": at("2026-06-01"),
        "handling_region": NANJING,
        **changes,
    }
    return Question(**fields)


def ask(listings: Listing | list[Listing], known: CatalogueSet | None = None, **changes: Any) -> Ruling:
    """Decide with defaults: a listed enterprise, one national denial, asked in Nanjing in June 2026."""
    asked = [listings] if isinstance(listings, Listing) else listings
    return decide(asked, catalogues() if known is None else known, question(**changes))


def codes(ruling: Ruling) -> list[str]:
    return [each.measure.code for each in ruling.measures]


def changed(value: Any, **changes: Any) -> Any:
    return dataclasses.replace(value, **changes)
