"""Mutual TLS over real sockets: who calls, what is refused, and certificates that are replaced meanwhile."""

import asyncio
import base64
import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import lanjie
from lanjie import Outcome, Source, SyncState
from lanjie._transport import translate
from lanjie.v1 import ledger_pb2, ledger_pb2_grpc, screening_pb2, screening_pb2_grpc, sync_pb2, sync_pb2_grpc
from lanjie_gateway.adapters.certificates import CertificateFiles, Certificates
from tests.integration.test_answers import row
from tests.support.certificates import Authority, Desk, Leaf, replace
from tests.support.gateway import MovableClock, RunningGateway, running
from tests.support.grants import give
from tests.support.serve import run
from tests.support.subjects import uscc

DATA = Path(__file__).parents[1] / "data"
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
PAST = datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC)
LISTED, UNLISTED = uscc(1), uscc(2)
ASK: dict[str, Any] = {"matter": "procurement.supplier", "purpose": "test of certificates"}
WINDOW = "URI:spiffe://gov.example/housing/window"
RUNS = "URI:spiffe://gov.example/centre/runs"
DEPARTMENTS = f"""
[departments.housing]
name = "示例市住建局"
region = "320100"
[departments.housing.persons]
window = {{roles = ["inquirer"], identities = ["{WINDOW}", "DNS:Counter.Housing.Example"]}}
upstairs = {{roles = ["inquirer"], identities = ["URI:spiffe://gov.example/housing/upstairs"]}}

[departments.centre]
name = "示例省信用中心"
region = "320000"
[departments.centre.persons]
runs = {{roles = ["agency"], identities = ["{RUNS}"]}}
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, desk: Desk) -> Iterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("tls")
    departments = directory / "departments.toml"
    departments.write_text(DEPARTMENTS)
    with running(directory / "state", NOW, departments=departments, **desk.settings) as gateway:
        gateway.publish(DATA / "national.yaml", DATA / "provincial.yaml")
        gateway.import_rows([row(LISTED, "TAX")])
        first, last = (str((NOW + datetime.timedelta(days=days)).date()) for days in (-30, 30))
        since: dict[str, Any] = {"valid_from": first, "document": {"number": "1", "date": first}}
        give(gateway, "housing", matters=["procurement.supplier"], valid_until=last, **since)
        yield gateway


@pytest.fixture(autouse=True)
def _as_before(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give the gateway the certificates back that it began with."""
    yield
    if "gateway" in request.fixturenames:
        gateway, desk = request.getfixturevalue("gateway"), request.getfixturevalue("desk")
        desk.trust(desk.authority)
        desk.renew(desk.authority.gateway())
        look(gateway)


def look(gateway: RunningGateway) -> None:
    """Have control and worker see what has changed; the second look takes it."""
    for process in (gateway.inner.control, gateway.inner.worker):
        assert process.certificates is not None
        for _ in range(2):
            process.certificates.look()


def addresses(gateway: RunningGateway) -> dict[str, str]:
    control = gateway.inner.control
    return {"screening": control.screening_tls, "feed": control.feed.tls, "admin": control.admin.tls}


def ask(address: str, leaf: Leaf | None, listener: str, *, ca: bytes, token: str = "") -> str:
    """Ask a listener something over a connection of its own; return what came of it."""
    credentials = grpc.ssl_channel_credentials(ca, leaf.key if leaf else None, leaf.cert if leaf else None)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    # Channels with the same options share connections unless they are told not to.
    with grpc.secure_channel(address, credentials, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            match listener:
                case "screening":
                    stub: Any = screening_pb2_grpc.ScreeningServiceStub(channel).Discover
                    stub(screening_pb2.DiscoverRequest(), timeout=5, metadata=metadata)
                case "feed":
                    state = sync_pb2.PullRequest(state=sync_pb2.ClientState(sdk_id="0" * 32))
                    list(sync_pb2_grpc.SyncServiceStub(channel).Pull(state, timeout=5, metadata=metadata))
                case "admin":
                    stub = ledger_pb2_grpc.LedgerServiceStub(channel).GetSyncStatus
                    stub(ledger_pb2.GetSyncStatusRequest(), timeout=5, metadata=metadata)
        except grpc.RpcError as error:
            translated = translate(error, lanjie.Tls(ca))
            return translated.reason or str(translated)
    return "ok"


CLIENTS: dict[str, tuple[Callable[[Authority], Leaf], dict[str, str]]] = {
    "URI": (lambda ca: ca.issue(WINDOW), {"screening": "ok", "feed": "ok", "admin": "NOT_PERMITTED"}),
    "DNS, in capitals": (lambda ca: ca.issue("DNS:COUNTER.housing.example"), {"screening": "ok"}),
    "both of one person": (lambda ca: ca.issue("DNS:counter.housing.example", WINDOW), {"screening": "ok"}),
    "another department": (lambda ca: ca.issue(RUNS), {"screening": "ok", "admin": "ok"}),
    "one known and one of nobody": (lambda ca: ca.issue(WINDOW, "DNS:x.example"), {"screening": "ok"}),
    "two persons": (lambda ca: ca.issue(WINDOW, RUNS), {}),
    "two of a department": (lambda ca: ca.issue(WINDOW, "URI:spiffe://gov.example/housing/upstairs"), {}),
    "nobody": (lambda ca: ca.issue("URI:spiffe://gov.example/housing"), {}),
    "longer": (lambda ca: ca.issue(f"{WINDOW}/x"), {}),
    "URI in capitals": (lambda ca: ca.issue("URI:spiffe://gov.example/housing/WINDOW"), {}),
    "pattern": (lambda ca: ca.issue("DNS:*.housing.example"), {}),
    "no name": (lambda ca: ca.issue(), {}),
    "common name only": (lambda ca: ca.issue(common_name="counter.housing.example"), {}),
    "common name with another": (lambda ca: ca.issue("DNS:x.example", common_name=WINDOW.removeprefix("URI:")), {}),
    "mail box": (lambda ca: ca.issue("EMAIL:window@counter.housing.example"), {}),
    "the gateway's own": (lambda ca: ca.gateway(), {}),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_art_39_a_name_of_the_certificate_says_who_calls(gateway, desk, name):
    make, allowed = CLIENTS[name]
    leaf = make(desk.authority)
    for listener, address in addresses(gateway).items():
        if allowed and listener not in allowed:
            continue
        assert ask(address, leaf, listener, ca=desk.authority.pem) == allowed.get(listener, "CREDENTIALS_INVALID")


def test_art_43_what_no_authority_vouches_for_reaches_no_listener(gateway, desk):
    foreign = Authority()
    clients = [None, foreign.issue(WINDOW), desk.authority.issue(WINDOW, until=PAST)]
    clients.append(desk.authority.issue(WINDOW, since=datetime.datetime(2048, 1, 1, tzinfo=datetime.UTC)))
    # A key of its own does not make another's certificate good.
    for leaf in clients:
        for listener, address in addresses(gateway).items():
            assert "closed at the handshake" in ask(address, leaf, listener, ca=desk.authority.pem)


def test_a_certificate_decides_whatever_token_comes_with_it(gateway, desk):
    tokens = gateway.inner.control._tokens.files
    admin = addresses(gateway)["admin"]

    def asked(leaf: Leaf, person: str) -> str:
        return ask(admin, leaf, "admin", ca=desk.authority.pem, token=tokens[person].read_text())

    assert asked(desk.authority.issue(WINDOW), "agency") == "NOT_PERMITTED"
    assert asked(desk.authority.issue(RUNS), "inquirer") == "ok"
    for nobody in (desk.authority.issue(), desk.authority.issue("DNS:x.example"), desk.authority.issue(WINDOW, RUNS)):
        assert asked(nobody, "agency") == "CREDENTIALS_INVALID"


def test_unknown_and_missing_credentials_read_alike(gateway, desk):
    def refusal(channel: grpc.Channel) -> tuple[Any, ...]:
        stub = screening_pb2_grpc.ScreeningServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Discover(screening_pb2.DiscoverRequest(), timeout=5)
        channel.close()
        error: Any = refused.value
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        return error.code(), error.details(), details

    nobody = desk.authority.issue("DNS:x.example")
    credentials = grpc.ssl_channel_credentials(desk.authority.pem, nobody.key, nobody.cert)
    secure = refusal(grpc.secure_channel(addresses(gateway)["screening"], credentials))
    assert secure == refusal(grpc.insecure_channel(gateway.inner.worker.address))


def test_a_counter_over_tls_syncs_passes_locally_and_intercepts(gateway, desk, tmp_path):
    tls = desk.tls(desk.authority.issue(WINDOW))
    with lanjie.Client.from_file(gateway.file, tls=tls, state_dir=tmp_path) as client:
        client.wait_ready()
        assert client.sync_status().state is SyncState.FRESH
        passed, stopped = client.check(UNLISTED, **ASK), client.check(LISTED, **ASK)
    assert (passed.outcome, passed.source) == (Outcome.PASS, Source.LOCAL)
    assert (stopped.outcome, stopped.source) == (Outcome.INTERCEPT, Source.GATEWAY)


async def test_an_asynchronous_counter_over_tls(gateway, desk, tmp_path):
    tls = desk.tls(desk.authority.issue(WINDOW))
    async with lanjie.AsyncClient.from_file(gateway.file, tls=tls, state_dir=tmp_path, local=False) as client:
        before = await client.check(LISTED, **ASK)
        desk.authority.issue(WINDOW).write(desk.directory, "client")
        transport: Any = client._transport
        old = transport._held
        for _ in range(3):
            transport._renewal._look_at = 0.0
            after = await asyncio.gather(*(client.check(LISTED, **ASK) for _ in range(4)))
            assert {each.outcome for each in after} == {before.outcome} == {Outcome.INTERCEPT}
        assert transport._held is not old


@pytest.mark.parametrize("kind", ["foreign", "expired", "other name", "own expired", "own foreign", "plain"])
def test_a_failed_handshake_says_what_to_look_at(gateway, desk, tmp_path, kind):
    own, address = desk.authority.issue(WINDOW), addresses(gateway)["screening"]
    match kind:
        case "foreign":
            desk.renew(Authority().gateway())
            said = "authority that is not trusted"
        case "expired":
            for process in (gateway.inner.control, gateway.inner.worker):
                process.certificates._clock = lambda: PAST
            desk.renew(desk.authority.gateway(until=PAST + datetime.timedelta(days=1)))
            said = "the gateway's certificate has expired"
        case "other name":
            desk.renew(desk.authority.gateway("DNS:other.example"))
            said = "another name"
        case "own expired":
            own, said = desk.authority.issue(WINDOW, until=PAST), "the own certificate has expired"
        case "own foreign":
            own, said = Authority().issue(WINDOW), "knows the authority"
        case _:
            address, said = gateway.inner.worker.address, "no TLS is spoken"
    look(gateway)
    client = lanjie.Client(address, tls=desk.tls(own), state_dir=tmp_path, local=False)
    with client, pytest.raises(lanjie.Unavailable) as unavailable:
        client.wait_ready(0.5)
    assert said in str(unavailable.value)
    assert "PRIVATE" not in str(unavailable.value)
    for process in (gateway.inner.control, gateway.inner.worker):
        process.certificates._clock = gateway.clock


def test_certificates_are_replaced_under_load_and_no_call_fails(gateway, desk, tmp_path):
    renewed = Authority("the next one")
    replace(desk.ca, desk.authority.pem + renewed.pem)
    tls = desk.tls(desk.authority.issue(WINDOW))
    stop, answers, fresh = threading.Event(), [], []

    def check(client: lanjie.Client) -> None:
        while not stop.is_set():
            answers.append(client.check(LISTED, **ASK).outcome)

    def connect(leaf: Leaf) -> None:
        while not stop.is_set():
            for listener, address in addresses(gateway).items():
                fresh.append(ask(address, leaf, listener, ca=desk.ca.read_bytes()))

    with contextlib.ExitStack() as ends, lanjie.Client.from_file(gateway.file, tls=tls, state_dir=tmp_path) as client:
        ends.callback(stop.set)
        client.wait_ready()
        threads = [threading.Thread(target=check, args=(client,), daemon=True) for _ in range(2)]
        threads.append(threading.Thread(target=connect, args=(desk.authority.issue(RUNS),), daemon=True))
        for thread in threads:
            thread.start()
        desk.trust(desk.authority, renewed)
        for leaf in (desk.authority.gateway(), renewed.gateway()):
            desk.renew(leaf)
            look(gateway)
            grow(fresh, 6)
            grow(answers, 20)
        transport: Any = client._handle.running().transport
        old = transport._channels[client._handle.options.endpoint.target]
        renewed.issue(WINDOW).write(desk.directory, "client")
        for _ in range(2):
            transport._renewal._look_at = 0.0
            grow(answers, 20)
        assert transport._channels[client._handle.options.endpoint.target] is not old
        stop.set()
        for thread in threads:
            thread.join(10)
        assert client.sync_status().state is SyncState.FRESH
    replace(desk.ca, desk.authority.pem)
    assert set(answers) == {Outcome.INTERCEPT}
    assert set(fresh) == {"ok", "NOT_PERMITTED"}  # who runs the gateway takes no set


def grow(these: list[Any], more: int, seconds: float = 20) -> None:
    """Wait until so many more have come."""
    wanted, deadline = len(these) + more, time.monotonic() + seconds
    while len(these) < wanted:
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_authorities_of_clients_are_rotated_by_a_bundle(gateway, desk):
    renewed = Authority("the next one")
    old, new = desk.authority.issue(WINDOW), renewed.issue(WINDOW)
    for trusted, welcome in (([desk.authority], [old]), ([desk.authority, renewed], [old, new]), ([renewed], [new])):
        desk.trust(*trusted)
        look(gateway)
        for leaf in (old, new):
            for listener in ("screening", "feed"):
                said = ask(addresses(gateway)[listener], leaf, listener, ca=desk.authority.pem)
                assert (said == "ok") == (leaf in welcome)


@pytest.mark.parametrize("broken", ["certificate", "key", "client-ca", "key-other", "expired", "not-yet", "unreadable"])
def test_a_broken_new_file_keeps_the_old(gateway, desk, broken):
    match broken:
        case "certificate":
            replace(desk.cert, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        case "key":
            replace(desk.key, desk.key.read_bytes()[:40])
        case "client-ca":
            replace(desk.client_ca, b"")
        case "key-other":
            replace(desk.key, desk.authority.issue().key)
        case "expired":
            desk.renew(desk.authority.gateway(until=PAST))
        case "not-yet":
            desk.renew(desk.authority.issue("DNS:localhost", since=datetime.datetime(2048, 1, 1, tzinfo=datetime.UTC)))
        case _:
            desk.client_ca.unlink()
    look(gateway)
    for process in (gateway.inner.control, gateway.inner.worker):
        assert f"(rule {broken})" in process.certificates.fault
    for listener in ("screening", "feed"):
        leaf = desk.authority.issue(WINDOW)
        assert ask(addresses(gateway)[listener], leaf, listener, ca=desk.authority.pem) == "ok"
    status = run("status", "--json", gateway_file=gateway.file).json["certificates"]
    assert broken in status["fault"]
    assert "PRIVATE KEY" not in str(status)
    desk.trust(desk.authority)
    desk.renew(desk.authority.gateway())
    look(gateway)
    assert not gateway.inner.control.certificates.fault
    assert run("status", "--json", gateway_file=gateway.file).json["certificates"]["troubles"] == []


def test_a_file_that_is_put_back_is_no_fault_any_more(tmp_path):
    desk, clock, later = Desk(tmp_path), MovableClock(NOW), NOW + datetime.timedelta(days=1)
    followed = Certificates(CertificateFiles(cert=desk.cert, key=desk.key, client_ca=desk.client_ca), clock)

    def looked() -> str:
        followed.look()
        followed.look()
        return followed.fault

    aside = {each: each.with_name(f"{each.name}.old") for each in (desk.cert, desk.key)}
    for now, old in aside.items():
        now.rename(old)
    desk.renew(desk.authority.issue("DNS:localhost", since=later))
    assert "not-yet" in looked()
    for now, old in aside.items():
        old.rename(now)
    assert not looked()
    # Who leaves it there needs to do nothing more.
    desk.renew(desk.authority.issue("DNS:localhost", since=later))
    assert "not-yet" in looked()
    clock.at = later
    assert not looked()


async def test_a_certificate_of_a_kind_that_is_not_known_is_refused_and_the_next_is_taken(tmp_path):
    desk, clock = Desk(tmp_path), MovableClock(NOW)
    files = CertificateFiles(cert=desk.cert, key=desk.key, client_ca=desk.client_ca)
    followed = Certificates(files, clock, look_seconds=0.01)
    followed.start()

    async def until(met: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not met():  # noqa: ASYNC110  files change without telling
                await asyncio.sleep(0.01)

    # On the curve of SM2, which this program does not speak; the key is the one of before.
    body = base64.b64decode(b"".join(desk.cert.read_bytes().splitlines()[1:-1]))
    known, other = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a811ccf5501822d")
    assert body.count(known) == 1
    lines = base64.encodebytes(body.replace(known, other))
    replace(desk.cert, b"-----BEGIN CERTIFICATE-----\n" + lines + b"-----END CERTIFICATE-----\n")
    await until(lambda: "(rule certificate)" in followed.fault)
    used = followed.now
    desk.renew(desk.authority.gateway())
    await until(lambda: not followed.fault and followed.now is not used)
    await followed.close()


def test_the_end_of_a_certificate_is_told_a_month_before(gateway, desk):
    for days, told in ((31, []), (29, ["the gateway's certificate expires in 28 days"])):
        desk.renew(desk.authority.gateway(until=NOW + datetime.timedelta(days=days, hours=-1)))
        look(gateway)
        status = run("status", "--json", gateway_file=gateway.file)
        assert status.json["certificates"]["troubles"] == told
    assert "28 days" in run("status", gateway_file=gateway.file).out


def test_the_command_line_shows_a_certificate_in_place_of_a_token(gateway, desk):
    cert, key = desk.authority.issue(RUNS).write(desk.directory, "runs")
    own = ["--tls-cert", str(cert), "--tls-key", str(key), "--tls-ca", str(desk.ca)]
    status = run("status", "--json", *own, gateway_file=gateway.file)
    assert status.code == 0, status.err
    assert status.json["admin"] == addresses(gateway)["admin"]
    asked = ["check", LISTED, "--matter", ASK["matter"], "--purpose", ASK["purpose"]]
    refused = run(*asked, *own, gateway_file=gateway.file)
    assert "NOT_PERMITTED" in refused.err
    cert, key = desk.authority.issue(WINDOW).write(desk.directory, "window")
    window = ["--tls-cert", str(cert), "--tls-key", str(key), "--tls-ca", str(desk.ca)]
    answer = run(*asked, "--json", *window, gateway_file=gateway.file)
    assert answer.json["outcome"] == "INTERCEPT"
    assert "NOT_PERMITTED" in run("status", *window, gateway_file=gateway.file).err
    half = run("status", "--tls-cert", str(cert), gateway_file=gateway.file)
    assert (half.code, "--tls-key and --tls-ca" in half.err) == (2, True)
    both = run(*asked, *window, "--token-file", str(desk.key), gateway_file=gateway.file)
    assert (both.code, "a certificate says who asks" in both.err) == (2, True)
    cert, key = Authority().issue(WINDOW).write(desk.directory, "foreign")
    foreign = ["--tls-cert", str(cert), "--tls-key", str(key), "--tls-ca", str(desk.ca)]
    for command in (["status"], asked):
        said = run(*command, *foreign, gateway_file=gateway.file)
        assert said.code == 2
        assert "knows the authority that issued it" in said.err
