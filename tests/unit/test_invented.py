"""Invented data is sound, the same for the same seed, and plainly invented."""

import csv
import datetime
import random
from collections import Counter
from pathlib import Path

import pytest

from lanjie_gateway.cli import invented
from lanjie_gateway.cli.invented_lists import SHAPES
from lanjie_gateway.domain import list_file
from lanjie_gateway.domain.catalogue_file import load
from lanjie_gateway.domain.list_file import FileRules, ListTypeRule, read_header, read_row
from lanjie_matcher.catalogues import CatalogueSet, Edition, Trigger
from lanjie_matcher.identifiers import make, parse
from lanjie_matcher.subjects import SubjectKind

TODAY = datetime.date(2026, 11, 23)
COUNT = 4_000


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return list(invented.listings(11, COUNT, today=TODAY))


@pytest.fixture(scope="module")
def edition() -> Edition:
    path = Path(__file__).parents[2] / "examples" / "catalogues" / "national-example.yaml"
    return load(path.read_bytes(), path.name)[0]


def test_the_columns_are_the_canonical_ones() -> None:
    assert set(invented.COLUMNS) == list_file.COLUMNS
    assert len(invented.COLUMNS) == len(set(invented.COLUMNS))


def test_check_digits_are_sound(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert make(row["id_kind"], row["id_number"]).warnings == ()
        assert make("uscc", row["authority_uscc"]).warnings == ()
        if row["other_ids"]:
            assert parse(row["other_ids"]).key == make("uscc", row["id_number"]).key
        if row["related_persons"]:
            assert parse(row["related_persons"].removeprefix("legal_representative:")).warnings == ()


def test_everybody_is_plainly_invented(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert "示例" in row["name"] or row["name"].startswith("示")
        number = row["id_number"]
        start = {"uscc": number[8:10], "citizen": number[:4], "passport": number[:6]}[row["id_kind"]]
        assert start == {"uscc": "XX", "citizen": "3299", "passport": "UTO:XX"}[row["id_kind"]]
        assert "示例" in row["decision_no"]
        assert "示例" in row["authority"]


def test_the_same_seed_gives_the_same_rows(rows: list[dict[str, str]]) -> None:
    assert list(invented.listings(11, COUNT, today=TODAY)) == rows
    assert list(invented.listings(12, 50, today=TODAY)) != rows[:50]
    assert invented.tender(3, rows, 100, today=TODAY) == invented.tender(3, rows, 100, today=TODAY)


def test_every_row_passes_the_import_rules(rows: list[dict[str, str]], edition: Edition) -> None:
    known = {
        each.code: ListTypeRule(code=each.code, required_fields=each.required_fields) for each in edition.list_types
    }
    rules = FileRules(list_types=known, list_type="", source="", complete=False, today=TODAY)
    read_header(list(rows[0]), list_type_given=False)
    keys = {read_row(row, line, rules).key_text() for line, row in enumerate(rows, 2)}
    assert len(keys) == COUNT


def test_the_mix_is_that_of_real_lists(rows: list[dict[str, str]], edition: Edition) -> None:
    by_type = Counter(row["list_type"] for row in rows)
    assert set(by_type) == {each.code for each in edition.list_types}
    assert sum(shape.weight for shape in SHAPES) == 1_000
    own_right = [row for row in rows if row["list_type"] == "TQNMGGZ" and row["subject_kind"] == "natural_person"]
    assert 0.002 < len(own_right) / COUNT < 0.009
    standing = Counter(
        "not begun"
        if max(row["served_date"], row["listed_on"]) > TODAY.isoformat()
        else "in force"
        if invented.in_force(row, TODAY)
        else "ended"
        for row in rows
    )
    assert 0.8 < standing["in force"] / COUNT < 0.95
    assert standing["ended"] > 0.05 * COUNT
    assert standing["not begun"] > 0.01 * COUNT
    assert any(row["related_persons"] for row in rows)
    assert any(count > 1 for count in Counter(row["id_number"] for row in rows).values())
    assert {row["id_number"][:2] for row in rows if row["id_kind"] == "uscc"} == {
        "91", "92", "93", "12", "52", "31", "N2", "A1"
    }  # fmt: skip


def test_kinds_of_decisions_are_those_of_the_catalogue(rows: list[dict[str, str]], edition: Edition) -> None:
    waiting = [each for each in edition.measures if each.trigger is Trigger.LISTING_AND_DECISION]
    for measure in waiting:
        found = {row["sanction_kind"] for row in rows if row["list_type"] in measure.list_types}
        shapes = {s.kind for shape in SHAPES if shape.code in measure.list_types for s in shape.sanctions}
        assert measure.decision_kinds <= shapes, measure.code
        assert "" not in found, measure.code


def test_a_tender_has_the_stated_numbers(rows: list[dict[str, str]], edition: Edition) -> None:
    catalogues = CatalogueSet.of([edition])
    types = {each.code: each for each in edition.list_types}
    bidders = invented.tender(5, rows, today=TODAY)
    assert len({each["identifier"] for each in bidders}) == 1_000
    listed = [row for row in rows if f"uscc:{row['id_number']}" in {each["identifier"] for each in bidders}]
    assert len(listed) == 12
    assert all(invented.in_force(row, TODAY) for row in listed)
    for matter in ("procurement.supplier", "tendering.bidder"):
        bearing = [
            row
            for row in listed
            if any(
                SubjectKind(row["subject_kind"]) in measure.objects
                for _, measure in catalogues.entries(types[row["list_type"]], matter, TODAY)
            )
        ]
        assert len(bearing) == 8
    assert all(parse(each["identifier"]).warnings == () for each in bidders)


def test_a_tender_says_when_the_lists_are_too_short(rows: list[dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="do not hold"):
        invented.tender(5, rows[:5], today=TODAY)


def test_numbers_can_be_had_one_by_one() -> None:
    rng = random.Random(1)
    assert make("uscc", invented.uscc(rng)).warnings == ()
    assert make("citizen", invented.citizen_number(rng, TODAY)).warnings == ()
    assert make("passport", invented.passport_number(rng)).warnings == ()


def test_a_file_is_written_as_it_is_read(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    path = tmp_path / "list.csv"
    assert invented.write_csv(path, iter(rows[:20])) == 20
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == rows[:20]
