"""The client over a gateway in memory: when it answers itself, when it asks, and what it says when nobody answers."""

import datetime
import logging
import os
import threading

import pytest

import lanjie
from lanjie import Outcome, Source, SyncState, UndeterminedReason
from lanjie._store import Spool
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
        {"mode": lanjie.InquiryMode.AUTHORISED},
    ],
)
def test_what_the_set_cannot_answer_is_asked(counter, different):
    counter.poll()
    assert counter.client.check(uscc(1), **ASK, **different).source is Source.GATEWAY


def test_a_revision_not_reached_here_is_asked_and_one_not_reached_there_is_undetermined(counter):
    counter.poll()
    counter.gateway.revision = 5
    assert counter.client.check(uscc(1), **ASK, at_least_revision=5).source is Source.GATEWAY
    assert counter.client.check(uscc(1), **ASK, at_least_revision=6).reason is UndeterminedReason.UNAVAILABLE


def test_before_the_first_set_everything_is_asked(counter):
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY
    assert counter.client.sync_status().state is SyncState.STARTING


def test_a_stale_set_asks_and_a_confirmed_one_answers_again(counter):
    counter.poll()
    counter.clock.advance(45)
    assert counter.client.check(uscc(1), **ASK).source is Source.LOCAL
    counter.clock.advance(1)
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY
    assert counter.client.sync_status().state is SyncState.STALE
    assert counter.poll()
    assert counter.client.check(uscc(1), **ASK).source is Source.LOCAL


def test_nobody_answers_is_undetermined_and_the_same_for_hit_person_and_stale_miss(counter):
    counter.gateway.list_subject(uscc(1))
    counter.poll()
    counter.gateway.reachable = False
    hit = counter.client.check(uscc(1), **ASK)
    person = counter.client.check(citizen(1), **ASK)
    assert counter.client.check(uscc(2), **ASK).outcome is Outcome.PASS
    counter.clock.advance(46)
    assert not counter.poll()
    miss = counter.client.check(uscc(2), **ASK)
    for decision in (hit, person, miss):
        assert decision.outcome is Outcome.UNDETERMINED
        assert decision.reason is UndeterminedReason.UNAVAILABLE
        assert decision.source is Source.NONE
        assert decision.resolve_by == decision.decided_at + datetime.timedelta(hours=24)
        assert (decision.revision, decision.decision_id) == (0, "")
    assert hit.instruction == person.instruction == miss.instruction


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
    from lanjie.v1 import sync_pb2

    scope = counter.gateway._scope

    def ended():
        made = scope()
        made.matters[0].in_force[0].CopyFrom(sync_pb2.DateSpan(start_date="2026-01-01", end_date="2026-03-02"))
        return made

    counter.gateway._scope = ended
    counter.poll()
    counter.clock.at = datetime.datetime(2026, 3, 2, 15, 59, 59, tzinfo=datetime.UTC)
    assert counter.client.check(uscc(1), **ASK).source is Source.LOCAL
    counter.clock.at += datetime.timedelta(seconds=1)
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY


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
        ({"as_of": datetime.datetime(2026, 1, 1)}, "as_of"),  # noqa: DTZ001
    ],
)
def test_what_the_gateway_would_refuse_is_refused_here(counter, given, field):
    counter.poll()
    with pytest.raises(lanjie.InvalidArgument) as caught:
        counter.client.check(uscc(1), **{**ASK, **given})
    assert caught.value.field == field


def test_errors_of_the_caller_are_raised(counter):
    for error in (lanjie.PermissionDenied("no"), lanjie.AuthenticationFailed("no"), lanjie.RateLimited("slow")):
        counter.gateway.failure = error
        with pytest.raises(type(error)):
            counter.client.check(citizen(1), **ASK)
        with pytest.raises(type(error)):
            counter.client.check_many([citizen(1)], **ASK)


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


def test_without_a_place_for_the_spool_everything_is_asked(tmp_path):
    (tmp_path / "file").write_text("")
    counter = Counter(tmp_path / "file")
    counter.poll()
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY
    assert "spool" in counter.client.sync_status().last_error
    counter.client.close()


def test_closing_uploads_and_what_cannot_be_uploaded_is_taken_over(tmp_path):
    counter = Counter(tmp_path)
    counter.poll()
    counter.client.check(uscc(1), **ASK)
    counter.client.close()
    assert len(counter.gateway.local_passes) == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
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


def test_a_batch_starts_again_once_when_its_revision_is_gone(counter, monkeypatch):
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

    def batch_check(request):
        counter.gateway.revision += 1
        counter.gateway.oldest = counter.gateway.revision
        return answer(request)

    monkeypatch.setattr(counter.gateway, "batch_check", batch_check)
    many = counter.client.check_many([citizen(number + 1) for number in range(400)], **ASK)
    assert [decision.outcome for decision in many[300:]] == [Outcome.UNDETERMINED] * 100


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


def test_a_thread_syncs_and_uploads_by_itself(tmp_path):
    from lanjie.testing import FakeGateway

    gateway = FakeGateway()
    with gateway.client(state_dir=tmp_path) as client:
        client.wait_ready(10)
        assert client.check(uscc(1), **ASK).source is Source.LOCAL
        gateway.list_subject(uscc(1))
        assert client.check(uscc(1), **ASK).source is Source.GATEWAY
    assert len(gateway.local_passes) == 1


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
        ({"poll_interval": -1}, "poll_interval"),
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
