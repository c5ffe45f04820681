"""What is remembered between questions is what would be found without: catalogues, admissions, records, messages.

A service that has answered for long is asked beside one that was made this moment, over the midnights on which editions
and grants begin and end, over publications, and over every change of a grant.
"""

import asyncio
import datetime
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie.v1 import screening_pb2 as pb
from lanjie_gateway.adapters.index import TableIndex
from lanjie_gateway.adapters.segments import SegmentWriter, read_records
from lanjie_gateway.api.decisions import Messages
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import GatewayError
from lanjie_gateway.domain.grants import Grant, GrantSet, Mode
from lanjie_gateway.domain.packed import PackedListing, join, pack
from lanjie_gateway.domain.records import Leaves, digest, leaf
from lanjie_gateway.services.access import GrantBook
from lanjie_gateway.services.screening import Answer, Inquiry, Party, ScreeningService
from lanjie_matcher.catalogues import CatalogueSet, Edition, Effect, Level
from lanjie_matcher.civil_time import SHANGHAI
from lanjie_matcher.decide import UnknownMatterError
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import IdentifierError, parse
from lanjie_matcher.subjects import SubjectKind
from tests.support.catalogues import edition, list_type, matter, measure
from tests.support.core import listing
from tests.support.decisions import decision
from tests.support.gateway import MovableClock
from tests.support.subjects import citizen, uscc

KEY = IndexKey(bytes(range(32)))
FIRST = datetime.date(2026, 3, 1)
DAYS = st.integers(0, 4).map(lambda days: FIRST + datetime.timedelta(days))
MATTERS = ("procurement", "procurement.supplier", "never.defined")
CODES = ("TAX", "WAGE", "OLD")


numbers = itertools.count(1)


@st.composite
def editions(draw: st.DrawFn) -> Edition:
    """Draw an edition of one of two catalogues, which begins and may end within some days."""
    level = draw(st.sampled_from([Level.NATIONAL, Level.PROVINCIAL]))
    begins = draw(DAYS)
    types = draw(st.lists(st.sampled_from(CODES[:2]), min_size=1, max_size=2, unique=True))
    named = draw(st.lists(st.sampled_from(MATTERS[:2]), max_size=2, unique=True))
    effects = draw(st.lists(st.sampled_from(list(Effect)), max_size=3))
    return edition(
        f"of-{level.name}",
        edition=str(next(numbers)),
        level=level,
        region="000000" if level is Level.NATIONAL else "320000",
        revision=next(numbers),
        publication_date=FIRST,
        effective_from=begins,
        effective_to=draw(st.none() | st.just(begins + datetime.timedelta(1))),
        list_types=[list_type(each, aliases=("OLD",) if each == "WAGE" else ()) for each in types],
        matters=[
            matter(each, broader="procurement" if each != "procurement" and draw(st.booleans()) else None)
            for each in named
        ],
        measures=[
            measure(
                f"M{place}",
                effect=effect,
                list_types=frozenset(draw(st.lists(st.sampled_from(CODES), min_size=1, max_size=2))),
                matters=frozenset({draw(st.sampled_from(MATTERS[:2]))}),
                objects=frozenset({draw(st.sampled_from([SubjectKind.ORGANISATION, SubjectKind.NATURAL_PERSON]))}),
                repeats=draw(st.sampled_from([None, "M0"])),
                officer_verifies=tuple(draw(st.lists(st.sampled_from(["this", "that"]), max_size=1))),
            )
            for place, effect in enumerate(effects)
        ],
    )


@settings(max_examples=20)
@given(st.lists(editions(), max_size=4), st.lists(DAYS, min_size=1, max_size=4))
def test_a_set_of_catalogues_says_the_same_again(published: list[Edition], days: list[datetime.date]) -> None:
    known = CatalogueSet.of(published)
    for day, again in itertools.product(days, range(2)):
        assert again in (0, 1)
        for code in MATTERS:
            assert known.matter(code, day) == CatalogueSet.of(published).matter(code, day)
            assert known.lineage(code, day) == CatalogueSet.of(published).lineage(code, day)
            for kind in (list_type(each, aliases=("OLD",) if each == "WAGE" else ()) for each in CODES):
                assert known.entries(kind, code, day) == CatalogueSet.of(published).entries(kind, code, day)
        for code in CODES:
            assert known.list_type(code, day) == CatalogueSet.of(published).list_type(code, day)
        for code, level in itertools.product(("M0", "M1"), Level):
            made = CatalogueSet.of(published)
            assert known.defines(code, level, "320000", day) == made.defines(code, level, "320000", day)


TEXTS = st.text(st.sampled_from('ab"\\\n\x00é重庆🀄'), max_size=4)
VALUES = st.one_of(
    *(st.none(), TEXTS, st.booleans(), st.integers(-1, 1 << 60)),
    *(st.lists(TEXTS, max_size=2), st.lists(st.lists(TEXTS, max_size=2), max_size=2)),
)
FIELDS = st.dictionaries(st.sampled_from("abcdefgh"), VALUES)


@given(FIELDS, FIELDS)
def test_leaves_with_fields_in_common_are_leaves(common: dict[str, Any], own: dict[str, Any]) -> None:
    common = {f"c{name}" if place % 2 else f"{name}c": value for place, (name, value) in enumerate(common.items())}
    leaves = Leaves(common, "abcdefgh")
    for fields in (own, {}, own):
        assert leaves.leaf(fields) == leaf({**common, **fields})


class _Beside:
    """A desk where one service goes on and another begins with every question."""

    def __init__(self, directory: Path) -> None:
        self.index = TableIndex()
        self.grants = GrantBook()
        self.clock = MovableClock(datetime.datetime(2026, 3, 1, 23, 59, tzinfo=SHANGHAI))
        self.published: list[Edition] = []
        # The disk is another test's: it would be most of the time here.
        self.records = SegmentWriter(directory)
        self.records._sync = lambda: None  # type: ignore[method-assign]
        self.segment = directory / f"{self.records.name}.segment"
        self.old = self.service()
        self.messages = Messages("a channel")
        self.callers = {
            department: Principal(department=department, person="p", roles=frozenset({Role.INQUIRER}), region="320100")
            for department in ("housing", "finance")
        }

    def service(self) -> ScreeningService:
        return ScreeningService(
            index=self.index,
            key=KEY,
            records=self.records,
            clock=self.clock,
            current=lambda: True,
            ledger=lambda: ("ab" * 16, 1),
            grants=self.grants.resolve,
        )

    def commit(self, subject: str, codes: list[str]) -> None:
        revision = self.index.revision + 1
        packed = [
            pack(PackedListing(listing(f"L-{code}", list_type=code, recorded_on=FIRST), (), None)) for code in codes
        ]
        self.index.stage(revision, [(KEY.token(parse(subject).key), revision, join(packed))])
        self.index.advance(revision, 0.0)

    def publish(self, new: Edition) -> None:
        self.published.append(new)
        self.index.stage_catalogues(CatalogueSet.of(self.published))
        self.index.advance(self.index.revision + 1, 0.0)

    async def ask(self, service: ScreeningService, department: str, subjects: list[str], inquiry: Inquiry) -> Any:
        """Return what is told and recorded: all of it but the names that no two answers share."""
        before = len(read_records(self.segment, 0)[0])
        asker = self.grants.resolve(self.callers[department])
        parties = [Party(identifier=each, name="张三") for each in subjects]
        answers: list[Any]
        try:
            if len(parties) == 1:
                answers = [await service.check(asker, parties[0], inquiry, shape=self.shaped)]
            else:
                answers, _ = await service.check_batch(
                    asker, parties, inquiry, at_least_revision=0, pinned=0, shape=self.shaped
                )
        except GatewayError as error:
            answers = [(error.reason, str(error), error.metadata)]
        except (IdentifierError, UnknownMatterError) as error:
            answers = [type(error)]
        new = [json.loads(each) for each in read_records(self.segment, 0)[0][before:]]
        return answers, [{name: value for name, value in each.items() if name not in ("id", "salt")} for each in new]

    def shaped(self, answer: Answer) -> bytes:
        """Compare the bytes of an answer with its message and its record; return them without its own names."""
        told = pb.CheckResponse.FromString(self.messages.entry(answer)).decision
        assert told == decision(answer, "a channel")
        written = {json.loads(each)["id"]: digest(each) for each in read_records(self.segment, 0)[0]}
        assert written[answer.decision_id] == answer.record_digest
        told.decision_id, told.record_digest = "", b""
        return told.SerializeToString(deterministic=True)


SUBJECTS = (uscc(1), uscc(2), citizen(1), "uscc:nonsense")
ACTS = st.one_of(
    st.tuples(st.just("publish"), editions()),
    st.tuples(st.just("commit"), st.sampled_from(SUBJECTS[:3]), st.lists(st.sampled_from(CODES), max_size=2)),
    st.tuples(st.just("later"), st.sampled_from([30, 60, 3_600, 86_400])),
    st.tuples(
        *(st.just("grant"), st.sampled_from(["housing", "finance"])),
        *(st.none() | st.lists(st.sampled_from(MATTERS), min_size=1, max_size=2), DAYS),
    ),
)
INQUIRIES = st.builds(
    Inquiry,
    matter=st.sampled_from(MATTERS),
    purpose=st.sampled_from(["review", "", f"of {citizen(1).partition(':')[2]}", "of 张三"]),
    case_no=st.sampled_from(["", "7", "x" * 65]),
    mode=st.sampled_from([Mode.EX_OFFICIO, Mode.EX_OFFICIO, Mode.SELF]),
    handling_region=st.sampled_from(["", "320500", "11"]),
)


def _granted(department: str, matters: list[str], until: datetime.date) -> Grant:
    return Grant(
        department=department,
        name=department,
        regions=frozenset({"320000"}),
        matters=frozenset(matters),
        modes=frozenset({Mode.EX_OFFICIO}),
        implementer_kinds=frozenset({"purchaser"}),
        valid_from=FIRST,
        valid_until=until,
        revision=1,
    )


@settings(max_examples=25)
@given(st.data())
def test_a_service_that_has_answered_for_long_answers_as_a_new_one(tmp_path_factory: Any, data: st.DataObject) -> None:
    asyncio.run(_side_by_side(tmp_path_factory.mktemp("desk"), data.draw))


async def _side_by_side(directory: Path, draw: Callable[[Any], Any]) -> None:
    desk = _Beside(directory)
    standing = {"housing": _granted("housing", ["procurement"], FIRST + datetime.timedelta(2))}
    desk.grants.take(GrantSet.made(standing.values(), 1))
    desk.publish(
        edition(measures=[measure(matters=frozenset(MATTERS[:2]))], matters=[matter(each) for each in MATTERS[:2]])
    )
    desk.commit(SUBJECTS[0], ["TAX"])
    # The same objects again and again, as the listener hands them on.
    inquiries = [Inquiry(matter=MATTERS[0], purpose="review"), *draw(st.lists(INQUIRIES, max_size=2))]
    # At least one midnight lies between two questions.
    for act in (("later", 30), *draw(st.lists(ACTS, max_size=6)), ("later", 86_400)):
        match act:
            case "publish", new:
                desk.publish(new)
            case "commit", subject, codes:
                desk.commit(subject, codes)
            case "later", seconds:
                desk.clock.at += datetime.timedelta(seconds=seconds)
            case "grant", department, matters, until:
                standing.pop(department, None)
                if matters is not None:
                    standing[department] = _granted(department, matters, until)
                desk.grants.take(GrantSet.made(standing.values(), 1))
        for inquiry, subjects in itertools.product(inquiries, ([SUBJECTS[0]], [SUBJECTS[2]], list(SUBJECTS))):
            told = await desk.ask(desk.old, "housing", subjects, inquiry)
            assert told == await desk.ask(desk.service(), "housing", subjects, inquiry)
        other = await desk.ask(desk.old, "finance", [SUBJECTS[1]], inquiries[0])
        assert other == await desk.ask(desk.service(), "finance", [SUBJECTS[1]], inquiries[0])
    await desk.records.close()
