"""The catalogue file: one published measure list as YAML, and everything that makes it refused (Art. 29, 45-49).

The obligations, each with its rule names; blocks below carry the numbers:

1. Without publication it has no effect, a municipal one not without filing (Art. 45): ``publication-missing``,
   ``filing-missing``.
2. Every list type and every measure names its basis, a list type its standard (Art. 28-30): ``basis-missing``,
   ``standard-missing``.
3. Local list types (Art. 29) and local measures (Art. 46) keep within their bounds: `catalogue_rules`.
4. No interception for market bodies (Art. 49): ``class-3``.
5. No target but the listed subject (Art. 47): ``third-party-target``.
6. A lower catalogue does not redefine a higher one's codes (Art. 2, 68), nothing refers to what does not exist.

docs/catalogue-file.md describes the format and has the table of rules.
"""

import datetime
from collections.abc import Sequence
from typing import Final

from lanjie_gateway.domain import catalogue_rules as rules
from lanjie_gateway.domain.catalogue_yaml import CatalogueRefused, Fault, Fields, YamlError, read_yaml
from lanjie_gateway.domain.list_file import COLUMNS
from lanjie_matcher.catalogues import APPLICANT, Edition, Effect, Level, ListType, Matter, Measure, Trigger
from lanjie_matcher.listings import EndsWith
from lanjie_matcher.regions import covers
from lanjie_matcher.subjects import SubjectKind

__all__ = ["CatalogueRefused", "Fault", "load"]

_TOP: Final = frozenset({"catalogue", "list_types", "matters", "measures"})
_HEADER: Final = frozenset(
    "id level region edition example publication filing effective_from effective_to remedies objection_channel".split()
)
_PUBLICATION: Final = frozenset({"number", "date", "approver", "document_sha256"})
_FILING: Final = frozenset({"number", "date"})
_LIST_TYPE: Final = frozenset(
    "code name authority basis standard level region scope ends_with required_fields source_max_age_days"
    " effective_from effective_to aliases local_regulation remedies objection_channel shared_with".split()
)
_MATTER: Final = frozenset(
    "code name broader implementation_codes case_no_required as_of_allowed high_consequence stale_pass"
    " person_files".split()
)
_MEASURE: Final = frozenset(
    "code title content objects list_types matters effect instruction trigger decision_kinds term officer_verifies"
    " implementers roles class art46_item department basis repeats local_regulation".split()
)
_LEVELS: Final = {level.name.lower(): level for level in Level}
_EFFECTS: Final = {effect.name.lower(): effect for effect in Effect}
_TRIGGERS: Final = {trigger.value: trigger for trigger in Trigger}
_ENDS: Final = {ends.value: ends for ends in EndsWith}
_KINDS: Final = {kind.value: kind for kind in SubjectKind}
_MAX_MONTHS: Final = 1_200
_MAX_NUMBER: Final = 10**63
_MAX_TOLD: Final = 500
_MAX_PAIRS: Final = 500_000
"""Pairs of list type and matter that a file's measures name: what an edition changes is found by going through them."""


def load(
    file: bytes, file_name: str, published: Sequence[Edition] = (), *, allow_examples: bool = True
) -> tuple[Edition, list[str]]:
    """Read a catalogue file.

    Args:
        file: its bytes, YAML in UTF-8, at most 4 MiB.
        file_name: its name, for messages.
        published: every edition published before; references may reach those of higher or equal level.
        allow_examples: whether a file marked ``example: true`` may be published here.

    Returns:
        The edition, its revision still 0, and sentences about what breaks no rule but is worth a look.

    Raises:
        CatalogueRefused: it breaks rules; all of them are named.
    """
    try:
        root = read_yaml(file)
    except YamlError as error:
        raise CatalogueRefused(file_name, (Fault("file", error.rule, str(error)),)) from None
    faults: list[Fault] = []
    warnings: list[str] = []
    top = Fields(root, "file", _TOP, faults)
    edition = _edition(top, faults, warnings, allow_examples=allow_examples)
    if edition is not None:
        more, worth_a_look = rules.check(edition, published)
        faults += more
        warnings += worth_a_look
        pairs = sum(len(each.list_types) * len(each.matters) for each in edition.measures)
        if pairs > _MAX_PAIRS:
            faults.append(Fault("catalogue", "too-many-pairs", f"its measures name more than {_MAX_PAIRS:,} pairs"))
    if faults or edition is None:
        raise CatalogueRefused(file_name, tuple(faults))
    return edition, warnings


def _edition(top: Fields, faults: list[Fault], warnings: list[str], *, allow_examples: bool) -> Edition | None:
    """Read the whole file; `None`, with the faults noted, where the head is too broken to judge entries by."""
    if not top.has("catalogue"):
        top.fault("field-missing", "catalogue is due: what list this is, and its publication")
        return None
    head = Fields(top.raw("catalogue"), "catalogue", _HEADER, faults)
    level = head.choice("level", _LEVELS)
    region = head.text("region", missing="field-missing")
    if level is not None and region and not rules.region_fits(level, region):
        head.fault("level-region", "the region is 000000 for the nation, NN0000 for a province, NNNN00 for a city")
    example = head.flag("example")
    if example and not allow_examples:
        head.fault("example-refused", "this gateway takes no example catalogues; see --allow-examples")
    # (1) published, and filed
    number, published_on, approver = _publication(head)
    filing_number, filed_on = _filing(head, level)
    first = head.day("effective_from", missing="field-missing")
    last = head.day("effective_to")
    _ordered(head, first, last)
    identity = (head.code("id"), _edition_name(head))
    told = _told(head)
    if level is None or first is None or not region:
        return None
    if published_on is not None and first < published_on:
        warnings.append(f"catalogue: acts from its publication on {published_on}, not from {first} (Art. 45)")
    return Edition(
        id=identity[0],
        edition=identity[1],
        level=level,
        region=region,
        example=example,
        publication_number=number,
        publication_date=published_on or first,
        effective_from=first,
        effective_to=last,
        filing_number=filing_number,
        approver=approver,
        filing_date=filed_on,
        list_types=tuple(
            _list_type(each, level, region, told) for each in _entries(top, "list_types", _LIST_TYPE, faults)
        ),
        matters=tuple(_matter(each) for each in _entries(top, "matters", _MATTER, faults)),
        measures=tuple(_measure(each, level, warnings) for each in _entries(top, "measures", _MEASURE, faults)),
    )


def _publication(head: Fields) -> tuple[str, datetime.date | None, str]:
    publication = head.parts("publication", _PUBLICATION)
    if publication is None:
        head.fault("publication-missing", "an unpublished list has no effect (Art. 45): number, date and approver")
        return "", None, ""
    number = publication.text("number", missing="publication-missing")
    approver = publication.text("approver", missing="publication-missing")
    publication.text("document_sha256")
    return number, publication.day("date", missing="publication-missing"), approver


def _filing(head: Fields, level: Level | None) -> tuple[str | None, datetime.date | None]:
    filing = head.parts("filing", _FILING)
    due = "filing-missing" if level is Level.MUNICIPAL else None
    if filing is None:
        if due is not None:
            head.fault(due, "a municipal list is filed with the province (Art. 45): number and date")
        return None, None
    filed_on = filing.day("date", missing=due)
    return filing.text("number", missing=due) or None, filed_on


def _edition_name(head: Fields) -> str:
    # 2026 without quotes is a number to YAML, and what everybody writes.
    raw = head.raw("edition")
    if isinstance(raw, int) and not isinstance(raw, bool):
        if abs(raw) < _MAX_NUMBER:
            return str(raw)
        head.fault("code-form", "edition has 1 to 64 letters, digits, dots, hyphens and underscores")
        return ""
    return head.code("edition")


def _entries(top: Fields, name: str, known: frozenset[str], faults: list[Fault]) -> list[Fields]:
    value = top.raw(name)
    if value is None:
        return []
    if not isinstance(value, list):
        top.fault("field-type", f"{name} is a list of entries")
        return []
    return [Fields(each, f"{name}[{place}]", known, faults) for place, each in enumerate(value, 1)]


def _ordered(fields: Fields, first: datetime.date | None, last: datetime.date | None) -> None:
    if first is not None and last is not None and last < first:
        fields.fault("date-order", "effective_to lies before effective_from")


def _told(fields: Fields, default: tuple[str, str] = ("", "")) -> tuple[str, str]:
    """Return remedies and objection channel (Art. 31, 64, 71); those of the head hold for every list type."""
    found = (fields.text("remedies") or default[0], fields.text("objection_channel") or default[1])
    for name, text in zip(("remedies", "objection_channel"), found, strict=True):
        if len(text) > _MAX_TOLD:
            fields.fault("field-type", f"{name} has at most {_MAX_TOLD} characters")
    return found


def _list_type(fields: Fields, level: Level, region: str, told: tuple[str, str]) -> ListType:
    own_level = fields.choice("level", _LEVELS, default=level) or level
    own_region = fields.text("region") or region
    if own_level > level or not rules.region_fits(own_level, own_region) or not covers(region, own_region):
        fields.fault("level-region", "level and region of a list type lie within those of its catalogue")
    scope, required = fields.raw("scope"), fields.texts("required_fields")
    for name in required:
        if name not in COLUMNS:
            fields.fault("required-field-unknown", f"no column of a list file is called {name[:40]!r}")
    if scope is not None and (isinstance(scope, bool) or scope not in (1, 2, 3)):
        fields.fault("local-list-type-scope", "the scopes of Art. 29 are 1, 2 and 3")
    first, last = fields.day("effective_from"), fields.day("effective_to")
    _ordered(fields, first, last)
    remedies, objection_channel = _told(fields, told)
    # (2) a basis and a standard
    list_type = ListType(
        code=fields.code(),
        name=fields.text("name", missing="field-missing"),
        authority=fields.text("authority", missing="field-missing"),
        basis=fields.text("basis", missing="basis-missing"),
        standard=fields.text("standard", missing="standard-missing"),
        level=own_level,
        region=own_region,
        scope=scope if isinstance(scope, int) else None,
        ends_with=fields.choice("ends_with", _ENDS, default=EndsWith.TERM) or EndsWith.TERM,
        required_fields=required,
        source_max_age_days=fields.number("source_max_age_days", 1, 36_500),
        effective_from=first,
        effective_to=last,
        aliases=fields.texts("aliases"),
        remedies=remedies,
        objection_channel=objection_channel,
        shared_with=None
        if fields.raw("shared_with") is None
        else frozenset(fields.texts("shared_with", missing="shared-with-empty")),
    )
    # (3) local bounds
    regulated = rules.cites_local_regulation(fields.text("local_regulation"), list_type.basis)
    for rule, message in rules.local_list_type(list_type, regulated=regulated):
        if rule != "local-list-type-scope" or scope is None:
            fields.fault(rule, message)
    return list_type


def _matter(fields: Fields) -> Matter:
    return Matter(
        code=fields.code(),
        name=fields.text("name", missing="field-missing"),
        broader=fields.text("broader") or None,
        implementation_codes=fields.texts("implementation_codes"),
        case_no_required=fields.flag("case_no_required"),
        as_of_allowed=fields.flag("as_of_allowed"),
        high_consequence=fields.flag("high_consequence"),
        stale_pass=fields.flag("stale_pass"),
        person_files=fields.flag("person_files"),
    )


def _measure(fields: Fields, level: Level, warnings: list[str]) -> Measure:
    title = fields.text("title", missing="field-missing")
    trigger = fields.choice("trigger", _TRIGGERS) or Trigger.LISTING
    measure = Measure(
        code=fields.code(),
        title=title,
        content=fields.text("content") or title,
        objects=_objects(fields),
        list_types=frozenset(fields.texts("list_types", missing="field-missing")),
        matters=frozenset(fields.texts("matters", missing="field-missing")),
        effect=fields.choice("effect", _EFFECTS) or Effect.ADVISE,
        instruction=fields.text("instruction") or title,
        trigger=trigger,
        decision_kinds=_decision_kinds(fields, trigger),
        term_months=_term(fields, trigger),
        officer_verifies=fields.texts("officer_verifies"),
        implementers=frozenset(fields.texts("implementers")),
        roles=_roles(fields),
        measure_class=_class(fields, level),
        art46_item=_art46_item(fields),
        department=fields.text("department"),
        basis=fields.text("basis", missing="basis-missing"),  # (2)
        repeats=fields.text("repeats") or None,
    )
    if not measure.department:
        warnings.append(f"{fields.entry}: no department named")
    if trigger is Trigger.LISTING_AND_DECISION and fields.raw("term") == "while_listed":
        warnings.append(f"{fields.entry}: ends with the decision already, not with the listing")
    # (3) local bounds
    regulated = rules.cites_local_regulation(fields.text("local_regulation"), measure.basis)
    if level is not Level.NATIONAL:
        for rule, message in rules.local_measure(measure, regulated=regulated):
            fields.fault(rule, message)
        if measure.art46_item == 9:
            warnings.append(f"{fields.entry}: compare the effect with the local regulation it cites (Art. 46(9))")
    elif fields.has("art46_item"):
        warnings.append(f"{fields.entry}: Art. 46 is about local lists; the item says nothing here")
    return measure


def _objects(fields: Fields) -> frozenset[SubjectKind]:
    # (5) nobody but the listed subject
    named = fields.texts("objects", missing="field-missing")
    for name in named:
        if name in rules.THIRD_PARTIES or name in ("legal_representative", "actual_controller", "parent"):
            fields.fault("third-party-target", f"{name} is not the listed subject (Art. 47)")
        elif name not in _KINDS:
            fields.fault("field-type", f"objects are among {', '.join(_KINDS)}")
    return frozenset(_KINDS[name] for name in named if name in _KINDS)


def _roles(fields: Fields) -> frozenset[str]:
    # (5) A role is the part the listed subject himself plays in the case: as the parent who applies, as the officer who
    # is appointed. That somebody is related to the subject is no such part.
    named = fields.texts("roles")
    for name in named:
        if name in rules.THIRD_PARTIES:
            fields.fault("third-party-target", f"{name} is no part that the listed subject plays (Art. 47)")
    return frozenset(named) or frozenset({APPLICANT})


def _class(fields: Fields, level: Level) -> int:
    # (4) The classes are the national list's; local entries are management measures unless they say otherwise.
    if fields.raw("class") == 3:
        fields.fault("class-3", "measures of market bodies are their own choice: no interception (Art. 49)")
        return 3
    stated = fields.number("class", 1, 2)
    if stated is None and level is Level.NATIONAL and not fields.has("class"):
        fields.fault("field-missing", "class is due: 1 detracts from rights, 2 is a management measure")
    return stated or 2


def _art46_item(fields: Fields) -> int | None:
    # What is no item at all is treated as none named: the rule of local entries then says so.
    item = fields.raw("art46_item")
    return item if isinstance(item, int) and not isinstance(item, bool) and 1 <= item <= 9 else None


def _decision_kinds(fields: Fields, trigger: Trigger) -> frozenset[str]:
    kinds = fields.texts("decision_kinds")
    if trigger is Trigger.LISTING_AND_DECISION and not kinds:
        fields.fault("decision-kinds-missing", "a measure that waits on a decision names the kinds of decision")
    if trigger is Trigger.LISTING and kinds:
        fields.fault("trigger-conflict", "decision_kinds stand with the trigger listing+decision only")
    return frozenset(kinds)


def _term(fields: Fields, trigger: Trigger) -> int | None:
    """Return the measure's own term in months; `None` for as long as the listing, or its decision, runs."""
    term = fields.raw("term")
    if isinstance(term, dict):
        inner = fields.parts("term", frozenset({"months"}))
        months = inner.number("months", 1, _MAX_MONTHS) if inner is not None else None
        if months is None and term.get("months") is None:
            fields.fault("field-missing", "a term in months says how many")
        return months
    if term not in (None, "while_listed", "decision"):
        fields.fault("field-type", "term is while_listed, decision or {months: N}")
    if term == "decision" and trigger is Trigger.LISTING:
        fields.fault("trigger-conflict", "the term of a decision needs the trigger listing+decision")
    return None
