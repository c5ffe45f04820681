"""Every refusal of a catalogue file has a name, and every good file gives the edition it says."""

import copy
import datetime
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from lanjie_gateway.domain.catalogue_file import CatalogueRefused, load
from lanjie_gateway.domain.catalogue_rules import cites_local_regulation
from lanjie_matcher.catalogues import APPLICANT, Edition, Effect, Level, Trigger
from lanjie_matcher.listings import EndsWith
from lanjie_matcher.subjects import SubjectKind

NATIONAL: dict[str, Any] = {
    "catalogue": {
        "id": "cn",
        "level": "national",
        "region": "000000",
        "edition": "2026",
        "publication": {"number": "甲〔2026〕1号", "date": "2026-01-05", "approver": "某会议", "document_sha256": None},
        "effective_from": "2026-01-05",
        "effective_to": None,
    },
    "list_types": [
        {"code": "WAGE", "name": "欠薪名单", "authority": "人社", "basis": "条例第四十八条", "standard": "办法第五条"}
    ],
    "matters": [
        {"code": "procurement.supplier", "name": "供应商资格审查", "as_of_allowed": True},
        {"code": "procurement.service", "name": "服务类", "broader": "procurement.supplier"},
    ],
    "measures": [
        {
            "code": "N-1",
            "title": "限制",
            "objects": ["enterprise"],
            "list_types": ["WAGE"],
            "matters": ["procurement.supplier"],
            "effect": "deny",
            "trigger": "listing",
            "class": 1,
            "department": "财政",
            "basis": "条例第四十八条",
        }
    ],
}
PROVINCIAL: dict[str, Any] = {
    "catalogue": {
        "id": "js",
        "level": "provincial",
        "region": "320000",
        "edition": "2026",
        "publication": {"number": "乙〔2026〕1号", "date": "2026-01-12", "approver": "领导小组会议"},
        "effective_from": "2026-02-01",
    },
    "list_types": [
        {
            "code": "JS-LOCAL",
            "name": "省名单",
            "authority": "省局",
            "basis": "江苏省示例管理条例第九条",
            "standard": "同条",
            "scope": 2,
        }
    ],
    "matters": [{"code": "js.matter", "name": "省事项", "broader": "procurement.supplier"}],
    "measures": [
        {
            "code": "P-1",
            "title": "补充",
            "objects": ["enterprise"],
            "list_types": ["WAGE", "JS-LOCAL"],
            "matters": ["js.matter", "procurement.supplier"],
            "effect": "restrict",
            "trigger": "listing",
            "art46_item": 1,
            "department": "省局",
            "basis": "江苏省社会信用条例第四十六条第一项",
        }
    ],
}
MUNICIPAL: dict[str, Any] = {
    "catalogue": {
        "id": "nj",
        "level": "municipal",
        "region": "320100",
        "edition": "2026",
        "publication": {"number": "丙〔2026〕1号", "date": "2026-02-10", "approver": "市会议"},
        "filing": {"number": "备〔2026〕1号", "date": "2026-02-20"},
        "effective_from": "2026-03-01",
    },
    "measures": [
        {
            "code": "M-1",
            "title": "市",
            "objects": ["enterprise"],
            "list_types": ["WAGE"],
            "matters": ["procurement.supplier"],
            "effect": "restrict",
            "trigger": "listing",
            "art46_item": 9,
            "department": "市局",
            "basis": "南京市示例信用条例第三条",
        }
    ],
}

Mutation = Callable[[dict[str, Any]], None]


def text(document: dict[str, Any]) -> bytes:
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=False).encode()


def editions(*documents: dict[str, Any]) -> list[Edition]:
    made: list[Edition] = []
    for document in documents:
        made.append(load(text(document), "good.yaml", made)[0])
    return made


def put(path: str, value: Any) -> Mutation:
    """A mutation that sets ``measures.0.effect`` or the like."""

    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place: Any = document
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place[name]
        place[int(last) if isinstance(place, list) else last] = value

    return change


def drop(path: str) -> Mutation:
    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place: Any = document
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place[name]
        del place[last]

    return change


def again(section: str) -> Mutation:
    return lambda document: document[section].append(copy.deepcopy(document[section][0]))


def both(*changes: Mutation) -> Mutation:
    def change(document: dict[str, Any]) -> None:
        for each in changes:
            each(document)

    return change


REFUSALS: list[tuple[str, str, Mutation, str, str]] = [
    # base, what is wrong, mutation, entry, rule
    ("national", "no head", drop("catalogue"), "file", "field-missing"),
    ("national", "no publication", drop("catalogue.publication"), "catalogue", "publication-missing"),
    ("national", "publication null", put("catalogue.publication", None), "catalogue", "publication-missing"),
    ("national", "no number", put("catalogue.publication.number", " "), "catalogue", "publication-missing"),
    ("national", "no date", drop("catalogue.publication.date"), "catalogue", "publication-missing"),
    ("national", "no approver", drop("catalogue.publication.approver"), "catalogue", "publication-missing"),
    ("municipal", "no filing", drop("catalogue.filing"), "catalogue", "filing-missing"),
    ("municipal", "filing without number", put("catalogue.filing.number", ""), "catalogue", "filing-missing"),
    ("municipal", "filing without date", drop("catalogue.filing.date"), "catalogue", "filing-missing"),
    ("national", "measure without basis", drop("measures.0.basis"), "N-1", "basis-missing"),
    ("national", "blank basis", put("measures.0.basis", "  "), "N-1", "basis-missing"),
    ("national", "list type without basis", drop("list_types.0.basis"), "WAGE", "basis-missing"),
    ("national", "list type without standard", drop("list_types.0.standard"), "WAGE", "standard-missing"),
    ("provincial", "no item", drop("measures.0.art46_item"), "P-1", "art46-item"),
    ("provincial", "item 0", put("measures.0.art46_item", 0), "P-1", "art46-item"),
    ("provincial", "item 10", put("measures.0.art46_item", 10), "P-1", "art46-item"),
    ("provincial", "item 8", put("measures.0.art46_item", 8), "P-1", "art46-8-not-interceptable"),
    *(
        (
            "provincial",
            f"item {item} {effect}",
            both(put("measures.0.art46_item", item), put("measures.0.effect", effect)),
            "P-1",
            "effect-too-strong",
        )
        for item, effect in (
            (1, "deny"),
            (2, "restrict"),
            (2, "deny"),
            (3, "deny"),
            (4, "deny"),
            (5, "deny"),
            (6, "deny"),
        )
    ),
    ("municipal", "item 9 without", put("measures.0.basis", "某实施意见第三条"), "M-1", "art46-9-regulation"),
    (
        "provincial",
        "local list",
        put("list_types.0.basis", "江苏省示例管理办法"),
        "JS-LOCAL",
        "local-list-type-regulation",
    ),
    ("provincial", "local list scope", drop("list_types.0.scope"), "JS-LOCAL", "local-list-type-scope"),
    ("provincial", "scope 4", put("list_types.0.scope", 4), "JS-LOCAL", "local-list-type-scope"),
    ("provincial", "scope true", put("list_types.0.scope", True), "JS-LOCAL", "local-list-type-scope"),
    ("national", "class 3", put("measures.0.class", 3), "N-1", "class-3"),
    ("national", "no class", drop("measures.0.class"), "N-1", "field-missing"),
    ("provincial", "higher measure", put("measures.0.code", "N-1"), "N-1", "redefines-higher"),
    (
        "provincial",
        "higher matter",
        put("matters.0.code", "procurement.service"),
        "procurement.service",
        "redefines-higher",
    ),
    ("provincial", "higher list type", put("list_types.0.code", "WAGE"), "WAGE", "redefines-higher"),
    ("provincial", "higher by alias", put("list_types.0.aliases", ["WAGE"]), "WAGE", "redefines-higher"),
    *(
        ("national", who, put("measures.0.objects", ["enterprise", who]), "N-1", "third-party-target")
        for who in ("spouse", "child", "affiliate", "related_person", "legal_representative")
    ),
    ("national", "role child", put("measures.0.roles", ["child"]), "N-1", "third-party-target"),
    ("national", "unknown object", put("measures.0.objects", ["robot"]), "N-1", "field-type"),
    ("national", "no objects", put("measures.0.objects", []), "N-1", "field-missing"),
    ("national", "kinds", put("measures.0.trigger", "listing+decision"), "N-1", "decision-kinds-missing"),
    ("national", "kinds unused", put("measures.0.decision_kinds", ["ban"]), "N-1", "trigger-conflict"),
    ("national", "term unused", put("measures.0.term", "decision"), "N-1", "trigger-conflict"),
    ("national", "term word", put("measures.0.term", "forever"), "N-1", "field-type"),
    ("national", "term empty", put("measures.0.term", {}), "N-1", "field-missing"),
    ("national", "term zero", put("measures.0.term", {"months": 0}), "N-1", "field-type"),
    ("national", "term years", put("measures.0.term", {"months": 1, "years": 1}), "N-1", "field-unknown"),
    ("national", "matter", put("measures.0.matters", ["nowhere"]), "N-1", "matter-unknown"),
    ("national", "broader", put("matters.1.broader", "nowhere"), "procurement.service", "matter-unknown"),
    ("national", "list type", put("measures.0.list_types", ["NONE"]), "N-1", "list-type-unknown"),
    ("national", "cycle", put("matters.0.broader", "procurement.service"), "procurement.supplier", "broader-cycle"),
    ("national", "itself", put("matters.0.broader", "procurement.supplier"), "procurement.supplier", "broader-cycle"),
    ("national", "measure twice", again("measures"), "N-1", "duplicate-code"),
    ("national", "matter twice", again("matters"), "procurement.supplier", "duplicate-code"),
    ("national", "list type twice", again("list_types"), "WAGE", "duplicate-code"),
    ("national", "alias twice", put("list_types.0.aliases", ["WAGE"]), "WAGE", "duplicate-code"),
    ("national", "region", put("catalogue.region", "320000"), "catalogue", "level-region"),
    ("provincial", "nation", put("catalogue.region", "000000"), "catalogue", "level-region"),
    ("provincial", "city", put("catalogue.region", "320100"), "catalogue", "level-region"),
    ("municipal", "county", put("catalogue.region", "320102"), "catalogue", "level-region"),
    ("provincial", "list level", put("list_types.0.level", "national"), "JS-LOCAL", "level-region"),
    ("provincial", "list region", put("list_types.0.region", "330000"), "JS-LOCAL", "level-region"),
    ("national", "region as number", put("catalogue.region", 0), "catalogue", "field-type"),
    ("national", "dates", put("catalogue.effective_to", "2026-01-04"), "catalogue", "date-order"),
    (
        "national",
        "list type dates",
        both(put("list_types.0.effective_from", "2026-02-01"), put("list_types.0.effective_to", "2026-01-01")),
        "WAGE",
        "date-order",
    ),
    ("national", "no such day", put("catalogue.effective_from", "2026-02-30"), "catalogue", "field-type"),
    ("national", "no first day", drop("catalogue.effective_from"), "catalogue", "field-missing"),
    ("national", "unknown field", put("measures.0.severity", 3), "N-1", "field-unknown"),
    ("national", "unknown head field", put("catalogue.owner", "x"), "catalogue", "field-unknown"),
    ("national", "unknown section", put("extras", []), "file", "field-unknown"),
    ("national", "text expected", put("measures.0.title", 5), "N-1", "field-type"),
    ("national", "list expected", put("measures.0.matters", "procurement.supplier"), "N-1", "field-type"),
    ("national", "flag expected", put("matters.0.as_of_allowed", "yes"), "procurement.supplier", "field-type"),
    ("national", "effect", put("measures.0.effect", "forbid"), "N-1", "field-type"),
    ("national", "no effect", drop("measures.0.effect"), "N-1", "field-missing"),
    ("national", "ends_with", put("list_types.0.ends_with", "never"), "WAGE", "field-type"),
    ("national", "no code", drop("measures.0.code"), "measures[1]", "field-missing"),
    ("national", "bad code", put("measures.0.code", "N 1"), "measures[1]", "code-form"),
    ("national", "long edition", put("catalogue.edition", 10**64), "catalogue", "code-form"),
    ("national", "entry no mapping", put("measures.0", "N-1"), "measures[1]", "field-type"),
    ("national", "section no list", put("measures", {"code": "N-1"}), "file", "field-type"),
    ("national", "column", put("list_types.0.required_fields", ["colour"]), "WAGE", "required-field-unknown"),
    ("national", "list shared with nobody", put("list_types.0.shared_with", []), "WAGE", "shared-with-empty"),
    ("national", "repeats nothing", put("measures.0.repeats", "N-9"), "N-1", "repeats-unknown"),
    ("provincial", "repeats nothing", put("measures.0.repeats", "N-9"), "P-1", "repeats-unknown"),
    ("national", "example", put("catalogue.example", True), "catalogue", "example-refused"),
]
BASES = {
    "national": (NATIONAL, ()),
    "provincial": (PROVINCIAL, (NATIONAL,)),
    "municipal": (MUNICIPAL, (NATIONAL, PROVINCIAL)),
}


@pytest.mark.parametrize(
    ("base", "mutation", "entry", "rule"),
    [pytest.param(b, m, e, r, id=f"{r}: {b}: {w}") for b, w, m, e, r in REFUSALS],
)
def test_one_broken_rule_is_refused_by_its_name(base: str, mutation: Mutation, entry: str, rule: str) -> None:
    good, before = BASES[base]
    document = copy.deepcopy(good)
    mutation(document)
    with pytest.raises(CatalogueRefused) as refused:
        load(text(document), "bad.yaml", editions(*before), allow_examples=False)
    error = refused.value
    assert error.reason == "CATALOGUE_REFUSED"
    assert (entry, rule) in [(fault.entry, fault.rule) for fault in error.faults]
    assert error.metadata == {"file": "bad.yaml", "entry": error.faults[0].entry, "rule": error.faults[0].rule}
    assert rule in str(error)
    assert entry in str(error)
    assert len(str(error)) < 4_000


def test_the_good_files_are_good() -> None:
    national, provincial, municipal = editions(NATIONAL, PROVINCIAL, MUNICIPAL)
    assert (national.level, provincial.level, municipal.level) == (Level.NATIONAL, Level.PROVINCIAL, Level.MUNICIPAL)
    assert municipal.filing_number == "备〔2026〕1号"
    assert provincial.starts_on == datetime.date(2026, 2, 1)


def test_defaults_are_those_of_the_format() -> None:
    (national,) = editions(NATIONAL)
    measure = national.measures[0]
    assert measure.instruction == measure.content == measure.title == "限制"
    assert measure.roles == {APPLICANT}
    assert measure.implementers == frozenset()
    assert measure.term_months is None
    assert measure.trigger is Trigger.LISTING
    assert measure.effect is Effect.DENY
    assert measure.objects == {SubjectKind.ENTERPRISE}
    assert national.list_types[0].ends_with is EndsWith.TERM
    assert (national.list_types[0].level, national.list_types[0].region) == (Level.NATIONAL, "000000")
    assert national.matters[1].broader == "procurement.supplier"


def test_a_role_may_be_a_part_the_listed_subject_plays() -> None:
    document = copy.deepcopy(NATIONAL)
    document["measures"][0]["roles"] = ["legal_representative", "parent"]
    assert editions(document)[0].measures[0].roles == {"legal_representative", "parent"}


def test_a_term_in_months() -> None:
    document = copy.deepcopy(NATIONAL)
    document["measures"][0]["term"] = {"months": 24}
    assert editions(document)[0].measures[0].term_months == 24


def test_all_faults_are_named_at_once() -> None:
    document = copy.deepcopy(NATIONAL)
    del document["measures"][0]["basis"]
    del document["list_types"][0]["standard"]
    del document["catalogue"]["publication"]
    with pytest.raises(CatalogueRefused) as refused:
        load(text(document), "bad.yaml")
    rules = {fault.rule for fault in refused.value.faults}
    assert rules == {"publication-missing", "standard-missing", "basis-missing"}
    assert all(rule in str(refused.value) for rule in rules)


def test_a_message_stays_short_whatever_the_file() -> None:
    document = copy.deepcopy(NATIONAL)
    document["measures"] *= 500
    with pytest.raises(CatalogueRefused) as refused:
        load(text(document), "bad.yaml")
    assert len(refused.value.faults) == 499
    assert len(str(refused.value)) < 2_000


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        (b"", "field-type"),
        (b"- 1", "field-type"),
        (b"catalogue: {id: a, id: b}", "duplicate-key"),
        (b"catalogue: [", "yaml"),
        (b"\xff\xfe\x00", "yaml"),
        (b"a: 1\n---\nb: 2", "yaml"),
        (b"a: &x {b: 1}\nc: {<<: *x}", "yaml"),
        (b"a: &x [1]\nb: [" + b"*x, " * 1_001 + b"]", "yaml"),
        (b"[" * 50_000, "yaml"),
        (b"a: !!python/object/apply:os.getcwd []", "yaml"),
        (b"a: " + b"9" * 10_000, "yaml"),
        (b"? [1, 2]\n: 3", "yaml"),
        (b"a: &x {b: 1}\nc: {!!merge d: *x}", "yaml"),
        (b"a: !!bool maybe", "yaml"),
        (b"a: !!timestamp soon", "yaml"),
        (b'a: "b\\0c"', "yaml"),
        (b"# " + b"x" * (4 * 1024 * 1024), "yaml"),
    ],
)
def test_what_is_no_catalogue_at_all_is_refused(file: bytes, rule: str) -> None:
    with pytest.raises(CatalogueRefused) as refused:
        load(file, "bad.yaml")
    assert refused.value.metadata["rule"] == rule
    assert refused.value.metadata["entry"] == "file"


def test_measures_that_name_more_pairs_than_can_be_kept_ready_are_refused() -> None:
    document = copy.deepcopy(NATIONAL)
    for section, code in (("list_types", "WAGE"), ("matters", "procurement.supplier")):
        entry = next(each for each in document[section] if each["code"] == code)
        document[section] = [{**entry, "code": f"{code}-{place}"} for place in range(300)]
    lists, matters = ([each["code"] for each in document[section]] for section in ("list_types", "matters"))
    measure = {**document["measures"][0], "list_types": lists, "matters": matters}
    # An anchor makes as many of them as one likes of a short file.
    document["measures"] = [{**measure, "code": f"N-{place}"} for place in range(5)]
    load(text(document), "large.yaml")
    document["measures"].append({**measure, "code": "N-9"})
    with pytest.raises(CatalogueRefused) as refused:
        load(text(document), "larger.yaml")
    assert refused.value.metadata["rule"] == "too-many-pairs"


def test_an_alias_says_what_its_anchor_says() -> None:
    file = text(NATIONAL).replace(b"- WAGE", b"- &wage WAGE", 1)
    edition, _ = load(
        file.replace(b"effect: deny", b"repeats: null\n  effect: deny\n  implementers: [*wage]"), "n.yaml"
    )
    assert edition.measures[0].implementers == {"WAGE"}


def test_an_anchor_that_holds_itself_is_refused() -> None:
    with pytest.raises(CatalogueRefused):
        load(b"catalogue: &x {id: *x}\nmeasures: &y [*y]", "bad.yaml")


def test_an_edition_is_published_once() -> None:
    published = editions(NATIONAL)
    with pytest.raises(CatalogueRefused, match="edition-exists"):
        load(text(NATIONAL), "again.yaml", published)


def test_a_catalogue_keeps_its_level_and_region() -> None:
    document = copy.deepcopy(PROVINCIAL)
    document["catalogue"] |= {"edition": "2027", "region": "330000"}
    with pytest.raises(CatalogueRefused, match="level-region"):
        load(text(document), "moved.yaml", editions(NATIONAL, PROVINCIAL))


def test_the_next_edition_may_keep_its_codes_and_is_told_what_it_drops() -> None:
    document = copy.deepcopy(NATIONAL)
    document["catalogue"] |= {"edition": 2027, "effective_from": "2027-01-01"}
    document["matters"].pop()
    edition, warnings = load(text(document), "next.yaml", editions(NATIONAL))
    assert edition.name == "cn@2027"
    assert any("procurement.service" in warning for warning in warnings)


def test_a_reference_to_its_own_earlier_edition_does_not_hold() -> None:
    document = copy.deepcopy(NATIONAL)
    document["catalogue"] |= {"edition": "2027", "effective_from": "2027-01-01"}
    document["matters"] = []
    with pytest.raises(CatalogueRefused, match="matter-unknown"):
        load(text(document), "next.yaml", editions(NATIONAL))


def test_a_reference_does_not_reach_a_lower_catalogue_or_another_region() -> None:
    document = copy.deepcopy(NATIONAL)
    document["catalogue"]["id"] = "cn-2"
    document["list_types"] = []
    document["matters"] = []
    document["measures"][0] |= {"code": "N-2", "matters": ["js.matter"]}
    with pytest.raises(CatalogueRefused, match="matter-unknown"):
        load(text(document), "up.yaml", editions(NATIONAL, PROVINCIAL))
    other = copy.deepcopy(PROVINCIAL)
    other["catalogue"] |= {"id": "zj", "region": "330000"}
    other["list_types"] = []
    other["matters"] = []
    other["measures"][0] |= {"code": "P-2", "list_types": ["WAGE"]}
    with pytest.raises(CatalogueRefused, match="matter-unknown"):
        load(text(other), "other.yaml", editions(NATIONAL, PROVINCIAL))


def test_two_regions_do_not_share_a_code() -> None:
    other = copy.deepcopy(PROVINCIAL)
    other["catalogue"] |= {"id": "zj", "region": "330000"}
    other["list_types"][0] |= {"basis": "浙江省示例条例第一条"}
    with pytest.raises(CatalogueRefused, match="duplicate-code"):
        load(text(other), "other.yaml", editions(NATIONAL, PROVINCIAL))


def test_repeats_names_an_entry_of_a_higher_catalogue() -> None:
    document = copy.deepcopy(PROVINCIAL)
    document["measures"][0] |= {"repeats": "N-1", "list_types": ["WAGE"]}
    edition, warnings = load(text(document), "js.yaml", editions(NATIONAL))
    assert edition.measures[0].repeats == "N-1"
    assert warnings == []
    document["measures"][0]["list_types"] = ["WAGE", "JS-LOCAL"]
    _, warnings = load(text(document), "js.yaml", editions(NATIONAL))
    assert any("what it gives way on is lost" in warning for warning in warnings)


def test_item_9_asks_for_a_look_at_the_regulation_it_cites() -> None:
    _, warnings = load(text(MUNICIPAL), "nj.yaml", editions(NATIONAL, PROVINCIAL))
    assert any("Art. 46(9)" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("basis", "expected"),
    [
        ("江苏省社会信用条例第四十六条", True),
        ("《南京市城市治理条例》第十条", True),
        ("某办法;苏州市示例条例", True),
        ("深圳经济特区社会信用条例", True),
        ("江苏省示例办法(省人民代表大会常务委员会通过)", True),
        ("江苏省示例管理办法", False),
        ("保障农民工工资支付条例第四十八条", False),
        ("城市房地产开发经营管理条例", False),
        ("上市公司监督管理条例", False),
        ("", False),
    ],
)
def test_a_local_regulation_is_known_by_its_place_or_its_congress(basis: str, expected: object) -> None:
    assert cites_local_regulation(basis) is expected
