"""The short cuts of the local path say what the long way says, on any input, or leave it to the long way."""

import functools
import pickle
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lanjie
from lanjie._batch import _hits
from lanjie._core import Core
from lanjie._spool import DIGEST_BYTES
from lanjie.decision import Decision, Outcome, Source
from lanjie_matcher.filters import BloomFilter, ScreenedFilter, SortedFilter
from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.identifiers import (
    PLAIN_LENGTH,
    USCC_ALPHABET,
    IdentifierError,
    _parse_any,
    org_code_check,
    parse,
    sound_organisation,
    sound_organisations,
    uscc_check,
)
from lanjie_matcher.shards import split
from tests.support.sdk import ASK, Counter
from tests.support.subjects import citizen, org_code, uscc

KEY = ViewKey(bytes(range(32)), 40)
TRAPS = "_+- \t\n!*Xx:0OoIiSsVvZz\u00e9\uff10\u0660\ud800\U00020000"
"""What `int` would take, or an encoding: underscores, signs, blanks, digits of other scripts, letters left out."""


@st.composite
def sound_numbers(draw):
    head = draw(st.text(USCC_ALPHABET, min_size=8, max_size=8))
    code = draw(st.text(USCC_ALPHABET, min_size=8, max_size=8))
    body = head + code + org_code_check(code)
    return body + uscc_check(body)


@st.composite
def near_plain(draw):
    """A sound USCC in its plain form, and mostly something wrong with it in a place or two."""
    text = list("uscc:" + draw(sound_numbers()))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(text) - 1))
        text[place] = draw(st.sampled_from(TRAPS + USCC_ALPHABET + "abcu"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1]))):
        place = draw(st.integers(0, len(text)))
        text[place:place] = draw(st.sampled_from(TRAPS))
    return "".join(text)


Texts = st.one_of(near_plain(), st.text(max_size=30))


def plainly(text):
    """What the rules themselves say of a text: its organisation code, where they have no doubt."""
    try:
        read = _parse_any(text)
    except IdentifierError:
        return ""
    return read.key.removeprefix("org:") if read.reveal() == text and text[:5] == "uscc:" and not read.warnings else ""


@settings(max_examples=150, deadline=None)
@given(Texts)
@example("uscc:" + "0" * 18)
@example("uscc:________________00")
def test_a_short_cut_of_parse_takes_just_what_bears_no_doubt(text):
    assert sound_organisation(text) == plainly(text)
    try:
        wanted = _parse_any(text)
    except IdentifierError:
        with pytest.raises(IdentifierError):
            parse(text)
    else:
        read = parse(text)
        assert (read, type(read), hash(read), repr(read)) == (wanted, type(wanted), hash(wanted), repr(wanted))
        assert pickle.loads(pickle.dumps(read)) == read
        with pytest.raises(AttributeError):
            setattr(read, "key", "org:other")  # noqa: B010


@pytest.mark.parametrize("mutations", [5_000, pytest.param(200_000, marks=pytest.mark.long)])
def test_the_short_cut_agrees_on_mutations(mutations):
    draw = random.Random(mutations)
    for _ in range(mutations):
        text = list(uscc(draw.randrange(10**6)))
        for _ in range(draw.randrange(3)):
            text[draw.randrange(5, len(text))] = draw.choice(USCC_ALPHABET + TRAPS)
        joined = "".join(text)
        assert sound_organisation(joined) == plainly(joined), joined


def columns():
    return pytest.importorskip("lanjie._columns", reason="NumPy is optional")


@settings(max_examples=40, deadline=None)
@given(st.lists(near_plain().filter(lambda text: len(text) == PLAIN_LENGTH), max_size=12))
def test_many_at_once_are_each_as_alone(texts):
    alone = [sound_organisation(text).encode() for text in texts]
    assert sound_organisations(texts) == alone
    assert columns().sound_organisations(texts) == alone
    assert KEY.digests(alone) == [KEY.digest(f"org:{code.decode()}") if code else b"" for code in alone]


@functools.cache
def filters() -> dict[str, Any]:
    draw = random.Random(7)
    values = sorted({draw.getrandbits(40) for _ in range(20_000)})
    exact, bloom = SortedFilter(split(values, 40), 40), BloomFilter(len(values))
    bloom.add_some(iter(values), len(values))
    return {"sorted": exact, "bloom": bloom, "screened": ScreenedFilter(bloom, exact)}


@pytest.mark.parametrize("name", ["sorted", "bloom", "screened"])
@pytest.mark.parametrize("count", [0, 1, 17, 5_000])
def test_hits_of_many_are_those_of_each(name, count):
    probed, draw = filters()[name], random.Random(count)
    members = [value for shard in filters()["sorted"]._shards for value in shard]
    asked = [draw.choice(members) if draw.random() < 0.3 else draw.getrandbits(40) for _ in range(count)]
    digests = b"".join((each << 24 | draw.getrandbits(24)).to_bytes(DIGEST_BYTES, "big") for each in asked)
    wanted = [place for place, each in enumerate(asked) if each in probed]
    assert _hits(probed, digests, 24) == wanted == columns().hits(probed, digests, 24)
    assert count < 17 or wanted


LISTED, FREE = [uscc(number) for number in range(40)], [uscc(number) for number in range(100, 700)]
ODD = [citizen(1), org_code(uscc(3)), org_code(uscc(900)), "uscc:nonsense", "", LISTED[1].lower(), FREE[1][:-1] + "?"]


@pytest.mark.parametrize("numpy", [True, False])
@pytest.mark.parametrize("bloom", ["bloom", "sorted"])
def test_a_batch_answers_as_each_question_alone(tmp_path, monkeypatch, numpy, bloom):
    monkeypatch.setattr("lanjie._batch.MANY", 0 if numpy else 10**9)
    monkeypatch.setattr("lanjie._batch.SLICE", 97)
    if numpy:
        columns()
    draw = random.Random(5)
    asked = [draw.choice([*FREE, *LISTED, *ODD]) for _ in range(900)] + [parse(FREE[0]), parse(LISTED[0])]
    counter = Counter(tmp_path, filter=bloom)
    try:
        for each in LISTED:
            counter.gateway.list_subject(each)
        counter.poll()
        counter.runtime.build_filter()
        many = counter.client.check_many(asked, **ASK)
        for text, answer in zip(asked, many, strict=True):
            try:
                alone = counter.client.check(text, **ASK)
            except ValueError:
                assert answer.reason is not None
                continue
            told = [
                (each.outcome, each.reason, each.source, each.warnings, each.masked_identifier, each.revision)
                for each in (answer, alone)
            ]
            assert told[0] == told[1], text
        counter.poll()
        spool: Any = counter.runtime._spool
        passes = [answer for answer in many if answer.source is Source.LOCAL]
        names = [f"{spool.sdk_id[:12]}-{each.sequence}" for each in counter.gateway.local_passes]
        assert [each.decision_id for each in passes] == names[: len(passes)]
    finally:
        counter.client.close()


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "soft": {"seconds": 100},
    "stale": {"seconds": 1_000},
    "revision": {"at_least_revision": 50},
    "case": {"case_no": "1"},
    "region": {"handling_region": "320100"},
    "name": {"name": "示例"},
}


@pytest.mark.parametrize("matter", ["plain", "grave", "lenient", "case", "unknown"])
@pytest.mark.parametrize("way", WAYS)
def test_the_short_cut_of_a_check_answers_as_the_long_way(tmp_path, monkeypatch, matter, way):
    counter = Counter(
        tmp_path,
        matters=["plain", "grave", "lenient", "case"],
        high_consequence=["grave"],
        stale_pass=["lenient"],
        case_no_required=["case"],
    )
    asked: dict[str, Any] = {"matter": matter, "purpose": "x", **WAYS[way]}
    seconds = asked.pop("seconds", 0)
    quick = Core.quick
    taken: list[bool] = []

    def told(core, *args):
        answer = quick(core, *args)
        taken.append(answer is not None)
        return answer

    def answers():
        found = []
        questions: list[Any] = [FREE[0], LISTED[0], *ODD, FREE[0].upper(), parse(FREE[2])]
        for text in questions:
            try:
                answer = counter.client.check(text, **asked)
            except lanjie.LanjieError as error:
                found.append((type(error), str(error)))
            else:
                named = answer.decision_id.rpartition("-")[0] if answer.source is Source.LOCAL else ""
                fields = Decision.__dataclass_fields__.keys() - {"decision_id"}
                found.append((named, *(getattr(answer, name) for name in sorted(fields))))
        return found

    try:
        counter.gateway.list_subject(LISTED[0])
        counter.poll()
        counter.clock.advance(seconds)
        counter.gateway.reachable = seconds == 0
        monkeypatch.setattr(Core, "quick", lambda *_: None)
        wanted = answers()
        monkeypatch.setattr(Core, "quick", told)
        assert answers() == wanted
        known = matter in {"plain", "grave", "lenient"} or (matter, way) == ("case", "case")
        assert any(taken) is (known and way in {"plain", "case", "region", "name"})
    finally:
        counter.client.close()


def test_a_local_pass_is_a_decision_like_any_other(tmp_path):
    counter = Counter(tmp_path)
    try:
        counter.poll()
        fields = Decision.__dataclass_fields__
        counter.client.check(FREE[0], **ASK)
        first, second = counter.client.check(FREE[0], **ASK), counter.client.check(FREE[0], **ASK)
        assert type(first) is Decision
        assert FREE[0][5:] not in repr(first)
        revived = pickle.loads(pickle.dumps(first))
        made = Decision(**{name: getattr(first, name) for name in fields})
        assert first == revived == made
        assert hash(first) == hash(made)
        assert first != second
        assert FREE[0][5:].encode() not in pickle.dumps(second)
        assert (made.outcome, made.source, made.measures) == (Outcome.PASS, Source.LOCAL, ())
        for name in fields:
            with pytest.raises(AttributeError):
                setattr(second, name, None)
        with pytest.raises(AttributeError):
            del second.outcome
        assert not hasattr(second, "anything")
        assert not hasattr(second, "__dict__")
    finally:
        counter.client.close()
