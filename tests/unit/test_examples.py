"""The example catalogues and lists are what they say."""

import csv
import datetime
import json
from pathlib import Path

import pytest
import yaml

from lanjie_gateway.cli.invented import COLUMNS
from lanjie_gateway.domain.catalogue_file import CatalogueRefused, load
from lanjie_gateway.domain.list_file import FileRules, ListTypeRule, read_header, read_row
from lanjie_matcher.catalogues import CatalogueSet, Edition, Effect, Level
from lanjie_matcher.subjects import SubjectKind

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("national", "jiangsu", "nanjing")
TODAY = datetime.date(2026, 11, 23)


@pytest.fixture(scope="module")
def editions() -> list[Edition]:
    made: list[Edition] = []
    for name in NAMES:
        path = EXAMPLES / "catalogues" / f"{name}-example.yaml"
        made.append(load(path.read_bytes(), path.name, made)[0])
    return made


@pytest.fixture(scope="module")
def rules(editions: list[Edition]) -> FileRules:
    known = {
        code: ListTypeRule(code=each.code, required_fields=each.required_fields)
        for each in editions[0].list_types
        for code in (each.code, *each.aliases)
    }
    return FileRules(list_types=known, list_type="", source="", complete=False, today=TODAY)


def test_the_three_load_in_order(editions: list[Edition]) -> None:
    assert [each.level for each in editions] == [Level.NATIONAL, Level.PROVINCIAL, Level.MUNICIPAL]
    assert [each.region for each in editions] == ["000000", "320000", "320100"]
    assert all(each.example and "示例" in each.publication_number for each in editions)
    counts = [(len(each.list_types), len(each.matters), len(each.measures)) for each in editions]
    assert counts == [(13, 39, 46), (0, 0, 9), (0, 0, 1)]


def test_the_lower_ones_need_the_higher() -> None:
    path = EXAMPLES / "catalogues" / "jiangsu-example.yaml"
    with pytest.raises(CatalogueRefused, match="list-type-unknown"):
        load(path.read_bytes(), path.name)


@pytest.mark.parametrize("name", NAMES)
def test_a_gateway_without_examples_refuses_them(name: str, editions: list[Edition]) -> None:
    path = EXAMPLES / "catalogues" / f"{name}-example.yaml"
    before = editions[: NAMES.index(name)]
    with pytest.raises(CatalogueRefused, match="example-refused"):
        load(path.read_bytes(), path.name, before, allow_examples=False)


def test_every_measure_is_reachable(editions: list[Edition]) -> None:
    catalogues = CatalogueSet.of(editions)
    for edition in editions:
        for measure in edition.measures:
            for list_type in measure.list_types:
                known = catalogues.list_type(list_type, TODAY)
                assert known is not None
                for matter in measure.matters:
                    assert (edition, measure) in catalogues.entries(known, matter, TODAY)


def test_every_local_entry_that_repeats_is_the_same_restriction(editions: list[Edition]) -> None:
    national = {measure.code: measure for measure in editions[0].measures}
    repeating = [measure for edition in editions[1:] for measure in edition.measures if measure.repeats]
    assert repeating
    for measure in repeating:
        higher = national[measure.repeats or ""]
        assert measure.list_types <= higher.list_types
        assert measure.matters <= higher.matters
        assert measure.objects <= higher.objects
        assert measure.effect is higher.effect


def test_a_childs_schooling_is_never_refused_for_a_debt(editions: list[Edition]) -> None:
    catalogues = CatalogueSet.of(editions)
    for list_type in editions[0].list_types:
        found = catalogues.entries(list_type, "school.enrol", TODAY)
        if list_type.code == "GFYWYZ":
            assert [(measure.code, measure.effect, measure.term_months) for _, measure in found] == [
                ("N-06-001", Effect.DENY, 24)
            ]
            assert found[0][1].objects == {SubjectKind.NATURAL_PERSON}
            assert found[0][1].roles == {"applicant"}
        else:
            assert not found


def test_a_food_licence_is_a_licence(editions: list[Edition]) -> None:
    catalogues = CatalogueSet.of(editions)
    wage = next(each for each in editions[0].list_types if each.code == "TQNMGGZ")
    codes = [measure.code for _, measure in catalogues.entries(wage, "license.food", TODAY)]
    assert codes == ["N-01-008"]


@pytest.mark.parametrize("code", ["procurement.supplier", "tendering.bidder"])
def test_bid_openings_may_be_asked_as_of_their_day(editions: list[Edition], code: str) -> None:
    matter = CatalogueSet.of(editions).matter(code, TODAY)
    assert matter is not None
    assert matter.as_of_allowed


def test_the_files_say_that_they_are_no_published_lists() -> None:
    for name in NAMES:
        text = (EXAMPLES / "catalogues" / f"{name}-example.yaml").read_text(encoding="utf-8")
        assert "NOT a published list" in text
        assert "unconfirmed" in text
        assert yaml.safe_load(text)["catalogue"]["example"] is True


def test_the_example_lists_pass_the_import_rules(rules: FileRules) -> None:
    with (EXAMPLES / "lists" / "wage-list-example.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        read_header(list(reader.fieldnames or ()), list_type_given=False)
        wage = [read_row(row, line, rules) for line, row in enumerate(reader, 2)]
    lines = (EXAMPLES / "lists" / "mixed-example.jsonl").read_text(encoding="utf-8").splitlines()
    mixed = []
    for line, each in enumerate(lines, 1):
        row = json.loads(each)
        assert set(row) <= set(COLUMNS)
        mixed.append(read_row(row, line, rules))
    assert (len(wage), len(mixed)) == (20, 20)
    assert {draft.list_type for draft in wage} == {"TQNMGGZ"}
    assert {draft.list_type for draft in mixed} == {each for each in rules.list_types if each.isascii()} - {"TQNMGGZ"}
    assert not any(warning for draft in (*wage, *mixed) for each in draft.identifiers for warning in each.warnings)


def test_five_example_bidders_are_listed() -> None:
    with (EXAMPLES / "bidders-example.csv").open(encoding="utf-8", newline="") as file:
        bidders = [row["identifier"].removeprefix("uscc:") for row in csv.DictReader(file)]
    lists = "".join(
        (EXAMPLES / "lists" / name).read_text(encoding="utf-8")
        for name in ("wage-list-example.csv", "mixed-example.jsonl")
    )
    assert len(bidders) == 24
    assert sum(number in lists for number in bidders) == 5
