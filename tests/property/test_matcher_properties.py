"""What holds for every identifier, set, listing and catalogue."""

import datetime
import random
import unicodedata
from array import array
from collections import Counter

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lanjie_matcher.catalogues import CatalogueSet, Effect, Level, Trigger
from lanjie_matcher.civil_time import day_of, last_day_after_months, start_of
from lanjie_matcher.decide import Outcome, Question, Reason, Ruling, decide
from lanjie_matcher.filters import BloomFilter, SortedFilter
from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.identifiers import (
    NORMALISATION,
    PERSON_KINDS,
    IdentifierError,
    IdentifierKind,
    citizen_check,
    make,
    normalise,
    org_code_check,
    parse,
    uscc_check,
)
from lanjie_matcher.listings import EndsWith, Standing, ended_by_date, standing
from lanjie_matcher.shards import (
    SHARDS,
    RefusedError,
    changed,
    decode_shard,
    decode_values,
    digests_of,
    encode_shard,
    encode_values,
    root_of,
    shard_digest,
    split,
)
from lanjie_matcher.subjects import SubjectKind
from lanjie_matcher.tracing import Trace
from lanjie_matcher.views import Manifest, Mark, accept_snapshot
from tests.support.core import (
    HEFEI,
    JIANGSU,
    NANJING,
    NATION,
    SUZHOU,
    edition,
    list_type,
    listing,
    matter,
    measure,
)
from tests.support.core import changed as replaced

# Identifiers

DIGITS = "0123456789"
USCC_LETTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
ALNUM = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def text_of(alphabet, least, most=None):
    return st.text(alphabet, min_size=least, max_size=least if most is None else most)


@st.composite
def citizens(draw):
    born = draw(st.dates(datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)))
    body = f"{draw(text_of(DIGITS, 6))}{born:%Y%m%d}{draw(text_of(DIGITS, 3))}"
    return body + draw(st.sampled_from([citizen_check(body), "0", "X"]))


NUMBERS = {
    IdentifierKind.USCC: st.one_of(
        text_of(USCC_LETTERS, 18), text_of(USCC_LETTERS, 17).map(lambda body: body + uscc_check(body))
    ),
    IdentifierKind.ORG_CODE: text_of(ALNUM, 8).map(lambda body: body + org_code_check(body)),
    IdentifierKind.REGISTRATION_NO: st.one_of(text_of(DIGITS, 13), text_of(DIGITS, 15)),
    IdentifierKind.TAX_NO: text_of(ALNUM, 15, 20),
    IdentifierKind.INSTITUTION_NO: text_of(ALNUM + "()事证第号", 4, 32),
    IdentifierKind.SOCIAL_ORG_NO: text_of(ALNUM + "()社证字号", 4, 32),
    IdentifierKind.CITIZEN: citizens(),
    IdentifierKind.PERMANENT_RESIDENT: st.one_of(
        text_of(DIGITS, 16).map(lambda middle: "9" + middle + citizen_check("9" + middle)),
        st.tuples(text_of(ALNUM[10:], 3), text_of(DIGITS, 12)).map("".join),
    ),
    IdentifierKind.PASSPORT: st.tuples(text_of(ALNUM[10:], 3), text_of(ALNUM, 5, 15)).map(":".join),
    IdentifierKind.HK_MACAO_PASS: st.tuples(
        st.sampled_from("HM"), st.sampled_from([8, 10]).flatmap(lambda size: text_of(DIGITS, size))
    ).map("".join),
    IdentifierKind.TAIWAN_PASS: st.one_of(text_of(DIGITS, 8), text_of(DIGITS, 10)),
    IdentifierKind.OFFICER_CARD: text_of(ALNUM + "军字第号", 4, 32),
}


@st.composite
def identifiers(draw, kinds=tuple(IdentifierKind)):
    kind = draw(st.sampled_from(kinds))
    return kind, draw(NUMBERS[kind])


def test_every_kind_is_generated():
    assert set(NUMBERS) == set(IdentifierKind)


@given(identifiers())
def test_parse_of_reveal_is_the_identity(pair):
    kind, number = pair
    once = make(kind, number)
    assert parse(once.reveal()) == once
    assert once.reveal() == f"{kind.value}:{number}"


def full_width(character):
    return chr(ord(character) + 0xFEE0) if "!" <= character <= "~" else character


@st.composite
def disguised(draw):
    kind, number = draw(identifiers())
    written = []
    for character in f"{kind.value}:{number}":
        shape = draw(st.sampled_from([str.lower, str.upper, full_width, lambda each: full_width(each.lower())]))
        written.append(shape(character))
        if len(written) > len(kind.value):
            written.append(draw(st.sampled_from(["", "", "", " ", "-", "\u3000", "\u2013", "\t", "\u200b"])))
    return kind, number, "".join(written)


@given(disguised())
def test_parse_does_not_mind_case_width_blanks_and_hyphens(case):
    kind, number, written = case
    assume(len(written) <= 128)
    assert parse(written) == make(kind, number)


@given(st.text(max_size=40))
@example("ſ")
@example("ŉ12")
def test_normalising_twice_changes_nothing_more(text):
    once = normalise(text)
    assert normalise(once) == once or not unicodedata.is_normalized("NFKC", once)


@given(st.sampled_from(tuple(IdentifierKind)), st.text(max_size=40))
def test_any_text_is_taken_or_refused_with_a_rule(kind, text):
    try:
        taken, rule = parse(f"{kind.value}:{text}"), ""
    except IdentifierError as error:
        taken, rule = None, error.rule
    assert bool(rule) is (taken is None)
    assert taken is None or taken.kind is kind


SAME = {IdentifierKind.USCC, IdentifierKind.ORG_CODE}


@given(identifiers())
def test_the_same_digits_under_another_kind_never_share_a_key(pair):
    kind, number = pair
    mine = make(kind, number)
    for other in IdentifierKind:
        if other is kind or {other, kind} == SAME:
            continue
        try:
            theirs = make(other, number)
        except IdentifierError:
            continue
        assert theirs.key != mine.key
        assert theirs.reveal() != mine.reveal()


@given(NUMBERS[IdentifierKind.USCC])
def test_company_and_organisation_code_share_one_key(number):
    whole = make("uscc", number)
    assert whole.key == f"org:{number[8:17]}"
    if number[16] in "0123456789X":
        assert make("org_code", number[8:17]).key == whole.key


@given(identifiers())
def test_no_number_is_shown(pair):
    kind, number = pair
    shown = make(kind, number)
    hidden = len(number) - (2 if kind in PERSON_KINDS else 8)
    assert repr(shown).count("*") == (hidden if hidden > 0 else len(number))
    assert f":{number}" not in f"{shown!r}{shown}"


# Fingerprints, filters, shards


@given(st.lists(identifiers(), min_size=1, max_size=30), st.binary(min_size=32, max_size=32), st.integers(24, 56))
@settings(max_examples=50)
def test_every_listed_identifier_hits_both_filters(pairs, key, bits):
    view_key = ViewKey(key, bits)
    listed = [make(kind, number) for kind, number in pairs]
    values = sorted({view_key.fingerprint(each.key) for each in listed})
    exact = SortedFilter(split(values, bits), bits)
    bloom = BloomFilter(len(values))
    source = iter(values)
    while bloom.add_some(source, 7):
        pass
    for each in listed:
        asked = view_key.fingerprint(parse(each.reveal()).key)
        assert asked in exact
        assert asked in bloom


@st.composite
def shards(draw):
    bits = draw(st.integers(24, 56))
    number = draw(st.integers(0, 255))
    remainders = draw(st.sets(st.integers(0, (1 << (bits - 8)) - 1), max_size=40))
    return bits, number, array("Q", sorted((number << (bits - 8)) + each for each in remainders))


@given(shards())
def test_shard_comes_back_as_it_went(shard):
    bits, number, values = shard
    assert decode_shard(number, len(values), encode_shard(values, bits), bits) == values


@given(shards(), st.data())
def test_changed_or_shortened_shard_is_refused_or_is_the_very_same_set_or_changes_the_root(shard, data):
    bits, number, values = shard
    sent = encode_shard(values, bits)
    if data.draw(st.booleans()):
        received = sent[: data.draw(st.integers(0, len(sent) - 1))]
    else:
        place = data.draw(st.integers(0, len(sent) - 1))
        received = sent[:place] + bytes([sent[place] ^ data.draw(st.integers(1, 255))]) + sent[place + 1 :]
    try:
        taken = decode_shard(number, len(values), received, bits)
    except RefusedError:
        return
    # Some bits of a zlib stream carry no data (its stated level): what unpacks to the same set is the same set.
    empty = [shard_digest(array("Q"), bits)] * 255
    changed_root = root_of([shard_digest(taken, bits), *empty]) != root_of([shard_digest(values, bits), *empty])
    assert changed_root is (taken != values)
    assert list(taken) == sorted(set(taken))
    assert all(value >> (bits - 8) == number for value in taken)


@given(shards())
def test_truncated_shard_is_always_refused(shard):
    bits, number, values = shard
    sent = encode_shard(values, bits)
    for size in range(0, len(sent), max(1, len(sent) // 20)):
        with pytest.raises(RefusedError):
            decode_shard(number, len(values), sent[:size], bits)


@given(st.integers(0, 255), st.integers(0, 50), st.binary(max_size=200), st.integers(0, 70))
def test_any_bytes_are_a_shard_or_refused(number, count, sent, bits):
    try:
        values = decode_shard(number, count, sent, bits)
    except RefusedError:
        return
    assert len(values) == count


@st.composite
def sets(draw, most=40):
    """Sorted, distinct values of some width, crowded around a few of them so that shards and gaps are shared."""
    bits = draw(st.integers(24, 56))
    last = (1 << bits) - 1
    near = draw(st.lists(st.integers(0, last), min_size=1, max_size=3))
    value = st.sampled_from([0, last, *near]).flatmap(lambda at: st.integers(max(0, at - 20), min(last, at + 20)))
    return bits, sorted(draw(st.sets(value, max_size=most)))


@given(sets())
def test_values_come_back_as_they_went(drawn):
    bits, values = drawn
    assert list(decode_values(len(values), encode_values(values, bits), bits)) == values
    assert list(decode_values(len(values), encode_values(array("Q", values), bits), bits)) == values


@given(st.integers(0, 50), st.binary(max_size=200), st.integers(16, 56))
def test_any_bytes_are_values_or_refused(count, sent, bits):
    try:
        values = decode_values(count, sent, bits)
    except RefusedError:
        return
    assert len(values) == count
    assert list(values) == sorted(set(values))
    assert not values or values[-1] >> bits == 0


@given(sets())
def test_a_set_is_its_shards(drawn):
    bits, values = drawn
    shards = split(values, bits)
    assert len(shards) == SHARDS
    assert [value for shard in shards for value in shard] == values
    assert all(value >> (bits - 8) == number for number, shard in enumerate(shards) for value in shard)


@given(sets(), st.data())
def test_changes_are_those_of_sets_told_once_or_twice_and_touch_no_other_shard(drawn, data):
    bits, values = drawn
    some = st.lists(st.sampled_from([*values, 0, 1, (1 << bits) - 1, 1 << (bits - 8)]), max_size=20)
    adds, removals = data.draw(some), data.draw(some)
    before = split(values, bits)
    after, numbers = changed(before, adds, removals, bits)
    assert {value for shard in after for value in shard} == (set(values) | set(adds)) - set(removals)
    assert all(list(shard) == sorted(set(shard)) for shard in after)
    assert [value for shard in before for value in shard] == values
    assert all((after[number] is before[number]) is (number not in numbers) for number in range(SHARDS))
    wanted = {*adds, *removals}
    assert numbers <= {value >> (bits - 8) for value in wanted}
    again, none = changed(after, set(adds) - set(removals), removals, bits)
    assert not none
    assert again == after


VIEW_KEY = bytes(range(32))
NEVER = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
FREE_MARK = Mark("companies", "ab" * 16)


def head_of(shards, bits, revision):
    return Manifest(
        view="companies",
        lineage="ab" * 16,
        epoch=1,
        generation=1,
        revision=revision,
        root=root_of(digests_of(shards, bits)),
        count=sum(map(len, shards)),
        bits=bits,
        key_id="view-1",
        key_check=ViewKey(VIEW_KEY, bits).key_check(),
        normalisation=NORMALISATION,
        canaries_hit=(),
        canaries_miss=(),
        issued_at=NEVER,
        expires_at=NEVER,
    )


@st.composite
def steps(draw):
    """A set, and what leads to the next one."""
    bits, values = draw(sets())
    some = st.sets(st.sampled_from([*values, 0, 5, (1 << bits) - 1]), max_size=8)
    adds, removals = sorted(draw(some)), sorted(draw(some))
    before = split(values, bits)
    after, _ = changed(before, adds, removals, bits)
    state = accept_snapshot(head_of(before, bits, 1), VIEW_KEY, before, FREE_MARK)
    return state, head_of(after, bits, 2), after, adds, removals


@given(steps())
@settings(max_examples=50)
def test_a_delta_leads_where_a_snapshot_of_its_result_would(step):
    state, head, after, adds, removals = step
    led = state.apply(head, state.manifest.root, adds, removals, state.manifest.mark)
    whole = accept_snapshot(head, VIEW_KEY, after, state.manifest.mark)
    mended = accept_snapshot(head, VIEW_KEY, state.shards, state.manifest.mark, adds=adds, removals=removals)
    assert led.shards == whole.shards == mended.shards
    assert led.digests == whole.digests == mended.digests
    assert led.manifest == whole.manifest == mended.manifest


@given(steps(), st.data())
@settings(max_examples=200)
def test_one_damaged_byte_of_a_delta_is_refused_or_changes_nothing(step, data):
    state, head, after, adds, removals = step
    bits = head.bits
    parts = [
        state.manifest.root,
        *(each for values in (adds, removals) for each in (bytes([len(values)]), encode_values(values, bits))),
    ]
    part = data.draw(st.integers(0, len(parts) - 1))
    place = data.draw(st.integers(0, len(parts[part]) - 1))
    damaged = bytearray(parts[part])
    damaged[place] ^= data.draw(st.integers(1, 255))
    parts[part] = bytes(damaged)
    base, add_count, add_planes, removal_count, removal_planes = parts
    before = list(state.shards)
    try:
        led = state.apply(
            head,
            base,
            decode_values(add_count[0], add_planes, bits),
            decode_values(removal_count[0], removal_planes, bits),
            state.manifest.mark,
        )
    except RefusedError:
        led = None
    assert led is None or led.shards == after
    assert list(state.shards) == before


# Days

DAYS = st.dates(datetime.date(2025, 1, 1), datetime.date(2028, 12, 31))


@given(DAYS, st.integers(0, 600))
def test_term_in_months_ends_on_the_same_number_or_on_the_last_of_the_month(start, months):
    last = last_day_after_months(start, months)
    assert (last.year * 12 + last.month) - (start.year * 12 + start.month) == months
    assert last.day == start.day or (last.day < start.day and (last + datetime.timedelta(days=1)).day == 1)


# decide. A world is made from a seed by a plain generator: drawn value by value nearly every world would be a pass.
# Days and instants crowd around one midnight, where the boundaries are.

LONG_AGO = datetime.date(2025, 1, 1)
TODAY = datetime.date(2026, 6, 1)
ONE_DAY = datetime.timedelta(days=1)
NEAR = [TODAY - ONE_DAY, TODAY, TODAY + ONE_DAY]
MIDNIGHT = start_of(TODAY)
INSTANTS = [
    MIDNIGHT - datetime.timedelta(microseconds=1),
    MIDNIGHT,
    MIDNIGHT + datetime.timedelta(hours=12),
    MIDNIGHT + ONE_DAY - datetime.timedelta(microseconds=1),
]
BEGINNINGS = [LONG_AGO, LONG_AGO, LONG_AGO, *NEAR]
KINDS = [
    SubjectKind.ORGANISATION,
    SubjectKind.ENTERPRISE,
    SubjectKind.OTHER_ORG,
    SubjectKind.INDIVIDUAL_BUSINESS,
    SubjectKind.NATURAL_PERSON,
]
OBJECTS = [
    {SubjectKind.ORGANISATION},
    {SubjectKind.ORGANISATION, SubjectKind.NATURAL_PERSON},
    {SubjectKind.ENTERPRISE},
    {SubjectKind.NATURAL_PERSON, SubjectKind.INDIVIDUAL_BUSINESS},
    set(SubjectKind),
]
TYPES = ["WAGE", "TAX", "LOCAL"]
MATTERS = ["root", "root.a", "root.a.x", "other"]
LEVELS = {
    "nat": (Level.NATIONAL, NATION),
    "js": (Level.PROVINCIAL, JIANGSU),
    "sz": (Level.MUNICIPAL, SUZHOU),
}


class Maker:
    """Makes a world: catalogues, the listings of one subject, and a question."""

    def __init__(self, seed):
        self._random = random.Random(seed)

    def one(self, *choices):
        return self._random.choice(choices)

    def rarely(self, *choices):
        return self.one(*choices) if self._random.random() < 0.12 else None

    def listing(self, id_):
        one, rarely = self.one, self.rarely
        return listing(
            id_,
            list_type=one(*TYPES, "WAGE", "WAGE", "TAX", "NOBODY"),
            subject_kind=one(*KINDS),
            recorded_on=LONG_AGO,
            served_date=rarely(*BEGINNINGS),
            listed_on=one(*BEGINNINGS),
            expires_on=rarely(*NEAR),
            publicity_until=rarely(*NEAR),
            retention_until=rarely(*NEAR),
            sanction_kind=one("", "ban", "ban", "fine"),
            sanction_from=one(None, LONG_AGO, LONG_AGO, *NEAR),
            sanction_to=one(None, datetime.date(2030, 1, 1), *NEAR),
            removed_at=rarely(*INSTANTS),
            repaired_at=rarely(*INSTANTS),
            revoked_at=rarely(*INSTANTS),
            reinstated_at=rarely(*INSTANTS),
            annulled=bool(rarely(True, False)),
            stays=rarely(((INSTANTS[0], None),), ((INSTANTS[1], INSTANTS[2]),)) or (),
            objection=one(True, False),
        )

    def measure(self, code):
        one, rarely = self.one, self.rarely
        trigger = one(*Trigger)
        return measure(
            code,
            objects=frozenset(one(*OBJECTS)),
            list_types=frozenset(one(TYPES, TYPES[:2], TYPES[1:], TYPES[:1])),
            matters=frozenset(one({"root"}, {"root.a"}, {"root", "root.a"}, set(MATTERS), {"root.a.x"})),
            effect=one(*Effect),
            trigger=trigger,
            decision_kinds=frozenset({"ban"}) if trigger is Trigger.LISTING_AND_DECISION else frozenset(),
            term_months=rarely(1, 17, 60),
            officer_verifies=one((), ("look",)),
            implementers=frozenset(one((), (), ("buyer",), ("licenser",))),
            roles=frozenset(one(("applicant",), ("applicant", "parent"))),
            repeats=rarely("nat0-0"),
        )

    def edition(self, id_, number):
        one = self.one
        level, region = LEVELS[id_]
        national = id_ == "nat"
        matters = [matter(code, broader=one(None, *[code.rpartition(".")[0] or None] * 3)) for code in MATTERS]
        list_types = [
            list_type("WAGE", ends_with=one(*EndsWith)),
            list_type("TAX", source_max_age_days=30),
            list_type("LOCAL", level=Level.MUNICIPAL, region=SUZHOU),
        ]
        return edition(
            id_,
            edition=str(number),
            level=level,
            region=region,
            publication_date=one(*BEGINNINGS) if number else LONG_AGO,
            effective_from=one(*BEGINNINGS) if number else LONG_AGO,
            effective_to=one(None, None, None, *NEAR) if number else None,
            revision=number,
            matters=tuple(matters) if national else (),
            list_types=tuple(list_types) if national else (),
            measures=tuple(self.measure(f"{id_}{number}-{place}") for place in range(one(2, 4, 6))),
        )

    def world(self):
        one, rarely = self.one, self.rarely
        # The first national edition is there from the beginning, so that questions reach the listings.
        names = ["nat", *(one("nat", "js", "js", "sz") for _ in range(one(0, 1, 2)))]
        known = [self.edition(id_, number) for number, id_ in enumerate(names)]
        subject = [self.listing(f"L{number}") for number in range(one(0, 1, 2, 3, 4, 5))]
        asked = Question(
            matter=one("root.a", "root.a", "root.a.x", *MATTERS),
            at=one(*INSTANTS),
            handling_region=one(SUZHOU, SUZHOU, NANJING, HEFEI, JIANGSU, "320505"),
            role=one(*["applicant"] * 5, "parent"),
            implementer_kinds=rarely(frozenset(), frozenset({"buyer"})),
            kind_hint=rarely(*KINDS),
        )
        return CatalogueSet.of(known), subject, asked


def worlds():
    return st.integers(0, 2**32 - 1).map(lambda seed: Maker(seed).world())


def test_worlds_are_worth_asking_about():
    counted: Counter[Outcome | Reason] = Counter()
    for seed in range(500):
        known, subject, asked = Maker(seed).world()
        ruling = decide(subject, known, asked)
        counted[ruling.reason or ruling.outcome] += 1
    assert counted[Outcome.PASS] < 350
    assert all(counted[each] > 5 for each in Outcome if each is not Outcome.UNDETERMINED)
    assert all(counted[each] > 5 for each in (Reason.FACTS_MISSING, Reason.CATALOGUE_MISSING))


def reach(ruling):
    """How far a ruling could go: the strongest effect that applies or would, were the missing fact known."""
    effects = [each.measure.effect for each in (*ruling.measures, *ruling.missing)]
    return max(effects, default=0)


def names(ruling):
    return {(each.edition.name, each.measure.code) for each in ruling.measures}


@given(worlds())
@settings(max_examples=500)
def test_no_measure_outside_the_published_catalogues_in_force(world):
    known, subject, asked = world
    ruling = decide(subject, known, asked)
    day = day_of(asked.at)
    by_id = {each.id: each for each in subject}
    for applied in ruling.measures:
        assert applied.edition in known.editions
        assert applied.measure in applied.edition.measures
        assert applied.edition.publication_date <= day
        assert applied.edition.effective_from <= day
        assert applied.edition.effective_to is None or day <= applied.edition.effective_to
        later = [each for each in known.editions if each.id == applied.edition.id and each.starts_on <= day]
        assert applied.edition is max(later, key=lambda each: (each.starts_on, each.revision))
        assert asked.role in applied.measure.roles
        for bearing in applied.listings:
            assert by_id[bearing.id] is bearing
            assert bearing.list_type in applied.measure.list_types
            kind = known.list_type(bearing.list_type, day)
            assert kind is not None
            assert standing(bearing, kind.ends_with, asked.at) is Standing.IN_FORCE


@given(worlds())
@settings(max_examples=300)
def test_ruling_is_of_one_piece(world):
    known, subject, asked = world
    ruling = decide(subject, known, asked)
    assert isinstance(ruling, Ruling)
    assert ruling.instruction
    assert (ruling.reason is None) is (ruling.outcome is not Outcome.UNDETERMINED)
    assert bool(ruling.missing) is (ruling.reason is Reason.FACTS_MISSING)
    if ruling.outcome is Outcome.PASS:
        assert ruling == decide([], known, asked)
    elif ruling.outcome is not Outcome.UNDETERMINED:
        strongest = max(each.measure.effect for each in ruling.measures)
        assert ruling.outcome.name == {1: "ADVISE", 2: "HEIGHTEN", 3: "RESTRICT", 4: "INTERCEPT"}[strongest]
    effects = [each.measure.effect for each in ruling.measures]
    assert effects == sorted(effects, reverse=True)
    bearing = {each.id for applied in ruling.measures for each in applied.listings}
    assert {each.id for each in ruling.listings} == bearing | {each.listing.id for each in ruling.missing}


END = [
    lambda each, when: replaced(each, removed_at=when, reinstated_at=None),
    lambda each, when: replaced(each, repaired_at=when, reinstated_at=None),
    lambda each, when: replaced(each, revoked_at=when, reinstated_at=None),
    lambda each, when: replaced(each, annulled=True),
    lambda each, when: replaced(each, stays=((when, None),)),
    lambda each, when: replaced(each, retention_until=when.date() - datetime.timedelta(days=1)),
    lambda each, when: None,
]


@given(worlds(), st.data())
@settings(max_examples=500)
def test_ending_a_listing_never_adds_a_measure_nor_strengthens_the_answer(world, data):
    known, subject, asked = world
    assume(subject)
    place = data.draw(st.integers(0, len(subject) - 1))
    ended = data.draw(st.sampled_from(END))(subject[place], asked.at)
    before = decide(subject, known, asked)
    after = decide([*subject[:place], *([ended] if ended else []), *subject[place + 1 :]], known, asked)
    assert names(after) <= names(before)
    # UNDETERMINED stands apart: what counts is how far an answer could go, whichever way the officer finds.
    assert reach(after) <= reach(before)
    assert subject[place].id not in {each.id for each in after.listings}
    if before.outcome is Outcome.PASS:
        assert after.outcome is Outcome.PASS
    if before.outcome is not Outcome.UNDETERMINED and after.outcome is Outcome.INTERCEPT:
        assert before.outcome is Outcome.INTERCEPT


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_order_of_listings_and_editions_does_not_matter(world, shuffler):
    known, subject, asked = world
    ruling = decide(subject, known, asked)
    moved, turned = list(subject), list(known.editions)
    shuffler.shuffle(moved)
    shuffler.shuffle(turned)
    again = decide(moved, CatalogueSet.of(turned), asked)
    assert (again.outcome, again.reason, again.warnings) == (ruling.outcome, ruling.reason, ruling.warnings)
    assert [each.measure.code for each in again.measures] == [each.measure.code for each in ruling.measures]


@given(worlds())
@settings(max_examples=200)
def test_objection_mark_changes_nothing_but_the_mark(world):
    known, subject, asked = world
    plain = decide([replaced(each, objection=False) for each in subject], known, asked)
    marked = decide([replaced(each, objection=True) for each in subject], known, asked)
    assert (plain.outcome, plain.instruction, names(plain)) == (marked.outcome, marked.instruction, names(marked))
    assert all(each.objection for each in marked.listings)


@given(worlds(), st.data())
@settings(max_examples=200)
def test_wrong_name_never_adds_a_measure(world, data):
    known, subject, asked = world
    wrong = data.draw(st.sets(st.sampled_from([each.id for each in subject] or ["none"])))
    plain = decide(subject, known, asked)
    doubted = decide(subject, known, replaced(asked, name_mismatches=frozenset(wrong)))
    assert names(doubted) <= names(plain)
    assert doubted.outcome in (plain.outcome, Outcome.UNDETERMINED)
    if doubted.reason is Reason.NAME_MISMATCH:
        assert (doubted.measures, doubted.listings, doubted.missing) == ((), (), ())


# The trace: one algorithm, so an explanation can tell nothing else than what decides


@given(worlds(), st.data())
@settings(max_examples=400)
def test_a_trace_changes_nothing_and_accounts_for_every_listing_and_measure(world, data):
    known, subject, asked = world
    wrong = data.draw(st.sets(st.sampled_from([each.id for each in subject] or ["none"])))
    asked = replaced(asked, name_mismatches=frozenset(wrong))
    trace = Trace()
    ruling = decide(subject, known, asked, trace)
    assert ruling == decide(subject, known, asked)
    if ruling.reason is Reason.CATALOGUE_MISSING:
        assert {each.step for each in trace.findings} <= {0}
        assert all(each.verdict == "edition_not_in_force" for each in trace.at(0))
        return
    assert any(each.verdict == "edition_in_force" for each in trace.at(0))
    assert [each.listing for each in trace.at(1)] == [each.id for each in subject]
    counted = {each.listing for each in trace.at(1) if each.verdict == Standing.IN_FORCE}
    looked_at = [each for step in (2, 3, 4) for each in trace.at(step)]
    assert {each.listing for each in looked_at} == counted
    places = [(each.listing, each.edition, each.measure) for each in looked_at]
    assert len(places) == len(set(places))
    applied = {(each.edition, each.measure) for each in looked_at if each.verdict == "applies"}
    if ruling.reason is not Reason.NAME_MISMATCH:
        assert applied == names(ruling)
        missing = {(each.listing, each.measure) for each in trace.at(5) if each.verdict == "may_be_stronger"}
        assert missing == {(each.listing.id, each.measure.code) for each in ruling.missing}
    assert bool(trace.at(6)) is (ruling.outcome is Outcome.PASS)


# What leaves the views by date

TODAY = datetime.date(2026, 6, 1)
DATES = ("expires_on", "publicity_until", "retention_until", "served_date", "listed_on")
EVENTS = ("removed_at", "repaired_at", "reinstated_at")
DAY = datetime.timedelta(1)


def about_today(chance):
    """A listing of which everything happens within a few days."""

    def instant():
        return start_of(TODAY) + datetime.timedelta(hours=chance.randint(-100, 100))

    days = {name: chance.choice([None, TODAY + chance.randint(-4, 2) * DAY]) for name in DATES}
    ends = {name: chance.choice([None, None, instant()]) for name in EVENTS}
    stays = [(instant(), chance.choice([None, instant()])) for _ in range(chance.choice([0, 0, 1]))]
    return listing(**days, **ends, stays=tuple(stays))


@pytest.mark.parametrize("seed", range(4))
def test_what_leaves_a_view_by_date_is_not_in_force_from_the_day_before_on(seed):
    chance = random.Random(seed)
    left = 0
    for _ in range(1_500):
        listed = about_today(chance)
        ends_with = frozenset(each for each in EndsWith if chance.random() < 0.4)
        if not ended_by_date(listed, ends_with, TODAY):
            continue
        left += 1
        first = start_of(TODAY - DAY)
        for at in (first, first + datetime.timedelta(hours=chance.randint(0, 200))):
            stands = {standing(listed, each, at) for each in ends_with or EndsWith}
            assert not stands & {Standing.IN_FORCE, Standing.STAYED, Standing.NOT_BEGUN}
        assert ended_by_date(listed, ends_with, TODAY + DAY)
        assert all(ended_by_date(listed, {each}, TODAY) for each in ends_with)
    assert left > 100


@pytest.mark.parametrize("ends_with", [{EndsWith.TERM}, {EndsWith.PUBLICITY}, {EndsWith.TERM, EndsWith.PUBLICITY}])
def test_what_ended_by_date_leaves_a_view_one_whole_day_later(ends_with):
    for days in range(-5, 5):
        last = TODAY + days * DAY
        listed = listing(expires_on=last, publicity_until=last)
        assert ended_by_date(listed, ends_with, TODAY) is (days < -1)
        assert not ended_by_date(listed, ends_with | {EndsWith.REMOVAL}, TODAY)
        assert not ended_by_date(listed, set(), TODAY)
        assert ended_by_date(listing(retention_until=last), ends_with, TODAY) is (days < -1)
