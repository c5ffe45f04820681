"""Where an edition stands, on which day, and what a closing or a corrected edition does to the one before."""

import copy
import datetime
from typing import Any

import pytest

from lanjie_gateway.domain.catalogue_file import load
from lanjie_gateway.domain.edition_changes import Change, Turn, edition_changes
from lanjie_gateway.domain.edition_life import State, life_of
from lanjie_matcher.catalogues import CatalogueSet, Edition, Effect
from lanjie_matcher.civil_time import SHANGHAI, day_of
from lanjie_matcher.decide import Outcome, Reason, decide
from tests.support.core import ask, codes, day, edition, list_type, listing, matter, measure, question
from tests.unit.test_catalogue_file import MUNICIPAL, NATIONAL, text


def state(known: Edition, among: list[Edition], on: str) -> State:
    return life_of(known, CatalogueSet.of(among), day(on)).state


FIRST = edition(effective_from=day("2026-07-01"), effective_to=day("2026-12-31"), revision=1)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-06-30T23:59:59", State.NOT_YET_IN_FORCE),
        ("2026-07-01T00:00:00", State.IN_FORCE),
        ("2026-12-31T23:59:59", State.IN_FORCE),
        ("2027-01-01T00:00:00", State.ENDED),
    ],
)
def test_an_edition_acts_from_midnight_to_midnight(at: str, expected: State) -> None:
    instant = datetime.datetime.fromisoformat(at).replace(tzinfo=SHANGHAI)
    known = CatalogueSet.of([FIRST])
    life = life_of(FIRST, known, day_of(instant.astimezone(datetime.UTC)))
    assert (life.state, life.first_day, life.last_day) == (expected, day("2026-07-01"), day("2026-12-31"))
    # The state says what `decide` does at that instant.
    outcome = decide([listing()], known, question(at=instant)).outcome
    assert (outcome is Outcome.INTERCEPT) is (expected is State.IN_FORCE)


@pytest.mark.parametrize(
    ("at", "old", "new"),
    [
        ("2026-06-30T23:59:59", State.IN_FORCE, State.NOT_YET_IN_FORCE),
        ("2026-07-01T00:00:00", State.SUPERSEDED, State.IN_FORCE),
    ],
)
def test_a_successor_takes_over_at_midnight(at: str, old: State, new: State) -> None:
    earlier, later = edition(revision=1), edition(edition="2", effective_from=day("2026-07-01"), revision=2)
    known = CatalogueSet.of([later, earlier])
    on = day_of(datetime.datetime.fromisoformat(at).replace(tzinfo=SHANGHAI))
    life = life_of(earlier, known, on)
    assert (life.state, life_of(later, known, on).state) == (old, new)
    assert (life.last_day, life.superseded_by, life.superseded_from) == (day("2026-06-30"), "nat@2", day("2026-07-01"))


def test_an_unpublished_edition_is_not_in_force_whatever_its_effective_day() -> None:
    late = edition(effective_from=day("2026-01-01"), publication_date=day("2026-07-01"))
    assert state(late, [late], "2026-06-30") is State.NOT_YET_IN_FORCE
    assert state(late, [late], "2026-07-01") is State.IN_FORCE


def test_an_edition_published_after_its_end_never_acts() -> None:
    late = edition(effective_to=day("2026-06-30"), publication_date=day("2026-07-01"))
    life = life_of(late, CatalogueSet.of([late]), day("2026-07-01"))
    assert (life.state, life.first_day, life.last_day) == (State.NEVER_IN_FORCE, None, None)


def test_one_that_ended_before_the_next_began_was_not_superseded() -> None:
    gap = edition(edition="2", effective_from=day("2027-02-01"), revision=2)
    assert life_of(FIRST, CatalogueSet.of([FIRST, gap]), day("2027-03-01")).superseded_by == ""
    assert state(FIRST, [FIRST, gap], "2027-03-01") is State.ENDED
    following = edition(edition="2", effective_from=day("2027-01-01"), revision=2)
    assert state(FIRST, [FIRST, following], "2027-03-01") is State.SUPERSEDED


def test_a_mistake_that_is_not_in_force_yet_is_replaced() -> None:
    before = edition(measures=(measure("OLD"),), revision=1)
    mistake = edition(edition="2", effective_from=day("2026-07-01"), measures=(measure("WRONG"),), revision=2)
    again = edition(edition="2a", effective_from=day("2026-07-01"), measures=(measure("RIGHT"),), revision=3)
    last = edition(edition="2b", effective_from=day("2026-07-01"), measures=(measure("BEST"),), revision=4)
    known = CatalogueSet.of([before, mistake, again, last])
    for replaced in (mistake, again):
        life = life_of(replaced, known, day("2026-06-01"))
        assert (life.state, life.superseded_by) == (State.NEVER_IN_FORCE, "nat@2b")
    assert life_of(before, known, day("2026-06-01")).superseded_by == "nat@2b"
    assert codes(ask(listing(), known, at=datetime.datetime(2026, 6, 30, tzinfo=SHANGHAI))) == ["OLD"]
    assert codes(ask(listing(), known, at=datetime.datetime(2026, 7, 1, tzinfo=SHANGHAI))) == ["BEST"]
    # To the one that is published it is as if the mistake had never been made.
    changes = edition_changes([before, mistake], again)
    assert {(each.change, each.code) for each in changes.periods[0].matters[0].measures} == {
        (Change.GAINED, "RIGHT"),
        (Change.LOST, "WRONG"),
    }


def published(document: dict[str, Any], number: int, **head: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    changed["catalogue"] |= {"edition": f"2026-{number}"} | head
    return changed


def loaded(*documents: dict[str, Any]) -> tuple[list[Edition], list[str]]:
    """The editions as they are in a ledger, and what was worth a look about the last one."""
    made: list[Edition] = []
    warnings: list[str] = []
    for number, document in enumerate(documents, 1):
        known, warnings = load(text(document), "good.yaml", made)
        made.append(Edition(**{name: getattr(known, name) for name in known.__slots__} | {"revision": number}))
    return made, warnings


CLOSING = {"catalogue": NATIONAL["catalogue"] | {"edition": "closing", "effective_from": "2026-07-01"}}


def test_a_file_without_entries_closes_its_catalogue() -> None:
    made, warnings = loaded(NATIONAL, CLOSING)
    assert made[1].closing
    assert any("closes the catalogue cn: from 2026-07-01 on none of its 1 measures acts" in each for each in warnings)
    (gone,) = [each for each in warnings if "CATALOGUE_MISSING" in each]
    assert "procurement.service, procurement.supplier" in gone
    known = CatalogueSet.of(made)
    assert ask(listing(), known, at=datetime.datetime(2026, 6, 30, 23, tzinfo=SHANGHAI)).outcome is Outcome.INTERCEPT
    after = ask(listing(), known, at=datetime.datetime(2026, 7, 1, tzinfo=SHANGHAI))
    assert (after.outcome, after.reason) == (Outcome.UNDETERMINED, Reason.CATALOGUE_MISSING)
    assert state(made[0], made, "2026-07-01") is State.SUPERSEDED
    (period,) = edition_changes(made[:1], made[1]).periods
    assert (period.first_day, period.last_day) == (day("2026-07-01"), None)
    assert all(each.known_before and not each.known_after for each in period.matters)
    assert [each.change for each in period.list_types] == [Change.LOST]


def test_a_closed_catalogue_opens_again_with_its_next_edition() -> None:
    made, _ = loaded(NATIONAL, CLOSING, published(NATIONAL, 2, effective_from="2027-01-01"))
    (period,) = edition_changes(made[:2], made[2]).periods
    assert all(each.known_after and not each.known_before for each in period.matters)


def test_a_file_that_keeps_its_matters_says_that_they_pass() -> None:
    document = published(NATIONAL, 2) | {"measures": []}
    made, warnings = loaded(NATIONAL, document)
    assert not made[1].closing
    assert any("no measures: its matters pass" in each for each in warnings)
    assert any("N-1" in each for each in warnings)


def test_the_order_of_editions_is_told() -> None:
    later = published(NATIONAL, 2, effective_from="2026-07-01")
    _, warnings = loaded(NATIONAL, later, published(NATIONAL, 3, effective_from="2026-07-01"))
    assert any("replaces cn@2026-2, which begins on the same day" in each for each in warnings)
    # A correction that begins earlier than the mistake does not undo it.
    _, warnings = loaded(NATIONAL, later, published(NATIONAL, 3, effective_from="2026-06-01"))
    assert any("cn@2026-2 is published, begins on 2026-07-01 and ends this edition" in each for each in warnings)
    _, warnings = loaded(NATIONAL, published(NATIONAL, 2, effective_from="2026-01-01", effective_to="2026-01-04"))
    assert any("never acts" in each for each in warnings)


def test_publication_and_filing_are_kept() -> None:
    made, _ = loaded(NATIONAL, MUNICIPAL)
    assert [each.approver for each in made] == ["某会议", "市会议"]
    assert [(each.filing_number, each.filing_date) for each in made] == [
        (None, None),
        ("备〔2026〕1号", datetime.date(2026, 2, 20)),
    ]


def changed(**changes: Any) -> Any:
    """What a new form of the one measure is said to change."""
    old, new = edition(revision=1), edition(edition="2", measures=(measure(**changes),))
    (period,) = edition_changes([old], new).periods
    (one,) = period.matters[0].measures
    return one


@pytest.mark.parametrize(
    ("change", "turns"),
    [
        ({"effect": Effect.RESTRICT}, (Turn.WEAKENED,)),
        ({"objects": frozenset({"enterprise"})}, (Turn.NARROWED,)),
        ({"objects": frozenset({"enterprise", "natural_person"})}, (Turn.WIDENED, Turn.NARROWED)),
        ({"roles": frozenset({"applicant", "parent"})}, (Turn.WIDENED,)),
        ({"implementers": frozenset({"buyer"})}, (Turn.NARROWED,)),
        ({"term_months": 12}, (Turn.NARROWED,)),
        ({"title": "reworded"}, ()),
    ],
)
def test_which_way_a_measure_changes(change: dict[str, Any], turns: tuple[Turn, ...]) -> None:
    one = changed(**change)
    assert (one.change, one.turns) == (Change.CHANGED, turns)
    assert [each.field for each in one.fields] == list(change)


def test_a_measure_for_one_more_list_type_is_widened_and_its_matter_grows() -> None:
    types = (list_type(), list_type("TAX"))
    old = edition(list_types=types, revision=1)
    new = edition(edition="2", list_types=types, measures=(measure(list_types=frozenset({"WAGE", "TAX"})),))
    (change,) = edition_changes([old], new).periods[0].matters
    assert change.measures[0].turns == (Turn.WIDENED,)
    assert [(each.list_type, len(each.kinds)) for each in change.grows] == [("TAX", 5)]
    assert change.list_types == ("TAX", "WAGE")


def test_an_edition_ends_without_bringing_the_one_before_back() -> None:
    old = edition(measures=(measure("OLD"),), revision=1)
    new = edition(
        edition="2", effective_from=day("2026-07-01"), effective_to=day("2026-07-31"), matters=(matter(), matter("new"))
    )
    changes = edition_changes([old], new)
    assert changes.new_matters == ("new",)
    first, second = changes.periods
    assert (first.first_day, first.last_day) == (day("2026-07-01"), day("2026-07-31"))
    assert (second.first_day, second.last_day) == (day("2026-08-01"), None)
    assert [(each.code, each.known_after) for each in second.matters] == [("procurement.supplier", False)]


def test_the_last_day_of_the_calendar_has_none_after_it() -> None:
    forever = edition(effective_to=datetime.date.max)
    (period,) = edition_changes([], forever).periods
    assert period.last_day is None
