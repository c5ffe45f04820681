"""The client over a gateway in memory: when it answers itself, when it asks, and what it says when nobody answers."""

import asyncio
import datetime
import gc
import logging
import math
import os
import threading
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import lanjie
from lanjie import Outcome, Source, SyncState, UndeterminedReason, _handle
from lanjie._batch import RESTARTS
from lanjie._spool import Spool
from lanjie.testing import FakeGateway
from lanjie.v1 import sync_pb2
from lanjie_matcher.civil_time import SHANGHAI
from tests.support.sdk import ASK, Counter
from tests.support.subjects import citizen, org_code, uscc


@pytest.fixture
def counter(tmp_path):
    made = Counter(tmp_path)
    yield made
    made.client.close()


def test_a_company_that_is_not_in_the_set_passes_locally_and_leaves_a_record(counter):
    counter.poll()
    decision = counter.client.check(uscc(1), **ASK, case_no="2026-17", officer="0042")
    assert (decision.outcome, decision.source) == (Outcome.PASS, Source.LOCAL)
    assert (decision.revision, decision.epoch, decision.lineage) == (1, 1, counter.gateway.lineage)
    assert decision.decided_at == counter.clock.at
    assert counter.gateway.questions == []
    counter.poll()
    (record,) = counter.gateway.local_passes
    assert decision.decision_id.endswith(f"-{record.sequence}")
    assert (record.context.case_no, record.context.officer.officer_id) == ("2026-17", "0042")
    assert (record.unix_nanos, record.epoch, record.revision) == (counter.clock.nanos(), 1, 1)
    assert counter.runtime.status().unsent == 0


def test_a_hit_asks_the_gateway(counter):
    counter.gateway.list_subject(uscc(1))
    counter.poll()
    decision = counter.client.check(uscc(1), **ASK, name="示例公司", handling_region="320100")
    assert (decision.outcome, decision.source) == (Outcome.INTERCEPT, Source.GATEWAY)
    assert decision.measures[0].code == "FAKE-1"
    (asked,) = counter.gateway.questions
    assert (asked.identifier, asked.name, asked.handling_region) == (uscc(1), "示例公司", "320100")
    assert asked.at_least_revision == 2
    assert counter.client.check(org_code(uscc(1)), **ASK).outcome is Outcome.INTERCEPT


def test_a_person_is_always_asked(counter):
    counter.poll()
    assert counter.client.check(citizen(1), **ASK).source is Source.GATEWAY


@pytest.mark.parametrize(
    "different",
    [
        {"as_of": datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)},
        {"mode": lanjie.InquiryMode.AUTHORISED, "authorisation_id": "a1"},
    ],
)
def test_what_the_set_cannot_answer_is_asked(counter, different):
    counter.poll()
    assert counter.client.check(uscc(1), **ASK, **different).source is Source.GATEWAY


class SetBack(datetime.tzinfo):
    """A zone on the night on which its clocks are set back by an hour; not every machine has the files of zones."""

    def utcoffset(self, at):
        return datetime.timedelta(hours=8 if at.fold else 9)

    def dst(self, at):
        return self.utcoffset(at) - datetime.timedelta(hours=8)

    def tzname(self, at):
        return "here"


def test_the_hour_that_a_clock_shows_twice_is_two_instants(counter):
    first = datetime.datetime(1991, 9, 15, 1, 30, tzinfo=SetBack())
    told = [counter.client.check(uscc(1), as_of=at, **ASK).as_of for at in (first, first.replace(fold=1))]
    assert told[1] - told[0] == datetime.timedelta(hours=1)
    many = [counter.client.check_many([uscc(1)], as_of=at, **ASK)[0].as_of for at in (first, first.replace(fold=1))]
    assert many == told


def test_a_revision_not_reached_here_is_asked_and_one_not_reached_there_is_undetermined(counter):
    counter.poll()
    counter.gateway.revision = 5
    assert counter.client.check(uscc(1), **ASK, at_least_revision=5).source is Source.GATEWAY
    assert counter.client.check(uscc(1), **ASK, at_least_revision=6).reason is UndeterminedReason.UNAVAILABLE
    for none in (-1, 1 << 63):
        with pytest.raises(lanjie.InvalidArgument, match="no such revision"):
            counter.client.check(citizen(1), **ASK, at_least_revision=none)


def test_before_the_first_set_everything_is_asked(counter):
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY
    assert counter.client.sync_status().state is SyncState.STARTING


# Answers by the age of the set. L: a local pass; S, T: the same, flagged `set-soft`, `set-stale`; G: the gateway's; N:
# nobody's. First while the gateway can be reached, then while it cannot.

SECOND = datetime.timedelta(seconds=1)
MATTERS = ("plain", "grave", "lenient", "grave.lenient")
BY_AGE = {
    0: ("LL", "LL", "LL", "LL"),
    45: ("LL", "LL", "LL", "LL"),
    46: ("SS", "GN", "SS", "GN"),
    900: ("SS", "GN", "SS", "GN"),
    901: ("GN", "GN", "GT", "GN"),
    86_400: ("GN", "GN", "GT", "GN"),
    86_401: ("GN", "GN", "GN", "GN"),
    172_801: ("GN", "GN", "GN", "GN"),
}


def letter(decision):
    flags = {"set-soft": "S", "set-stale": "T"}
    if decision.source is Source.LOCAL:
        assert decision.outcome is Outcome.PASS
        (told,) = decision.warnings or ("",)
        return flags.get(told, "L")
    if decision.source is Source.GATEWAY:
        assert not decision.warnings
        return "G"
    assert decision.reason is UndeterminedReason.UNAVAILABLE
    return "N"


@pytest.fixture(params=["check", "check_many", "async check", "async check_many"])
def ways(request, tmp_path):
    """A counter, and one of the four ways to ask at it."""
    made = Counter(
        tmp_path, matters=MATTERS, high_consequence=["grave", "grave.lenient"], stale_pass=["lenient", "grave.lenient"]
    )
    many, later = request.param.endswith("many"), request.param.startswith("async")
    client: Any = made.gateway.async_client(**made.options) if later else made.client
    made.client = client

    def ask(identifier, matter):
        asked = [identifier] if many else identifier
        answer = (client.check_many if many else client.check)(asked, matter=matter, purpose="x")
        answer = asyncio.run(answer) if later else answer
        return answer[0] if many else answer

    yield made, ask
    made.client._handle.close(30.0)


def test_an_answer_is_as_good_as_its_set_is_young(ways):
    counter, ask = ways
    counter.gateway.list_subject(uscc(1))
    counter.poll()
    start = counter.clock.seconds
    for age, wanted in BY_AGE.items():
        counter.clock.advance(start + age - counter.clock.seconds)
        told = []
        for matter in MATTERS:
            letters = ""
            for counter.gateway.reachable in (True, False):
                letters += letter(ask(uscc(2), matter))
                # A hit and a person are never passed, at any age.
                elsewhere = "G" if counter.gateway.reachable else "N"
                assert letter(ask(uscc(1), matter)) == letter(ask(citizen(1), matter)) == elsewhere
            told.append(letters)
        assert tuple(told) == wanted, age
    counter.gateway.reachable = True
    counter.poll()
    assert letter(ask(uscc(2), "grave")) == "L"


def test_the_record_of_a_flagged_pass_says_how_old_its_set_was(ways):
    counter, ask = ways
    counter.poll()
    for seconds in (0, 100, 1_000):
        counter.clock.advance(seconds)
        counter.gateway.reachable = seconds < 1_000
        ask(uscc(2), "lenient")
    counter.gateway.reachable = True
    counter.poll()
    assert [(each.set_age_seconds, each.generation, each.revision) for each in counter.gateway.local_passes] == [
        (0, 1, 1),
        (100, 1, 1),
        (1_100, 1, 1),
    ]


def test_a_stale_pass_still_obeys_every_other_rule(tmp_path):
    counter = Counter(tmp_path, matters=["a"], stale_pass=["a"], case_no_required=["a"])
    counter.poll()
    counter.clock.advance(1_000)
    counter.gateway.reachable = False
    ask: dict[str, Any] = {"matter": "a", "purpose": "x", "case_no": "1"}
    assert letter(counter.client.check(uscc(1), **ask)) == "T"
    others: list[dict[str, Any]] = [
        {"at_least_revision": 2},
        {"case_no": ""},
        {"as_of": datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)},
        {"mode": lanjie.InquiryMode.AUTHORISED, "authorisation_id": "a1"},
    ]
    for different in others:
        assert letter(counter.client.check(uscc(1), **{**ask, **different})) == "N"
        if "mode" not in different:
            assert letter(counter.client.check_many([uscc(1)], **{**ask, **different})[0]) == "N"
    with pytest.raises(lanjie.InvalidArgument):
        counter.client.check_many([uscc(1)], **ask, mode=lanjie.InquiryMode.AUTHORISED)
    spool: Any = counter.runtime._spool
    spool._tail = None
    assert letter(counter.client.check(uscc(1), **ask)) == "N"
    counter.client.close()


def test_a_gateway_that_refuses_is_no_gateway_that_is_away(tmp_path):
    counter = Counter(tmp_path, stale_pass=[ASK["matter"]])
    counter.poll()
    counter.clock.advance(1_000)
    counter.gateway.failure = lanjie.PermissionDenied("no")
    with pytest.raises(lanjie.PermissionDenied):
        counter.client.check(uscc(1), **ASK)
    with pytest.raises(lanjie.PermissionDenied):
        counter.client.check_many([uscc(1)], **ASK)
    counter.client.close()


def test_nobody_answers_is_undetermined_and_the_same_for_hit_person_and_stale_miss(counter):
    counter.gateway.list_subject(uscc(1))
    counter.poll()
    counter.gateway.reachable = False
    hit = counter.client.check(uscc(1), **ASK)
    person = counter.client.check(citizen(1), **ASK)
    assert counter.client.check(uscc(2), **ASK).outcome is Outcome.PASS
    counter.clock.advance(901)
    assert not counter.poll()
    miss = counter.client.check(uscc(2), **ASK)
    for decision in (hit, person, miss, *counter.client.check_many([uscc(1), citizen(1), uscc(2)], **ASK)):
        assert decision.outcome is Outcome.UNDETERMINED
        assert decision.reason is UndeterminedReason.UNAVAILABLE
        assert decision.source is Source.NONE
        assert decision.resolve_by == decision.decided_at + datetime.timedelta(hours=24)
        assert (decision.revision, decision.decision_id, decision.warnings) == (0, "", ())
        assert decision.instruction == hit.instruction


def test_a_batch_asks_the_age_of_its_set_again_for_every_slice(counter, monkeypatch):
    counter.poll()
    monkeypatch.setattr("lanjie._batch.SLICE", 1)
    monotonic = counter.runtime.core._monotonic
    counter.runtime.core._monotonic = lambda: counter.clock.advance(25) or monotonic()
    many = counter.client.check_many([uscc(number) for number in range(1, 4)], **ASK)
    assert [letter(each) for each in many] == ["L", "S", "S"]


# The state of the set


def test_the_status_tells_the_set(counter):
    counter.gateway.list_subject(uscc(1))
    counter.poll()
    status = counter.client.sync_status()
    assert (status.state, status.revision, status.epoch, status.count) == (SyncState.FRESH, 2, 1, 2)
    assert (status.lineage, status.generation, status.leads) == (counter.gateway.lineage, 1, True)
    assert status.filter == "sorted"
    assert status.last_contact == status.last_applied == status.issued == counter.clock.at
    assert (status.age_seconds, status.unsent, status.last_error) == (0, 0, "")
    counter.clock.advance(10)
    counter.poll()
    counter.clock.advance(5)
    counter.poll()
    counter.gateway.feed_reachable = False
    counter.client.check(uscc(2), **ASK)
    later = counter.client.sync_status()
    assert (later.last_contact - status.last_contact).total_seconds() == 10
    assert later.last_applied == status.last_applied
    assert (later.age_seconds, later.unsent) == (5, 1)


def test_the_state_of_the_set_is_told_on_every_change_and_on_no_other_occasion(tmp_path):
    told: list[lanjie.SyncStatus] = []
    counter = Counter(tmp_path, on_sync_change=told.append)

    def after(seconds):
        counter.clock.advance(seconds)
        counter.poll()
        counter.poll()
        return counter.client.sync_status().state

    counter.gateway.reachable = False
    assert after(0) is SyncState.STARTING
    counter.gateway.reachable = True
    assert [after(60), after(10)] == [SyncState.FRESH] * 2
    counter.gateway.reachable = False
    assert [after(46), after(10)] == [SyncState.SOFT] * 2
    assert after(900) is SyncState.STALE
    assert after(86_400) is SyncState.EXPIRED
    # Erased, and no other word for it.
    assert after(86_400) is SyncState.EXPIRED
    assert counter.client.sync_status().age_seconds is None
    counter.gateway.reachable = True
    assert after(60) is SyncState.FRESH
    assert [each.state.name for each in told] == ["FRESH", "SOFT", "STALE", "EXPIRED", "FRESH"]
    assert (told[1].age_seconds or 0) > 45
    counter.client.close()


def test_a_listener_that_fails_does_no_harm_and_its_text_is_not_told(tmp_path, caplog):
    def listener(_):
        raise RuntimeError(uscc(1))

    counter = Counter(tmp_path, on_sync_change=listener)
    assert counter.poll()
    assert counter.client.check(uscc(1), **ASK).source is Source.LOCAL
    assert "RuntimeError" in caplog.text
    assert uscc(1) not in caplog.text
    counter.client.close()


def test_a_gateway_without_a_feed_means_asking(counter, monkeypatch):
    monkeypatch.setattr("lanjie.testing._FEED", "")
    counter.poll()
    assert counter.client.sync_status().state is SyncState.OFF
    counter.client.wait_ready(0)
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY


def test_a_client_without_a_set_of_its_own_says_off(tmp_path):
    counter = Counter(tmp_path, local=False)
    counter.poll()
    assert counter.client.sync_status().state is SyncState.OFF
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY
    assert list(tmp_path.iterdir()) == []
    counter.client.close()


def test_the_sorted_set_serves_until_the_bloom_filter_is_built(counter):
    counter.gateway.list_subject(uscc(7))
    counter.poll()
    assert counter.client.check(uscc(1), **ASK).source is Source.LOCAL
    counter.runtime.build_filter()
    assert counter.client.sync_status().filter == "bloom"
    assert counter.client.check(uscc(7), **ASK).source is Source.GATEWAY
    assert counter.client.check(uscc(1), **ASK).source is Source.LOCAL
    counter.poll()
    assert counter.client.sync_status().filter == "bloom"
    counter.gateway.list_subject(uscc(8))
    counter.poll()
    assert counter.client.check(uscc(8), **ASK).source is Source.GATEWAY


def test_the_sorted_filter_needs_no_other(tmp_path):
    counter = Counter(tmp_path, filter="sorted")
    counter.poll()
    counter.runtime.build_filter()
    assert counter.client.sync_status().filter == "sorted"
    assert not list(tmp_path.rglob("bloom-*"))
    counter.client.close()


def test_a_view_without_companies_is_asked(counter):
    scope = counter.gateway._scope

    def without():
        made = scope()
        made.covers[:] = ["person"]
        return made

    counter.gateway._scope = without
    counter.poll()
    assert counter.client.sync_status().state is SyncState.FRESH
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY


def test_a_set_signed_by_a_stranger_is_refused(counter):
    counter.client.sync_status()
    counter.gateway._signing = Ed25519PrivateKey.generate()
    assert not counter.poll()
    status = counter.client.sync_status()
    assert status.state is SyncState.STARTING
    assert "signature" in status.last_error
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY


def test_another_ledger_drops_the_set_and_gets_a_spool_of_its_own(counter, tmp_path):
    counter.poll()
    counter.client.check(uscc(1), **ASK)
    counter.gateway.lineage, counter.gateway.revision = "cd" * 16, 1
    counter.gateway.feed_reachable = False
    counter.runtime._driver.look_up_again()
    counter.poll()
    assert counter.runtime.local is None
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY
    counter.gateway.feed_reachable = True
    counter.clock.advance(60)
    counter.poll()
    counter.poll()
    assert counter.client.check(uscc(1), **ASK).lineage == "cd" * 16
    assert len(list(tmp_path.glob("*/spool/*/*.segment"))) == 2


def test_a_restored_ledger_is_noticed_by_an_answer_that_asks_for_too_much(counter):
    counter.gateway.list_subject(uscc(1))
    counter.gateway.revision = 50
    counter.poll()
    counter.gateway.epoch, counter.gateway.revision = 2, 10
    assert counter.client.check(uscc(1), **ASK).source is Source.NONE
    assert counter.poll()
    assert counter.client.sync_status().epoch == 2
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY


@pytest.mark.parametrize("many", [False, True])
def test_a_restored_ledger_is_noticed_by_an_answer_of_a_later_epoch(counter, many):
    counter.gateway.list_subject(uscc(1))
    counter.poll()
    assert counter.client.check(uscc(2), **ASK).source is Source.LOCAL
    # Restored, and since then so many commits that no revision asked for is too high.
    counter.gateway.epoch, counter.gateway.revision = 2, counter.gateway.revision + 10
    hit = counter.client.check_many([uscc(1)], **ASK)[0] if many else counter.client.check(uscc(1), **ASK)
    assert hit.epoch == 2
    assert counter.client.check(uscc(2), **ASK).source is Source.GATEWAY
    assert counter.poll()
    passed = counter.client.check(uscc(2), **ASK)
    assert (passed.source, passed.epoch) == (Source.LOCAL, 2)


def test_a_removed_subject_passes_at_once_and_a_new_listing_is_seen(counter):
    counter.gateway.list_subject(uscc(1))
    counter.poll()
    counter.gateway.remove_subject(uscc(1))
    assert counter.client.check(uscc(1), **ASK).outcome is Outcome.PASS
    counter.gateway.list_subject(uscc(3))
    counter.poll()
    assert counter.client.check(uscc(3), **ASK).outcome is Outcome.INTERCEPT


def test_an_unknown_matter_is_an_error_before_the_probe_and_before_any_question(counter):
    counter.poll()
    with pytest.raises(lanjie.UnknownMatter) as caught:
        counter.client.check(uscc(1), matter="no.such", purpose="x")
    assert caught.value.matter == "no.such"
    with pytest.raises(lanjie.UnknownMatter):
        counter.client.check_many([uscc(1)], matter="no.such", purpose="x")
    assert counter.gateway.questions == []
    counter.gateway.reachable = False
    counter.clock.advance(100)
    with pytest.raises(lanjie.UnknownMatter):
        counter.client.check(uscc(1), matter="no.such", purpose="x")


def test_an_unknown_matter_is_the_gateways_error_before_the_first_set(counter):
    with pytest.raises(lanjie.UnknownMatter):
        counter.client.check(uscc(1), matter="no.such", purpose="x")


def test_a_case_number_is_wanted_here_as_there(tmp_path):
    counter = Counter(tmp_path, matters=["a.b"], case_no_required=["a.b"])
    counter.poll()
    with pytest.raises(lanjie.InvalidArgument):
        counter.client.check(uscc(1), matter="a.b", purpose="x")
    assert counter.client.check(uscc(1), matter="a.b", purpose="x", case_no="1").source is Source.LOCAL
    counter.client.close()


def test_a_matter_not_in_force_today_is_asked(counter):
    scope = counter.gateway._scope

    def ended():
        made = scope()
        made.matters[0].rules[0].days.CopyFrom(sync_pb2.DateSpan(start_date="2026-01-01", end_date="2026-03-02"))
        return made

    counter.gateway._scope = ended
    counter.poll()
    counter.clock.at = datetime.datetime(2026, 3, 2, 15, 59, 59, tzinfo=datetime.UTC)
    assert counter.client.check(uscc(1), **ASK).source is Source.LOCAL
    counter.clock.at += datetime.timedelta(seconds=1)
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY


@pytest.mark.parametrize(
    ("flag", "age", "letters"),
    [("case_no_required", 0, "L!"), ("high_consequence", 100, "SG"), ("stale_pass", 1_000, "NT")],
)
@pytest.mark.parametrize("begins", [True, False])
def test_what_a_matter_wants_follows_the_edition_of_the_day(counter, flag, age, letters, begins):
    scope = counter.gateway._scope

    def two_editions():
        made = scope()
        first, second = made.matters[0].rules[0], made.matters[0].rules.add()
        first.days.end_date, second.days.start_date = "2026-03-02", "2026-03-03"
        setattr(second if begins else first, flag, True)
        return made

    counter.gateway._scope = two_editions
    counter.clock.at = datetime.datetime(2026, 3, 2, 15, 59, 0, tzinfo=datetime.UTC)
    counter.poll()
    counter.clock.seconds += age
    told = ""
    for second in (59, 60):
        counter.clock.at = datetime.datetime(2026, 3, 2, 15, 59, tzinfo=datetime.UTC) + second * SECOND
        wanted = flag == "case_no_required" and begins is (second == 60)
        counter.gateway._matters[ASK["matter"]] = wanted
        counter.gateway.reachable = flag != "stale_pass"
        try:
            told += letter(counter.client.check(uscc(1), **ASK))
        except lanjie.InvalidArgument:
            told += "!"
    assert told == (letters if begins else letters[::-1])


@pytest.mark.parametrize(
    ("text", "rule"),
    [("91320102MA1ABCDE0X", "kind-missing"), ("uscc:123", "length"), ("foo:1", "kind-unknown"), (None, "type")],
)
def test_what_is_no_identifier_is_a_named_error(counter, text, rule):
    with pytest.raises(lanjie.InvalidIdentifier) as caught:
        counter.client.check(text, **ASK)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"purpose": "  "}, "purpose"),
        ({"purpose": "x" * 201}, "purpose"),
        ({"matter": ""}, "matter"),
        ({"case_no": "x" * 65}, "case_no"),
        ({"handling_region": "32"}, "handling_region"),
        ({"officer": "x" * 65}, "officer"),
        ({"name": "x" * 257}, "name"),
        ({"name": "\ud83d"}, "name"),
        ({"case_no": "\ud83d"}, "case_no"),
        ({"matter": "\ud83d"}, "matter"),
        ({"as_of": datetime.datetime(2026, 1, 1)}, "as_of"),  # noqa: DTZ001
        ({"as_of": datetime.datetime(1, 1, 1, tzinfo=SHANGHAI)}, "as_of"),
        (
            {"as_of": datetime.datetime(9999, 12, 31, 23, tzinfo=datetime.timezone(datetime.timedelta(hours=-8)))},
            "as_of",
        ),
    ],
)
def test_what_the_gateway_would_refuse_is_refused_here(counter, given, field):
    counter.poll()
    with pytest.raises(lanjie.InvalidArgument) as caught:
        counter.client.check(uscc(1), **{**ASK, **given})
    assert caught.value.field == field


def test_one_name_that_cannot_be_sent_refuses_a_batch_before_anybody_is_passed(counter):
    counter.poll()
    with pytest.raises(lanjie.InvalidArgument):
        counter.client.check_many([uscc(1), citizen(1)], names=["", "\ud83d"], **ASK)
    assert counter.client.sync_status().unsent == 0


@pytest.mark.parametrize("given", [{"text": "\ud83d"}, {"officer": "\ud83d"}])
def test_half_a_character_is_no_report(counter, given):
    with pytest.raises(lanjie.InvalidArgument) as caught:
        counter.client.report("fake-1", **{"officer": "1", **given})
    assert caught.value.field in given


def test_half_a_character_is_nothing_that_may_be_told(counter):
    decision = counter.client.check(uscc(1), **ASK)
    for field, ask in (
        ("identifier", lambda: counter.client.watch("uscc:\ud83d", until=datetime.date(2026, 12, 31), **ASK)),
        ("identifier", lambda: counter.client.receipt([(decision, "uscc:\ud83d")])),
        ("decision_id", lambda: counter.client.report("\ud83d", officer="1")),
        ("watch_id", lambda: counter.client.end_watch("\ud83d")),
        ("case_no", lambda: counter.client.close_case("\ud83d", matter=ASK["matter"])),
    ):
        with pytest.raises(lanjie.InvalidArgument) as caught:
            ask()
        assert caught.value.field == field


def test_errors_of_the_caller_are_raised(counter):
    for error in (lanjie.PermissionDenied("no"), lanjie.AuthenticationFailed("no")):
        counter.gateway.failure = error
        with pytest.raises(type(error)):
            counter.client.check(citizen(1), **ASK)
        with pytest.raises(type(error)):
            counter.client.check_many([citizen(1)], **ASK)


def test_a_gateway_that_asks_to_wait_is_no_pass_and_no_error(counter):
    counter.poll()
    counter.gateway.list_subject(uscc(1))
    counter.poll()
    counter.gateway.failure = lanjie.RateLimited("slow")
    for decision in (
        *(counter.client.check(subject, **ASK) for subject in (citizen(1), uscc(1))),
        *counter.client.check_many([citizen(1), uscc(1)], **ASK),
    ):
        assert (decision.outcome, decision.reason) == (Outcome.UNDETERMINED, UndeterminedReason.UNAVAILABLE)
        assert "rate-limited" in decision.warnings


def test_without_a_trusted_key_everything_is_asked(tmp_path):
    counter = Counter(tmp_path, trust=None)
    assert counter.poll()
    counter.client.wait_ready(0)
    assert counter.client.sync_status().state is SyncState.OFF
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY
    assert list(tmp_path.iterdir()) == []
    counter.client.close()


def test_no_clear_identifier_shows(counter, caplog):
    caplog.set_level(logging.DEBUG)
    counter.gateway.list_subject(uscc(1))
    counter.poll()
    number = uscc(1).partition(":")[2]
    shown = [repr(counter.client.check(uscc(place), **ASK)) for place in (1, 2)]
    many = counter.client.check_many([uscc(1), uscc(2)], **ASK)
    shown += [repr(many), repr(many[0]), repr(counter.gateway.questions), str(counter.runtime.core._contexts)]
    counter.gateway.reachable = False
    counter.poll()
    shown += [repr(counter.client.check(uscc(1), **ASK)), repr(counter.client.sync_status()), caplog.text]
    with pytest.raises(lanjie.InvalidIdentifier) as caught:
        counter.client.check(uscc(1) + "9", **ASK)
    shown.append(str(caught.value))
    assert not [text for text in shown if number[4:-4] in text]


def test_a_full_spool_means_asking_never_an_unrecorded_pass(counter, monkeypatch):
    counter.poll()
    spool = counter.runtime.local.spool
    monkeypatch.setattr(spool, "_most", 1)
    counter.gateway.feed_reachable = False
    while counter.client.check(uscc(1), **ASK).source is Source.LOCAL:
        pass
    many = counter.client.check_many([uscc(2), uscc(3)], **ASK)
    assert {decision.source for decision in many} == {Source.GATEWAY}
    counter.gateway.feed_reachable = True
    counter.poll()
    assert len(counter.gateway.local_passes) > 1000


def test_without_a_place_on_disk_everything_is_asked(tmp_path):
    (tmp_path / "file").write_text("")
    counter = Counter(tmp_path / "file")
    counter.poll()
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY
    assert "Error" in counter.client.sync_status().last_error
    counter.client.close()


def test_without_a_place_for_the_spool_no_set_answers(counter, tmp_path):
    (tmp_path / counter.gateway.lineage).mkdir()
    (tmp_path / counter.gateway.lineage / "spool").write_text("")
    counter.poll()
    assert counter.client.sync_status().state is SyncState.FRESH
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY
    assert "spool" in counter.client.sync_status().last_error


def test_closing_uploads_and_what_cannot_be_uploaded_is_taken_over(tmp_path):
    counter = Counter(tmp_path)
    counter.poll()
    counter.client.check(uscc(1), **ASK)
    counter.client.close()
    assert len(counter.gateway.local_passes) == 1
    assert list(tmp_path.glob("*/spool/*")) == []
    with pytest.raises(lanjie.ClientClosed):
        counter.client.check(uscc(1), **ASK)

    second = counter.gateway.client(**counter.options)
    second._handle.running().poll_now()
    second.check(uscc(2), **ASK)
    counter.gateway.feed_reachable = False
    second.close()
    assert len(counter.gateway.local_passes) == 1
    counter.gateway.feed_reachable = True
    third = counter.gateway.client(**counter.options)
    third._handle.running().poll_now()
    assert len(counter.gateway.local_passes) == 2
    third.close()


def test_a_batch_is_positional_and_a_malformed_item_is_its_own(counter):
    counter.gateway.list_subject(uscc(7))
    counter.poll()
    asked = [uscc(1), "uscc:123", uscc(7), citizen(2), "", None, uscc(2).lower()]
    many = counter.client.check_many(asked, **ASK)
    assert [decision.outcome.name for decision in many] == [
        "PASS",
        "UNDETERMINED",
        "INTERCEPT",
        "PASS",
        "UNDETERMINED",
        "UNDETERMINED",
        "PASS",
    ]
    assert many[1].reason is UndeterminedReason.IDENTIFIER_INVALID
    assert many[1].warnings == ("identifier-length",)
    assert [decision.source for decision in many[0:1]] == [Source.LOCAL]
    assert many[-1].source is Source.LOCAL
    assert [asked.identifier for asked in counter.gateway.questions] == [uscc(7), citizen(2)]
    assert many[0].decision_id != many[-1].decision_id
    with pytest.raises(IndexError):
        many[7]


def test_names_go_with_their_items(counter):
    counter.gateway.list_subject(uscc(2))
    counter.poll()
    counter.client.check_many([uscc(1), uscc(2)], names=["甲", "乙"], **ASK)
    assert [asked.name for asked in counter.gateway.questions] == ["乙"]
    with pytest.raises(lanjie.InvalidArgument):
        counter.client.check_many([uscc(1)], names=[], **ASK)


def test_chunks_are_bounded_and_on_one_revision(counter, monkeypatch):
    requests = []
    answer = counter.gateway.batch_check

    def batch_check(request):
        requests.append(request)
        counter.gateway.revision += 1
        return answer(request)

    monkeypatch.setattr(counter.gateway, "batch_check", batch_check)
    people = [citizen(number % 999 + 1) for number in range(800)]
    many = counter.client.check_many(people, names=["某" * 250] * 800, **ASK)
    assert len(many) == sum(len(request.subjects) for request in requests) == 800
    assert all(len(request.subjects) <= 300 and request.ByteSize() < 61_000 for request in requests)
    assert requests[0].pinned_revision == 0
    assert {request.pinned_revision for request in requests[1:]} == {2}


def test_a_batch_starts_again_when_its_revision_is_gone(counter, monkeypatch):
    answer, sizes = counter.gateway.batch_check, []

    def batch_check(request):
        sizes.append((len(request.subjects), request.pinned_revision))
        if len(sizes) == 2:
            counter.gateway.revision, counter.gateway.oldest = 9, 9
        return answer(request)

    monkeypatch.setattr(counter.gateway, "batch_check", batch_check)
    many = counter.client.check_many([citizen(number + 1) for number in range(400)], **ASK)
    assert sizes == [(300, 0), (100, 1), (300, 0), (100, 9)]
    assert {decision.revision for decision in many} == {9}


def test_a_batch_whose_revision_is_always_gone_is_undetermined(counter, monkeypatch):
    answer = counter.gateway.batch_check

    asked = []

    def batch_check(request):
        asked.append(len(request.subjects))
        counter.gateway.revision += 1
        counter.gateway.oldest = counter.gateway.revision
        return answer(request)

    monkeypatch.setattr(counter.gateway, "batch_check", batch_check)
    many = counter.client.check_many([citizen(number + 1) for number in range(400)], **ASK)
    assert [decision.outcome for decision in many[300:]] == [Outcome.UNDETERMINED] * 100
    assert asked == [300, 100] * (RESTARTS + 1)


def test_a_gateway_that_goes_away_leaves_the_rest_of_a_batch_undetermined(counter, monkeypatch):
    answer = counter.gateway.batch_check

    def batch_check(request):
        if request.pinned_revision:
            counter.gateway.reachable = False
        return answer(request)

    monkeypatch.setattr(counter.gateway, "batch_check", batch_check)
    many = counter.client.check_many([citizen(number + 1) for number in range(400)], **ASK)
    assert [decision.outcome for decision in many[:300]] == [Outcome.PASS] * 300
    assert [decision.reason for decision in many[300:]] == [UndeterminedReason.UNAVAILABLE] * 100


def test_many_threads_get_numbers_of_their_own(counter):
    counter.poll()
    ids = []

    def ask(first):
        ids.extend([counter.client.check(uscc(number), **ASK).decision_id for number in range(first, first + 200)])

    threads = [threading.Thread(target=ask, args=(200 * place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 800
    counter.poll()
    assert [record.sequence for record in counter.gateway.local_passes] == list(range(1, 801))


def test_a_child_process_makes_its_own_spool_and_the_parent_keeps_its(counter, tmp_path):
    counter.poll()
    before = counter.client.check(uscc(1), **ASK)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        text = "failed"
        try:
            asked = counter.client.check(uscc(1), **ASK).source.name
            counter.poll()
            decision = counter.client.check(uscc(1), **ASK)
            text = f"{asked} {decision.source.name} {decision.decision_id}"
        finally:
            os.write(writing, text.encode())
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    asked, source, decision_id = os.read(reading, 1000).decode().split()
    os.close(reading)
    assert (asked, source) == ("GATEWAY", "LOCAL")
    assert decision_id.partition("-")[0] != before.decision_id.partition("-")[0]
    after = counter.client.check(uscc(2), **ASK)
    assert after.decision_id.partition("-")[0] == before.decision_id.partition("-")[0]
    (left,) = Spool.left_behind(tmp_path, counter.gateway.lineage)
    assert len(left.pending(10)) == 1
    left.close()
    # The child followed, and letting go of what it inherited took nothing from its parent.
    third = counter.gateway.client(**counter.options)
    third._handle.running().poll_now()
    assert (counter.client.sync_status().leads, third.sync_status().leads) == (True, False)
    third.close()


def test_clients_that_are_gone_are_forgotten(monkeypatch):
    told = []
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: told.append(hooks))
    before = len(_handle._handles)
    for _ in range(10):
        lanjie.Client("127.0.0.1:1", token="x", local=False).close()
    gc.collect()
    assert (told, len(_handle._handles)) == ([], before)


def test_a_thread_syncs_and_uploads_by_itself(tmp_path):
    gateway = FakeGateway()
    with gateway.client(state_dir=tmp_path) as client:
        client.wait_ready(10)
        assert client.check(uscc(1), **ASK).source is Source.LOCAL
        gateway.list_subject(uscc(1))
        assert client.check(uscc(1), **ASK).source is Source.GATEWAY
    assert len(gateway.local_passes) == 1


def test_closing_ends_in_time_and_what_is_left_comes_with_the_next_process(tmp_path, monkeypatch):
    counter = Counter(tmp_path)
    counter.poll()
    for _ in range(1_200):
        assert counter.client.check(uscc(1), **ASK).source is Source.LOCAL
    upload = counter.gateway.upload

    def slow(request):
        counter.clock.advance(20)
        return upload(request)

    monkeypatch.setattr(counter.gateway, "upload", slow)
    counter.client.close()
    assert len(counter.gateway.local_passes) == 1_000
    other = counter.gateway.client(**counter.options)
    other._handle.running().poll_now()
    other.close(timeout=0)
    # Again from the start of its file; a gateway takes each sequence number once.
    assert {each.sequence for each in counter.gateway.local_passes} == set(range(1, 1_201))


def test_waiting_for_a_gateway_that_is_away_ends(tmp_path):
    counter = Counter(tmp_path)
    counter.gateway.reachable = False
    counter.poll()
    with pytest.raises(lanjie.Unavailable, match="not ready"):
        counter.client.wait_ready(0.01)
    counter.client.close()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"filter": "cuckoo"}, "filter"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": math.inf}, "timeout"),
        ({"upload_interval": 1e12}, "upload_interval"),
        ({"upload_interval": -1}, "upload_interval"),
        ({"trust": {"a": "xyz"}}, "trust"),
        ({"target": "gateway.example:7700"}, "tls"),
        ({"target": "127.0.0.1.example:7700", "token": "t"}, "tls"),
        ({"target": "ipv4:127.0.0.1:1,10.0.0.1:1"}, "tls"),
    ],
)
def test_arguments_of_a_client_are_checked(given, field):
    target = given.pop("target", "127.0.0.1:7700")
    with pytest.raises(lanjie.InvalidArgument) as caught:
        lanjie.Client(target, **given)
    assert caught.value.field == field


@pytest.mark.parametrize("target", ["localhost:1", "[::1]:1", "unix:/tmp/x", "ipv4:127.0.0.1:1", "dns:///localhost:1"])
def test_addresses_of_this_machine_need_no_tls(target):
    assert "token" not in repr(lanjie.Client(target, token="secret-token"))


def test_a_gateway_file_names_all(tmp_path):
    (tmp_path / "inquirer.token").write_text("t0\n")
    (tmp_path / "gateway.json").write_text(
        '{"screening": "127.0.0.1:7700", "tokens": {"inquirer": "inquirer.token"}, "trusted_keys": {"s": "%s"}}'
        % ("0a" * 32)
    )
    options = lanjie.Client.from_file(tmp_path / "gateway.json", timeout=1.0)._handle.options
    assert (options.endpoint.target, options.endpoint.token) == ("127.0.0.1:7700", "t0")
    assert options.trusted == {"s": b"\x0a" * 32}
    with pytest.raises(lanjie.InvalidArgument):
        lanjie.Client.from_file(tmp_path / "gateway.json", role="manager")
    with pytest.raises(FileNotFoundError):
        lanjie.Client.from_file(tmp_path / "none.json")
