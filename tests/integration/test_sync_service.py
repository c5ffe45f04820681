"""What SDKs are sent, and when: the service on a real ledger, driven by clients without a network.

A client here says what it has and is told a step; what it takes is its next position.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import hashlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from lanjie.v1 import sync_pb2 as pb
from lanjie.v1 import sync_pb2_grpc
from lanjie_gateway.adapters.ledger import changes
from lanjie_gateway.bootstrap import Gateway, build
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Unanswerable
from lanjie_gateway.domain.import_rules import FileFormat, ImportHeader
from lanjie_gateway.domain.watching import Delta, Heartbeat, Position, Step, Wait, Whole
from lanjie_gateway.services import sync, views
from lanjie_gateway.services.sync import Report, SyncService
from lanjie_gateway.settings import Settings
from tests.support.gateway import MovableClock, csv_file, person
from tests.support.load import wage_row
from tests.support.signing import signed
from tests.support.subjects import uscc

pytestmark = pytest.mark.asyncio(loop_scope="module")
DATA = Path(__file__).parents[1] / "data"
CLOCK = MovableClock(datetime.datetime(2026, 3, 2, 2, 0, tzinfo=datetime.UTC))
AUTHORITY = person("authority", Role.AUTHORITY)
LISTED = 60
_names = itertools.count(1)


class Ledger:
    """The gateway's ledger as those who change it see it."""

    def __init__(self, inner: Gateway) -> None:
        self.control = inner.control
        self._listings: list[str] = []

    async def publish(self, name: str, text: str) -> None:
        file = text.encode()
        manager = person("manager", Role.MANAGER)
        await self.control.catalogues.publish(file, name, manager, signature=signed(file))

    async def add(self, numbers: range) -> None:
        file = csv_file([wage_row(uscc(number), number) for number in numbers])
        head = ImportHeader(
            file_name="list.csv", format=FileFormat.CSV, sha256=hashlib.sha256(file).digest(), size=len(file)
        )

        async def chunks() -> AsyncIterator[bytes]:
            yield file

        receipt = await self.control.imports.run(head, chunks(), AUTHORITY)
        assert receipt.revision, receipt
        for number in numbers:
            (found,) = await self.control.listings.find(uscc(number), "test", AUTHORITY)
            self._listings.append(found.listing.id)

    async def remove(self, count: int = 1) -> None:
        """Remove some listings, each with a commit of its own."""
        for _ in range(count):
            await self.control.listings.remove(self._listings.pop(), "r", "d", "", AUTHORITY)


class Watcher:
    """A client that watches, without a network."""

    def __init__(self, service: SyncService, department: str = "local") -> None:
        self.sdk_id = f"{next(_names):032x}"
        self.position = Position()
        self._told: asyncio.Queue[Report | None] = asyncio.Queue()
        self._steps = service.watch(self._told, department)
        self._next: asyncio.Task[Step] | None = None
        self.brought = Position()

    def say(self, refusal: str = "") -> None:
        self._told.put_nowait(Report(sdk_id=self.sdk_id, position=self.position, refusal=refusal))
        self._go_on()

    def hang_up(self) -> None:
        self._told.put_nowait(None)

    async def told(self, seconds: float = 2.0) -> Step:
        """Return the next step."""
        self._go_on()
        assert self._next is not None
        async with asyncio.timeout(seconds):
            await asyncio.wait([self._next])
        told, self._next = self._next, None
        return told.result()

    def _go_on(self) -> None:
        self._next = self._next or asyncio.ensure_future(self._one())

    async def _one(self) -> Step:
        step, _ = await anext(self._steps)
        # At once, as whoever sends it makes the message at once: the view goes on.
        self.brought = self.position if isinstance(step, Wait) else held(step)
        return step

    async def silence(self, seconds: float = 0.05) -> None:
        """Nothing is told for some time."""
        with pytest.raises(TimeoutError):
            await self.told(seconds)

    def take(self) -> None:
        """Have what the last step brought, and say so."""
        self.position = self.brought
        self.say()

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
            self._next = None
        await self._steps.aclose()


class Watchers:
    """Makes clients, and lets go of them all at the end."""

    def __init__(self, service: SyncService) -> None:
        self._service = service
        self.all: list[Watcher] = []

    def new(self, department: str = "local") -> Watcher:
        self.all.append(Watcher(self._service, department))
        return self.all[-1]

    async def current(self, department: str = "local") -> Watcher:
        """Return a client that has the newest set and has said so."""
        watcher = self.new(department)
        watcher.say()
        step = await watcher.told()
        assert isinstance(step, Whole)
        watcher.take()
        return watcher


def held(step: Heartbeat | Delta | Whole) -> Position:
    offer = step.offer
    return Position(
        lineage=offer.lineage,
        epoch=offer.epoch,
        generation=offer.generation,
        revision=offer.view.revision,
        root=offer.view.head()[0],
        catalogue_revision=offer.catalogue_revision,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ledger(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ledger]:
    state = tmp_path_factory.mktemp("sync")
    async with build(Settings(state=state, listen="127.0.0.1:0", allow_examples=True), clock=CLOCK) as inner:
        made = Ledger(inner)
        for name in ("national", "provincial", "municipal"):
            await made.publish(f"{name}.yaml", (DATA / f"{name}.yaml").read_text())
        await made.add(range(1, LISTED + 1))
        yield made


@pytest.fixture
def service(ledger: Ledger) -> SyncService:
    return ledger.control.sync


@pytest_asyncio.fixture(loop_scope="module")
async def watchers(service: SyncService) -> AsyncIterator[Watchers]:
    made = Watchers(service)
    yield made
    for watcher in made.all:
        await watcher.close()
    assert service._watching == 0
    assert service._snapshots._under_way == 0
    assert [sdk for sdk in service.sdks() if sdk.watching] == []


async def test_an_update_waits_for_the_answer_to_the_one_before_and_brings_all_commits_at_once(
    ledger: Ledger, watchers: Watchers
) -> None:
    watcher = await watchers.current()
    before = watcher.position
    await ledger.remove()
    first = await watcher.told()
    assert isinstance(first, Delta)
    assert first.base_root == before.root
    assert len(first.changes.removals) == 1
    watcher.position = watcher.brought
    await ledger.remove(3)
    await watcher.silence()
    watcher.say()
    merged = await watcher.told()
    assert isinstance(merged, Delta)
    assert merged.base_root == watcher.position.root
    assert (len(merged.changes.removals), merged.changes.adds) == (3, ())
    assert merged.offer.view.revision == before.revision + 4


async def test_a_large_commit_is_sent_whole_or_not_at_all(
    ledger: Ledger, watchers: Watchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PAGE", 3)
    newcomers: list[Position] = []

    async def come() -> None:
        while True:
            await asyncio.sleep(0.001)
            watcher = watchers.new()
            watcher.say()
            step = await watcher.told()
            assert isinstance(step, Whole)
            newcomers.append(watcher.brought)
            await watcher.close()

    coming = asyncio.create_task(come())
    await ledger.add(range(1_000, 1_020))
    coming.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await coming
    roots = {(position.revision, position.root) for position in newcomers}
    assert len(roots) == len({revision for revision, _ in roots})


async def test_a_refused_update_is_followed_by_a_whole_set_and_a_refused_whole_set_by_nothing(
    ledger: Ledger, service: SyncService, watchers: Watchers
) -> None:
    watcher = await watchers.current()
    await ledger.remove()
    assert isinstance(await watcher.told(), Delta)
    refused = service.counts["refused-root"]
    watcher.say("root")
    assert isinstance(await watcher.told(), Whole)
    assert service.counts["refused-root"] == refused + 1
    watcher.say("root")
    with pytest.raises(StopAsyncIteration):
        await watcher.told()


async def test_a_heartbeat_comes_every_third_of_the_time_a_set_stays_fresh(
    watchers: Watchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pytest.approx(15.0) == sync.BEAT_SECONDS
    monkeypatch.setattr(sync, "BEAT_SECONDS", 0.1)
    watcher = await watchers.current()
    for _ in range(2):
        begun = asyncio.get_running_loop().time()
        step = await watcher.told()
        assert isinstance(step, Heartbeat)
        assert asyncio.get_running_loop().time() - begun > 0.09
        watcher.take()


async def test_the_seventeenth_snapshot_waits_for_a_place(watchers: Watchers, service: SyncService) -> None:
    first = [watchers.new() for _ in range(16)]
    for watcher in first:
        watcher.say()
        assert isinstance(await watcher.told(), Whole)
    late = watchers.new()
    late.say()
    step = await late.told()
    assert step == Wait(1.0)
    late.take()
    assert isinstance(await late.told(), Wait)
    # A stream that dies gives its place back, and so does a client that answers.
    await first[0].close()
    late.say()
    assert isinstance(await late.told(), Whole)
    first[1].take()
    last = watchers.new()
    last.say()
    assert isinstance(await last.told(), Whole)


async def test_a_pull_keeps_its_place_until_it_is_read(watchers: Watchers, service: SyncService) -> None:
    report = Report(sdk_id="ab" * 16, position=Position())
    pulls = [service.pull(report, "local") for _ in range(17)]
    steps = [await anext(pull) for pull in pulls]
    assert [type(step) for step in steps] == [Whole] * 16 + [Wait]
    await pulls[3].aclose()
    again = service.pull(report, "local")
    assert isinstance(await anext(again), Whole)
    for pull in (*pulls, again):
        await pull.aclose()


async def test_a_snapshot_that_is_read_slowly_keeps_its_place_for_a_while_only(
    watchers: Watchers, service: SyncService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "PLACE_SECONDS", 0.05)
    slow = watchers.new()
    slow.say()
    assert isinstance(await slow.told(), Whole)
    assert service._snapshots._under_way == 1
    await asyncio.sleep(0.1)
    assert service._snapshots._under_way == 0
    slow.take()
    await slow.silence()
    assert service._snapshots._under_way == 0


async def test_who_comes_while_a_commit_cannot_be_read_to_its_end_is_told_so(
    service: SyncService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "SETTLE_SECONDS", 0.02)
    service._views._settled.clear()
    with pytest.raises(Unanswerable) as told:
        await anext(service.pull(Report(sdk_id="ab" * 16, position=Position()), "local"))
    service._views._settled.set()
    assert told.value.reason == "NOT_CURRENT"


async def test_a_client_that_is_ahead_waits_and_is_never_sent_an_older_head(
    ledger: Ledger, watchers: Watchers, service: SyncService
) -> None:
    watcher = await watchers.current()
    newest = watcher.position
    ahead = watchers.new()
    ahead.position = dataclasses.replace(newest, revision=newest.revision + 1, root=b"r" * 32)
    ahead.say()
    for refusal in ("", "root"):
        # Not even after a refusal, and without a set.
        assert await ahead.told() == Wait(0.5)
        ahead.say(refusal)
    assert await ahead.told() == Wait(0.5)
    await ledger.remove()
    ahead.say("root")
    assert isinstance(await ahead.told(), Whole)


async def test_a_gateway_that_cannot_prove_its_view_ends_its_streams(
    watchers: Watchers, service: SyncService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "BEAT_SECONDS", 0.05)
    watcher, newcomer = await watchers.current(), watchers.new()
    await watcher.silence(0.01)
    monkeypatch.setattr(service._views, "current", lambda: False)
    newcomer.say()
    for each in (watcher, newcomer):
        with pytest.raises(Unanswerable) as told:
            await each.told()
        assert told.value.reason == "NOT_CURRENT"
    with pytest.raises(Unanswerable, match="current"):
        await anext(service.pull(Report(sdk_id="ab" * 16, position=Position()), "local"))


async def test_one_client_too_many_is_told_so(watchers: Watchers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "MOST_WATCHING", 1)
    watcher = await watchers.current()
    other = watchers.new()
    other.say()
    with pytest.raises(Unanswerable) as told:
        await other.told()
    assert (told.value.reason, told.value.metadata) == ("OVERLOADED", {"retry_after_ms": "1000"})
    await watcher.close()
    await watchers.current()


async def test_a_client_that_does_not_answer_is_let_go(
    watchers: Watchers, service: SyncService, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sync.ANSWER_SECONDS == 60.0
    watcher, silent = await watchers.current(), watchers.new()
    await watcher.silence()
    monkeypatch.setattr(sync, "ANSWER_SECONDS", 0.05)
    with pytest.raises(StopAsyncIteration):
        await silent.told()
    silent = watchers.new()
    silent.say()
    assert isinstance(await silent.told(), Whole)
    assert service._snapshots._under_way == 1
    with pytest.raises(StopAsyncIteration):
        await silent.told()
    assert service._snapshots._under_way == 0


async def test_a_catalogue_that_changes_no_fingerprint_is_told_at_once(
    ledger: Ledger, watchers: Watchers, service: SyncService
) -> None:
    watcher = await watchers.current()
    await watcher.silence()
    text = (DATA / "municipal.yaml").read_text()
    await ledger.publish("again.yaml", text.replace('edition: "2026"', 'edition: "2026b"'))
    step = await watcher.told()
    assert isinstance(step, Heartbeat)
    assert step.offer.catalogue_revision == service._views.view.revision > watcher.position.catalogue_revision
    assert step.offer.view.head()[0] == watcher.position.root


class Feed:
    """The feed listener, over the network."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub: Any = sync_pb2_grpc.SyncServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {token}"),)

    def watch(self) -> Any:
        return self._stub.Watch(metadata=self._metadata)

    def pull(self, **state: Any) -> Any:
        return self._stub.Pull(pb.PullRequest(state=pb.ClientState(**state)), metadata=self._metadata)


@pytest_asyncio.fixture(loop_scope="module")
async def feed(ledger: Ledger, watchers: Watchers) -> AsyncIterator[Feed]:
    token = ledger.control._tokens.files["inquirer"].read_text().strip()
    async with grpc.aio.insecure_channel(ledger.control.feed_address) as channel:
        yield Feed(channel, token)


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """No task is left of what is done in here, but the server's own that waits for the next call."""
    before = asyncio.all_tasks()
    yield
    deadline = time.monotonic() + 2
    while left := [task for task in asyncio.all_tasks() - before if "_request_registered_call" not in repr(task)]:
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("state", "field"),
    [
        ({"sdk_id": ""}, "sdk_id"),
        ({"sdk_id": "AB" * 16}, "sdk_id"),
        ({"sdk_id": "ab" * 17}, "sdk_id"),
        ({"sdk_id": "ab" * 16, "view": "persons"}, "view"),
        ({"sdk_id": "ab" * 16, "root": b"r" * 31}, "root"),
        ({"sdk_id": "ab" * 16, "lineage": "a" * 65}, "lineage"),
    ],
)
async def test_what_no_client_says_is_refused(feed: Feed, state: dict[str, Any], field: str) -> None:
    async with nothing_left():
        watch = feed.watch()
        await watch.write(pb.WatchRequest(state=pb.ClientState(**state)))
        for call in (watch, feed.pull(**state)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            (status,) = [value for key, value in refused.value.trailing_metadata() if key == "grpc-status-details-bin"]
            assert b"ARGUMENT_INVALID" in status
            assert field.encode() in status


async def test_who_answers_what_was_not_asked_is_let_go(feed: Feed, watchers: Watchers) -> None:
    async with nothing_left():
        watch = feed.watch()
        for _ in range(12):
            await watch.write(pb.WatchRequest(state=pb.ClientState(sdk_id="ab" * 16)))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await watch_until_end(watch)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def watch_until_end(watch: Any) -> None:
    while await watch.read() is not grpc.aio.EOF:
        pass


@pytest.mark.parametrize("parts", [0, 1, 16])
async def test_a_call_that_is_given_up_leaves_nothing(
    feed: Feed, watchers: Watchers, service: SyncService, parts: int
) -> None:
    state = pb.ClientState(sdk_id="ab" * 16)
    async with nothing_left():
        watch, pull = feed.watch(), feed.pull(sdk_id="cd" * 16)
        await watch.write(pb.WatchRequest(state=state))
        for _ in range(parts):
            for call in (watch, pull):
                assert (await call.read()).update.kind == pb.UPDATE_KIND_SNAPSHOT
        watch.cancel()
        pull.cancel()
    assert (service._watching, service._snapshots._under_way) == (0, 0)


async def test_a_cancelled_stream_ends_as_cancelled(watchers: Watchers) -> None:
    async with nothing_left():
        watcher = await watchers.current()
        await watcher.silence(0.01)
        assert watcher._next is not None
        watcher._next.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watcher.told()
