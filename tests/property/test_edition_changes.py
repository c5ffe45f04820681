"""What an edition is said to change agrees with `decide`: nothing changes unsaid, in no matter and on no day."""

import dataclasses
import datetime
import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie_gateway.domain.bearing import law_of_day
from lanjie_gateway.domain.edition_changes import Change, Turn, edition_changes
from lanjie_matcher.catalogues import CatalogueSet, Effect, Level, Trigger
from lanjie_matcher.civil_time import start_of
from lanjie_matcher.decide import Question, UnknownMatterError, decide
from lanjie_matcher.listings import EndsWith
from lanjie_matcher.subjects import SubjectKind
from tests.support.core import JIANGSU, NANJING, NATION, SUZHOU, edition, list_type, listing, matter, measure

FIRST = datetime.date(2026, 6, 1)
DAYS = [FIRST + datetime.timedelta(days=number) for number in range(10)]
CODES = ["WAGE", "TAX", "OLDTAX"]
MATTERS = ["root", "root.a", "root.a.x", "other"]
LEVELS = {"nat": (Level.NATIONAL, NATION), "js": (Level.PROVINCIAL, JIANGSU), "sz": (Level.MUNICIPAL, SUZHOU)}

SEEDS = st.integers(0, 2**32 - 1)


class Maker:
    """Makes published editions, one to be published, and questions about a subject with some listings.

    Editions are copies of one another with a few things otherwise, so that most of what might change does not.
    """

    def __init__(self, seed):
        self._random = random.Random(seed)

    def one(self, *choices):
        return self._random.choice(choices)

    def some(self, choices, at_least=0):
        return frozenset(self._random.sample(choices, self._random.randint(at_least, len(choices))))

    def measure(self, code):
        one = self.one
        trigger = one(Trigger.LISTING, Trigger.LISTING, Trigger.LISTING_AND_DECISION)
        return measure(
            code,
            objects=self.some(list(SubjectKind), 1),
            list_types=self.some(CODES, 1),
            matters=self.some(MATTERS, 1),
            effect=one(*Effect),
            trigger=trigger,
            decision_kinds=frozenset() if trigger is Trigger.LISTING else self.some(["ban", "fine"], 1),
            term_months=one(None, None, 5, 60),
            officer_verifies=one((), ("look",)),
            implementers=one(frozenset(), frozenset(), frozenset({"buyer"})),
            roles=one(frozenset({"applicant"}), frozenset({"applicant", "parent"})),
            repeats=one(None, None, None, "M1"),
        )

    def list_type(self, code):
        one = self.one
        first, last = one(None, None, *DAYS), one(None, None, *DAYS)
        return list_type(
            code,
            ends_with=one(*EndsWith),
            source_max_age_days=one(None, 1),
            region=one(NATION, NATION, JIANGSU),
            level=one(Level.NATIONAL, Level.NATIONAL, Level.PROVINCIAL),
            effective_from=first,
            effective_to=last if last is None or first is None or first <= last else None,
            aliases=("OLDTAX",) if code == "TAX" and one(True, False) else (),
        )

    def matter(self, code):
        broader = code.rpartition(".")[0] or None
        return matter(code, broader=self.one(broader, broader, broader, None), high_consequence=self.one(True, False))

    def edition(self, id_, number):
        one = self.one
        level, region = LEVELS[id_]
        return edition(
            id_,
            edition=str(number),
            level=level,
            region=region,
            publication_date=DAYS[0],
            effective_from=one(*DAYS),
            effective_to=one(None, None, *DAYS),
            revision=number,
            list_types=tuple(self.list_type(code) for code in ("WAGE", "TAX") if one(True, True, id_ == "nat")),
            matters=tuple(self.matter(code) for code in MATTERS if one(True, id_ == "nat")),
            measures=tuple(self.measure(code) for code in ("M1", "M2", "M3") if one(True, True, False)),
        )

    def variant(self, of, number):
        """The same edition again, later published: one field of one entry otherwise, or whole parts."""
        other = self.edition(of.id, number)
        part, maker, fields = self.one(
            ("list_types", self.list_type, ("ends_with", "source_max_age_days", "region", "effective_to", "aliases")),
            ("matters", self.matter, ("broader", "high_consequence")),
            (
                "measures",
                self.measure,
                ("effect", "objects", "roles", "implementers", "term_months", "list_types", "repeats"),
            ),
        )
        changed = {name: getattr(other, name) for name in self.one((), (), (part,), ("matters", "measures"))}
        if not changed and getattr(of, part):
            first, *rest = getattr(of, part)
            field = self.one(*fields)
            changed = {part: (dataclasses.replace(first, **{field: getattr(maker(first.code), field)}), *rest)}
        days = self.one({}, {"effective_from": other.effective_from, "effective_to": other.effective_to})
        return dataclasses.replace(of, edition=other.edition, revision=number, **days, **changed)

    def world(self):
        """Return (published editions, the one to be published)."""
        made = [self.edition("nat", 1)]
        for number in range(2, 2 + self.one(1, 1, 2, 3)):
            known = self.one(None, *made, *made)
            made.append(
                self.edition(self.one("nat", "js", "sz"), number) if known is None else self.variant(known, number)
            )
        if self.one(*[False] * 9, True):
            made[-1] = dataclasses.replace(made[-1], list_types=(), matters=(), measures=())
        return made[:-1], made[-1]

    def listing(self, number):
        one = self.one
        day = one(*DAYS)
        return listing(
            f"L{number}",
            list_type=one(*CODES),
            subject_kind=one(*SubjectKind),
            recorded_on=DAYS[0],
            listed_on=one(DAYS[0], datetime.date(2026, 1, 1)),
            expires_on=one(None, day),
            publicity_until=one(None, day),
            sanction_kind=one("", "ban", "fine"),
            sanction_from=one(None, DAYS[0]),
            sanction_to=one(None, DAYS[-1]),
        )

    def question(self, day):
        one = self.one
        return Question(
            matter=one(*MATTERS),
            at=start_of(day) + datetime.timedelta(hours=one(0, 12)),
            handling_region=one(SUZHOU, SUZHOU, NANJING, "340100"),
            role=one("applicant", "applicant", "parent"),
            implementer_kinds=one(None, frozenset({"buyer"}), frozenset({"licenser"})),
            kind_hint=one(None, *SubjectKind),
        )


def answer(listings, known, question):
    """What `decide` says, without the names of the editions: the same text in a later edition is no other answer."""
    try:
        ruling = decide(listings, known, question)
    except UnknownMatterError:
        return None, frozenset()
    bare = [
        (dataclasses.replace(each.measure, matters=frozenset(), list_types=frozenset(), repeats=None), each.listings)
        for each in ruling.measures
    ]
    missing = [(each.listing.id, each.measure.code, each.fact) for each in ruling.missing]
    rest = dataclasses.replace(ruling, measures=(), missing=(), editions=())
    return (rest, bare, missing), frozenset(each.id for each in ruling.listings)


def on(changes, day):
    """The changes by matter on a day."""
    found = [each for each in changes.periods if each.first_day <= day and (each.last_day or day) >= day]
    assert len(found) <= 1
    return {each.code: each for period in found for each in period.matters}


def kinds_of(listed):
    # A record that says only "organisation" is of the kind that the number asked about tells, whichever that is.
    return set(SubjectKind) if listed.subject_kind is SubjectKind.ORGANISATION else {listed.subject_kind}


def check_that_nothing_changes_unsaid(seed):
    maker = Maker(seed)
    published, new = maker.world()
    changes = edition_changes(published, new)
    without, complete = CatalogueSet.of(published), CatalogueSet.of([*published, new])
    scopes = {day: law_of_day(without, day) for day in DAYS}
    for number in range(60):
        day = DAYS[number % len(DAYS)]
        asked = maker.question(day)
        subject = [maker.listing(number) for number in range(maker.one(1, 1, 2))]
        before, _ = answer(subject, without, asked)
        after, bears = answer(subject, complete, asked)
        named = on(changes, day).get(asked.matter)
        if before != after:
            assert named is not None or asked.matter in changes.new_matters
        # Whose answer changes is of a list type concerned, unless the matter itself is known on one side only.
        if before != after and named is not None and named.known_before == named.known_after:
            assert {each.list_type for each in subject} & set(named.list_types)
        # A listing that bears was in the scope before, or the scope is said to grow by it.
        scope = {(each.list_type, kind) for each in named.grows for kind in each.kinds} if named is not None else set()
        scope |= scopes[day].scope(asked.matter)
        for listed in subject:
            if listed.id in bears:
                assert any((listed.list_type, kind) in scope for kind in kinds_of(listed))


@given(SEEDS)
@settings(max_examples=120, deadline=None)
def test_an_answer_changes_only_in_a_matter_that_is_named_for_its_day(seed):
    check_that_nothing_changes_unsaid(seed)


@pytest.mark.long
@given(SEEDS)
@settings(max_examples=5_000, deadline=None)
def test_an_answer_changes_only_in_a_matter_that_is_named_in_many_worlds(seed):
    check_that_nothing_changes_unsaid(seed)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_days_on_which_nothing_changes_are_in_no_period_and_no_day_is_in_two(seed):
    published, new = Maker(seed).world()
    periods = edition_changes(published, new).periods
    assert all(each.matters or each.list_types for each in periods)
    assert all(each.last_day is None or each.first_day <= each.last_day for each in periods)
    for one, following in itertools.pairwise(periods):
        assert one.last_day is not None
        assert one.last_day < following.first_day
    assert all(each.first_day >= new.starts_on for each in periods)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_the_same_text_again_changes_nothing_while_the_edition_before_would_act(seed):
    published, _ = Maker(seed).world()
    before = published[0]
    again = dataclasses.replace(before, edition="again", revision=99, publication_date=DAYS[0])
    changes = edition_changes([before], again)
    assert (changes.periods, changes.new_matters) == ((), ())


def test_worlds_are_worth_comparing():
    counted: Counter[object] = Counter()
    for seed in range(200):
        published, new = Maker(seed).world()
        for period in edition_changes(published, new).periods:
            for each in period.matters:
                counted["known"] += each.known_after and not each.known_before
                counted["unknown"] += each.known_before and not each.known_after
                counted["grows"] += bool(each.grows)
                counted["otherwise"] += bool(each.read_otherwise)
                counted["settings"] += bool(each.settings)
                for one in each.measures:
                    counted[one.change] += 1
                    counted.update(one.turns)
    assert all(counted[each] > 10 for each in (*Change, *Turn, "known", "unknown", "grows", "otherwise", "settings"))
