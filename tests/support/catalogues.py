"""Catalogues with invented entries, for tests that need no file."""

import datetime
from typing import Any

from lanjie_matcher.catalogues import CatalogueSet, Edition, Effect, Level, ListType, Matter, Measure, Trigger
from lanjie_matcher.subjects import SubjectKind

PUBLISHED = datetime.date(2026, 1, 5)
ALL_OBJECTS = frozenset(SubjectKind)


def list_type(code: str = "TAX", **changes: Any) -> ListType:
    values: dict[str, Any] = {
        "code": code,
        "name": f"list {code}",
        "authority": "an authority",
        "basis": "a basis",
        "standard": "a standard",
        "level": Level.NATIONAL,
        "region": "000000",
    }
    return ListType(**(values | changes))


def matter(code: str = "procurement.supplier", **changes: Any) -> Matter:
    return Matter(**({"code": code, "name": code} | changes))


def measure(code: str = "M1", **changes: Any) -> Measure:
    values: dict[str, Any] = {
        "code": code,
        "title": f"measure {code}",
        "content": "content",
        "objects": ALL_OBJECTS,
        "list_types": frozenset({"TAX"}),
        "matters": frozenset({"procurement.supplier"}),
        "effect": Effect.DENY,
        "instruction": "do not admit",
        "trigger": Trigger.LISTING,
        "department": "a department",
        "basis": "a basis",
    }
    return Measure(**(values | changes))


def edition(identifier: str = "national", **changes: Any) -> Edition:
    values: dict[str, Any] = {
        "id": identifier,
        "edition": "2026",
        "level": Level.NATIONAL,
        "region": "000000",
        "example": True,
        "publication_number": "No. 1",
        "publication_date": PUBLISHED,
        "effective_from": PUBLISHED,
        "list_types": (list_type(),),
        "matters": (matter(),),
        "measures": (measure(),),
    }
    return Edition(**(values | changes))


def catalogues(*editions: Edition) -> CatalogueSet:
    return CatalogueSet.of(editions or (edition(),))
