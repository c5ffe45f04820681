"""Once an end is committed and acknowledged, no later answer carries the effect: those under way included."""

import contextlib
import datetime
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import lanjie
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.subject_report import Proof
from lanjie_matcher.civil_time import SHANGHAI
from tests.support.answers import act, held_disk, records, row
from tests.support.gateway import RunningGateway, person, running
from tests.support.subjects import uscc
from tests.support.valkey import valkey

DATA = Path(__file__).parents[1] / "data"
NOW = datetime.datetime(2026, 3, 2, 12, 0, tzinfo=SHANGHAI)
MATTER = "procurement.supplier"
DAY = datetime.timedelta(days=1)
ENDS = [EventKind.REMOVED, EventKind.REPAIRED, EventKind.REVOKED, EventKind.STAYED, EventKind.ANNULLED]
numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["memory", "redis"])
def gateway(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RunningGateway]:
    with contextlib.ExitStack() as stack:
        settings = {"index": request.param}
        if request.param == "redis":
            settings["redis_url"] = stack.enter_context(valkey()).url
        gateway = stack.enter_context(running(tmp_path_factory.mktemp("flight"), NOW, **settings))
        gateway.publish(DATA / "national.yaml", DATA / "municipal.yaml")
        yield gateway


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[lanjie.Client]:
    with gateway.client(local=False, timeout=20.0) as client:
        yield client


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as made:
        yield made


def listed(gateway: RunningGateway, list_type: str = "COURT") -> str:
    """List a new subject."""
    subject = uscc(next(numbers))
    gateway.import_rows([row(subject, list_type)])
    return subject


def ask(client: lanjie.Client, subject: str, **how: Any) -> lanjie.Decision:
    return client.check(subject, **{"matter": MATTER, "purpose": "test", **how})


def overtake(
    gateway: RunningGateway, pool: ThreadPoolExecutor, asked: Callable[[], lanjie.Decision], act: Callable[[], object]
) -> lanjie.Decision:
    """Return the answer to a question whose record goes to the disk while something is done and acknowledged."""
    with held_disk(gateway) as one_waits:
        answer: Future[lanjie.Decision] = pool.submit(asked)
        one_waits()
        act()
    return answer.result(20)


@pytest.mark.parametrize("kind", ENDS)
def test_a_check_under_way_does_not_carry_what_has_ended(
    gateway: RunningGateway, client: lanjie.Client, pool: ThreadPoolExecutor, kind: EventKind
) -> None:
    subject = listed(gateway)
    before = ask(client, subject)
    assert before.outcome.name == "INTERCEPT"
    revisions: list[int] = []
    answer = overtake(
        gateway,
        pool,
        lambda: ask(client, subject),
        lambda: revisions.append(act(gateway, before.listings[0].listing_id, kind)),
    )
    assert (answer.outcome.name, answer.revision) == ("PASS", revisions[0])
    written = records(gateway)
    last = written[answer.decision_id]
    first = written[last["replaces"]]
    assert [record["outcome"] for record in (first, last)] == ["INTERCEPT", "PASS"]
    assert [record["revision"] for record in (first, last)] == [before.revision, revisions[0]]
    assert "replaces" not in first
    # The subject is told of both, and of the first that it never left (Art. 63).
    proof = Proof(method="id-document", proved_at=NOW, reference="D-17")
    told = gateway.inner.control.rights.report(subject, (), proof, None, person("agency", Role.AGENCY))
    overtaken = {each.decision_id: each.overtaken for each in gateway.run(told).inquiries}
    assert (overtaken[first["id"]], overtaken[last["id"]]) == (True, False)


def test_a_batch_under_way_does_not_carry_what_has_ended(
    gateway: RunningGateway, client: lanjie.Client, pool: ThreadPoolExecutor
) -> None:
    subjects = [listed(gateway), listed(gateway)]
    listing = ask(client, subjects[0]).listings[0].listing_id
    with held_disk(gateway) as one_waits:
        answers = pool.submit(lambda: client.check_many(subjects, matter=MATTER, purpose="test"))
        one_waits()
        act(gateway, listing, EventKind.REMOVED)
    assert [each.outcome.name for each in answers.result(20)] == ["PASS", "INTERCEPT"]


def test_a_batch_starts_again_when_an_end_comes_between_its_parts(
    gateway: RunningGateway, client: lanjie.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = listed(gateway)
    transport = client._handle.running().transport
    ask_part, parts = transport.batch_check, []
    listing = ask(client, subject).listings[0].listing_id

    def batch_check(request: Any, timeout: float) -> Any:
        parts.append(request.pinned_revision)
        if len(parts) == 2:
            act(gateway, listing, EventKind.REVOKED)
        return ask_part(request, timeout)

    monkeypatch.setattr(transport, "batch_check", batch_check)
    others = [uscc(100_000 + number) for number in range(300)]
    answers = client.check_many([*others, subject], matter=MATTER, purpose="test")
    assert answers[-1].outcome.name == "PASS"
    assert [bool(pinned) for pinned in parts] == [False, True, False, True]
    assert len({each.revision for each in answers}) == 1


def test_an_annulled_listing_is_in_no_answer_about_the_past_either(
    gateway: RunningGateway, client: lanjie.Client, pool: ThreadPoolExecutor
) -> None:
    subject = listed(gateway)
    then = {"as_of": NOW - 20 * DAY}
    before = ask(client, subject, **then)
    assert before.outcome.name == "INTERCEPT"
    listing = before.listings[0].listing_id
    # What ended later was in force then, and it still says so.
    answer = overtake(
        gateway, pool, lambda: ask(client, subject, **then), lambda: act(gateway, listing, EventKind.REMOVED)
    )
    assert (answer.outcome.name, answer.as_of) == ("INTERCEPT", NOW - 20 * DAY)
    answer = overtake(
        gateway, pool, lambda: ask(client, subject, **then), lambda: act(gateway, listing, EventKind.ANNULLED)
    )
    assert answer.outcome.name == "PASS"
    assert {ask(client, subject, as_of=NOW - number * DAY).outcome.name for number in range(0, 50, 5)} == {"PASS"}


def test_a_reinstated_listing_works_from_its_own_date_only(gateway: RunningGateway, client: lanjie.Client) -> None:
    subject = listed(gateway)
    listing = ask(client, subject).listings[0].listing_id
    act(gateway, listing, EventKind.REMOVED, "2026-02-10")
    assert ask(client, subject).outcome.name == "PASS"
    act(gateway, listing, EventKind.REINSTATED, "2026-02-20")
    told = {
        date: ask(client, subject, as_of=datetime.datetime.fromisoformat(f"{date}+08:00")).outcome.name
        for date in ("2026-02-09T23:59:59", "2026-02-10T00:00:00", "2026-02-19T23:59:59", "2026-02-20T00:00:00")
    }
    assert list(told.values()) == ["INTERCEPT", "PASS", "PASS", "INTERCEPT"]
    assert ask(client, subject).outcome.name == "INTERCEPT"


def test_a_check_under_way_does_not_carry_a_measure_that_an_edition_took_away(
    gateway: RunningGateway, client: lanjie.Client, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    subject = listed(gateway, "WAGE")
    how = {"matter": "preference.commitment", "handling_region": "320100"}
    assert ask(client, subject, **how).outcome.name == "RESTRICT"
    text = (DATA / "municipal.yaml").read_text()
    later = tmp_path / "later.yaml"
    later.write_text(
        text.replace('edition: "2026"', 'edition: "2026b"').replace("preference.commitment", "school.enrol")
    )
    answer = overtake(gateway, pool, lambda: ask(client, subject, **how), lambda: gateway.publish(later))
    assert answer.outcome.name == "PASS"
