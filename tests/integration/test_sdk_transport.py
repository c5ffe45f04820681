"""Over a real server on loopback: token, question, stream, error, and a gateway that goes away."""

import asyncio
import contextlib
import gc
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import lanjie
from lanjie import Outcome, Source, SyncState, UndeterminedReason
from lanjie.errors import BY_REASON, LanjieError
from lanjie.testing import FakeGateway
from lanjie.v1 import audit_pb2_grpc, screening_pb2_grpc, sync_pb2, sync_pb2_grpc
from tests.support.sdk import ASK
from tests.support.subjects import citizen, uscc

TOKEN = "token-of-the-inquirer"


class Server(
    screening_pb2_grpc.ScreeningServiceServicer,
    sync_pb2_grpc.SyncServiceServicer,
    audit_pb2_grpc.InquiryServiceServicer,
):
    """A grpc.aio server in a thread, in front of a gateway in memory."""

    def __init__(self):
        self.fake = FakeGateway(person_files=[ASK["matter"]])
        self.refuse = None
        self.unavailable = 0
        self.calls = []
        self.delay = 0.0
        self.stopped = False
        self.streams = True
        self.watching = 0
        self.said = []
        self.ended = 0
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.address = self.run(self._start())

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def stop(self):
        if self.stopped:
            return
        self.stopped = True
        self.run(self.server.stop(None))
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def _start(self):
        self.server = grpc.aio.server()
        screening_pb2_grpc.add_ScreeningServiceServicer_to_server(self, self.server)
        sync_pb2_grpc.add_SyncServiceServicer_to_server(self, self.server)
        audit_pb2_grpc.add_InquiryServiceServicer_to_server(self, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        return f"127.0.0.1:{port}"

    async def Check(self, request, context):
        await self._admit("Check", context)
        return await self._translated(self.fake.check, request, context)

    async def BatchCheck(self, request, context):
        await self._admit("BatchCheck", context)
        return await self._translated(self.fake.batch_check, request, context)

    async def Discover(self, request, context):
        await self._admit("Discover", context)
        found = self.fake.discover()
        found.feed_address = self.address
        return found

    async def Pull(self, request, context):
        await self._admit("Pull", context)
        for message in self.fake.pull(request):
            yield message

    async def Watch(self, request_iterator, context):
        await self._admit("Watch", context)
        if not self.streams:
            await abort(context, grpc.StatusCode.UNIMPLEMENTED, "", {})
        ended, answered = self.ended, False
        self.watching += 1
        try:
            async for request in request_iterator:
                self.said.append(request)
                while answered and self.ended == ended and self._knows(request.state):  # noqa: ASYNC110  it has no loop
                    await asyncio.sleep(0.01)
                if self.ended != ended:
                    return
                yield sync_pb2.WatchResponse(update=self.fake.update(request.state))
                answered = True
        finally:
            self.watching -= 1

    def _knows(self, state):
        return (state.lineage, state.revision) == (self.fake.lineage, self.fake.revision)

    async def UploadLocalPasses(self, request, context):
        await self._admit("UploadLocalPasses", context)
        return self.fake.upload(request)

    async def _admit(self, method, context):
        self.calls.append(method)
        if ("authorization", f"Bearer {TOKEN}") not in [tuple(each) for each in context.invocation_metadata()]:
            await abort(context, grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID", {})
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.unavailable:
            self.unavailable -= 1
            await abort(context, grpc.StatusCode.UNAVAILABLE, "NOT_CURRENT", {})
        if self.refuse and method in ("Check", "BatchCheck"):
            await abort(context, *self.refuse)

    async def _translated(self, call, request, context):
        try:
            return call(request)
        except LanjieError as error:
            code = grpc.StatusCode.OUT_OF_RANGE if error.reason == "REVISION_COMPACTED" else grpc.StatusCode.NOT_FOUND
            await abort(context, code, error.reason, dict(error.metadata))


async def abort(context, code, reason, metadata):
    if not reason:
        await context.abort(code, "plain")
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="lanjie", metadata=metadata))
    status = status_pb2.Status(code=code.value[0], message=f"text of {reason}", details=[detail])
    await context.abort(code, status.message, (("grpc-status-details-bin", status.SerializeToString()),))


@pytest.fixture
def server():
    made = Server()
    yield made
    made.stop()


@pytest.fixture
def client(server, tmp_path):
    made = lanjie.Client(
        server.address, token=TOKEN, trust=server.fake.trust, state_dir=tmp_path, upload_interval=0.1, timeout=5.0
    )
    yield made
    made.close()


def test_a_set_a_question_and_an_upload(server, client):
    server.fake.list_subject(uscc(1))
    client.wait_ready(10)
    assert client.check(uscc(2), **ASK).source is Source.LOCAL
    assert client.check(uscc(1), **ASK).outcome is Outcome.INTERCEPT
    many = client.check_many([uscc(1), uscc(3), *[citizen(number + 1) for number in range(400)]], **ASK)
    assert [decision.source for decision in many[:3]] == [Source.GATEWAY, Source.LOCAL, Source.GATEWAY]
    assert server.calls.count("BatchCheck") == 2
    client.close()
    assert [each.sequence for each in server.fake.local_passes] == [1, 2]


def until(holds, seconds=10.0):
    """Wait until something holds; return whether it does."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def test_news_arrive_on_the_stream_and_nobody_polls(server, client):
    client.wait_ready(10)
    assert client.check(uscc(1), **ASK).source is Source.LOCAL
    server.fake.list_subject(uscc(1))
    assert until(lambda: client.check(uscc(1), **ASK).source is Source.GATEWAY)
    server.fake.remove_subject(uscc(1))
    assert until(lambda: client.check(uscc(1), **ASK).source is Source.LOCAL)
    assert server.calls.count("Watch") == 1
    assert "Pull" not in server.calls
    # Each update was answered with what it led to.
    assert until(lambda: [request.state.revision for request in server.said] == [0, 1, 2, 3])
    assert [bool(request.state.root) for request in server.said] == [False, True, True, True]
    assert {request.refusal for request in server.said} == {0}


def test_a_stream_that_the_server_ends_is_dialled_again(server, client):
    client.wait_ready(10)
    server.ended += 1
    assert until(lambda: server.calls.count("Watch") == 2)
    server.fake.list_subject(uscc(1))
    assert until(lambda: client.check(uscc(1), **ASK).source is Source.GATEWAY)
    assert client.sync_status().last_error == ""
    assert "Pull" not in server.calls


def test_a_stream_that_the_server_refuses_tells_why(server, client):
    client.wait_ready(10)
    admit = server._admit

    async def refusing(method, context):
        if method in ("Watch", "Pull"):
            await abort(context, grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID", {})
        await admit(method, context)

    server._admit = refusing
    server.ended += 1
    assert until(lambda: client.sync_status().last_error == "text of CREDENTIALS_INVALID")
    assert client.check(uscc(1), **ASK).source is Source.LOCAL
    server._admit = admit
    server.fake.list_subject(uscc(1))
    assert until(lambda: client.check(uscc(1), **ASK).source is Source.GATEWAY)


def test_a_proxy_that_takes_no_streams_leaves_the_set_fresh(server, client, monkeypatch):
    monkeypatch.setattr("lanjie._sync.BEAT_SECONDS", 0.2)
    server.streams = False
    client.wait_ready(10)
    server.fake.list_subject(uscc(1))
    assert until(lambda: client.check(uscc(1), **ASK).source is Source.GATEWAY)
    pulls, contact = server.calls.count("Pull"), client.sync_status().last_contact
    assert until(lambda: server.calls.count("Pull") > pulls + 1)
    assert until(lambda: client.sync_status().last_contact > contact)
    assert client.sync_status().state is SyncState.FRESH
    assert server.said == []
    server.streams = True
    assert until(lambda: server.watching == 1)


def test_a_closed_client_leaves_no_stream_and_no_thread_behind(server, client):
    client.wait_ready(10)
    assert server.watching == 1
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 4
    assert until(lambda: server.watching == 0)
    assert until(lambda: not [each for each in threading.enumerate() if each.name.startswith("lanjie-")])


def test_a_closed_client_holds_no_set_and_no_file(server, client, tmp_path):
    server.fake.list_subject(uscc(1))
    client.wait_ready(10)
    assert until(lambda: client.sync_status().filter == "bloom")
    client.close()
    # What the first has built the second maps.
    second = lanjie.Client(server.address, token=TOKEN, trust=server.fake.trust, state_dir=tmp_path)
    second.wait_ready(10)
    runtime = second._handle.running()
    assert second.check(uscc(2), **ASK).source is Source.LOCAL
    assert [each for each in _open_files() if each.is_relative_to(tmp_path)]
    gc.disable()
    try:
        second.close()
        assert runtime.local is None
        assert [each for each in _open_files() if each.is_relative_to(tmp_path)] == []
    finally:
        gc.enable()


def _open_files():
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(each.readlink())
    return found


@pytest.mark.parametrize("reason", sorted(BY_REASON))
def test_every_reason_arrives_as_its_error(server, client, reason):
    server.refuse = (grpc.StatusCode.INTERNAL, reason, {"rule": "length"})
    wanted = BY_REASON[reason]
    if wanted in (lanjie.Unavailable, lanjie.RateLimited):
        assert client.check(citizen(1), **ASK).reason is UndeterminedReason.UNAVAILABLE
        return
    with pytest.raises(wanted, match=f"text of {reason}") as caught:
        client.check(citizen(1), **ASK)
    assert caught.value.reason == reason
    assert caught.value.metadata["rule"] == "length"


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, lanjie.PermissionDenied),
        (grpc.StatusCode.UNIMPLEMENTED, lanjie.GatewayFault),
    ],
)
def test_a_plain_status_is_translated_by_its_code(server, client, code, wanted):
    server.refuse = (code, "", {})
    with pytest.raises(wanted, match=code.name):
        client.check(citizen(1), **ASK)


def test_unavailable_is_tried_again(server, tmp_path):
    with lanjie.Client(server.address, token=TOKEN, state_dir=tmp_path) as client:
        client.wait_ready(10)
        server.unavailable = 2
        assert client.check(citizen(1), **ASK).outcome is Outcome.PASS
        assert server.calls.count("Check") == 3
        server.unavailable = 3
        assert client.check(citizen(1), **ASK).outcome is Outcome.UNDETERMINED


def test_a_deadline_is_kept(server, tmp_path):
    with lanjie.Client(server.address, token=TOKEN, state_dir=tmp_path) as client:
        client.wait_ready(10)
        server.delay = 1.0
        assert client.check(citizen(1), **ASK, timeout=0.1).reason is UndeterminedReason.UNAVAILABLE
        server.delay = 0.0


@pytest.mark.parametrize("seconds", [1e10, math.inf])
def test_a_deadline_beyond_all_clocks_has_not_passed(client, seconds):
    assert client.check(citizen(1), timeout=seconds, **ASK).source is Source.GATEWAY


def test_a_wrong_token_is_an_error(server, tmp_path):
    with lanjie.Client(server.address, token="wrong", state_dir=tmp_path) as client:
        with pytest.raises(lanjie.AuthenticationFailed):
            client.check(uscc(1), **ASK)
        with pytest.raises(lanjie.Unavailable, match="text of CREDENTIALS_INVALID"):
            client.wait_ready(0.5)


def test_a_gateway_that_went_away_is_undetermined(server, client):
    server.fake.list_subject(uscc(1))
    client.wait_ready(10)
    server.stop()
    decision = client.check(uscc(1), **ASK)
    assert (decision.outcome, decision.source) == (Outcome.UNDETERMINED, Source.NONE)
    assert client.check(uscc(2), **ASK).source is Source.LOCAL
    assert until(lambda: client.sync_status().last_error == "the call ended with UNAVAILABLE")


def test_a_feed_elsewhere_gets_no_token(server, client):
    server.address, real = "192.0.2.1:7701", server.address
    with pytest.raises(lanjie.Unavailable, match="in the clear"):
        client.wait_ready(1.0)
    assert client.sync_status().state is SyncState.STARTING
    server.address = real


@pytest.mark.asyncio
async def test_the_asynchronous_client_over_a_server(server, tmp_path):
    server.fake.list_subject(uscc(1))
    made = lanjie.AsyncClient(server.address, token=TOKEN, trust=server.fake.trust, state_dir=tmp_path, timeout=5.0)
    async with made as client:
        await client.wait_ready(10)
        assert (await client.check(uscc(1), **ASK)).outcome is Outcome.INTERCEPT
        many = await client.check_many([uscc(1), uscc(2), citizen(1)], **ASK)
        assert [decision.outcome.name for decision in many] == ["INTERCEPT", "PASS", "PASS"]
        server.refuse = (grpc.StatusCode.NOT_FOUND, "NOT_PERMITTED", {})
        with pytest.raises(lanjie.PermissionDenied):
            await client.check(uscc(1), **ASK)
        server.refuse = None
        server.stop()
        assert (await client.check(uscc(1), **ASK)).reason is UndeterminedReason.UNAVAILABLE


@pytest.mark.asyncio
async def test_closing_cancels_no_task_and_a_task_that_is_cancelled_ends(server, tmp_path):
    client = lanjie.AsyncClient(server.address, token=TOKEN, state_dir=tmp_path, timeout=5.0)
    server.delay = 2.0
    check, many, cancelled = (
        asyncio.create_task(client.check(uscc(1), **ASK)),
        asyncio.create_task(client.check_many([uscc(1)], **ASK)),
        asyncio.create_task(client.check(uscc(2), **ASK)),
    )
    while server.calls.count("Check") < 2:  # noqa: ASYNC110  it has no loop
        await asyncio.sleep(0.01)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await client.close()
    assert {(await check).reason, (await many)[0].reason} == {UndeterminedReason.UNAVAILABLE}


FORKING = """
import os, sys, warnings
import lanjie
warnings.simplefilter("ignore")
client = lanjie.Client(sys.argv[1], token=sys.argv[2], trust={"sign-fake": sys.argv[3]}, state_dir=sys.argv[4],
                       upload_interval=0.1, timeout=5.0)
ask = {"matter": "procurement.supplier", "purpose": "x"}
client.wait_ready(10)
client.check(sys.argv[5], **ask)
child = os.fork()
if child == 0:
    try:
        remote = client.check(sys.argv[5], **ask).source.name
        client.wait_ready(10)
        local = client.check(sys.argv[6], **ask).source.name
        client.close()
        print("child", remote, local, flush=True)
    except BaseException as error:
        print("child", repr(error), flush=True)
    finally:
        os._exit(0)
os.waitpid(child, 0)
print("parent", client.check(sys.argv[5], **ask).source.name, client.check(sys.argv[6], **ask).source.name, flush=True)
client.close()
"""


def test_a_client_in_use_may_be_forked(server, tmp_path):
    server.fake.list_subject(uscc(1))
    key = server.fake.trust["sign-fake"].hex()
    done = subprocess.run(
        [sys.executable, "-c", FORKING, server.address, TOKEN, key, str(tmp_path), uscc(1), uscc(2)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "GRPC_VERBOSITY": "ERROR"},
    )
    assert done.stdout.splitlines() == ["child GATEWAY LOCAL", "parent GATEWAY LOCAL"]
    assert len(server.fake.local_passes) == 2
