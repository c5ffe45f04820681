"""Who calls, by certificate or token, and where listeners may stand."""

import asyncio
import datetime
from pathlib import Path
from typing import Any

import pytest

import lanjie
from lanjie_gateway.adapters.certificates import CertificateFiles, Certificates, read
from lanjie_gateway.api.auth import Callers, Tokens
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.departments import DepartmentsRefused, parse
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.identities import parse_identity, presented
from lanjie_gateway.settings import Settings
from tests.support.certificates import Authority, Desk

WINDOW = "URI:spiffe://gov.example/housing/window"
FILE = f"""
[departments.housing]
name = "示例市住建局"
region = "320100"
[departments.housing.persons]
window = {{roles = ["inquirer"], identities = ["{WINDOW}", "DNS:Counter.Example"]}}
upstairs = {{roles = ["inquirer"]}}
"""
LOCAL, NETWORK = "ipv4:127.0.0.1:40000", "ipv4:10.0.0.1:40000"


class Call:
    """The context of a call."""

    def __init__(self, token="", peer=LOCAL, uris=None, names=(), **properties):
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._peer = peer
        self._connection = {"transport_security_type": [b"ssl" if uris is not None else b"insecure"], **properties}
        if uris is not None:
            self._connection |= {"x509_pem_cert": [b"-----BEGIN"], "peer_uri": list(uris), "peer_dns": list(names)}

    def auth_context(self):
        return self._connection

    def invocation_metadata(self):
        return self._metadata

    def peer(self):
        return self._peer


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return Tokens(tmp_path_factory.mktemp("tokens"), b"k" * 32, "320000")


def granted(department, person="clerk"):
    return Principal(department=department, person=person, roles=frozenset({Role.INQUIRER}), region="320100")


def who(tokens, call, grants=None):
    try:
        return Callers(tokens, parse(FILE.encode()), "320000", (grants or {}).get).identify(call).actor
    except Refused as refused:
        return refused.reason if str(refused) == "no credentials, or none that are known here" else str(refused)


def test_art_39_grants_and_departments_say_who_a_certificate_is(tokens):
    grants = {"URI:a://b": granted("tax"), "DNS:tax.example": granted("tax"), "DNS:counter.example": granted("tax")}
    asked = {
        ((b"a://b",), ()): "tax/clerk",
        ((b"a://b",), (b"TAX.example",)): "tax/clerk",
        ((WINDOW.removeprefix("URI:").encode(),), ()): "housing/window",
        # One name, two persons; two names, two persons.
        ((), (b"counter.example",)): "CREDENTIALS_INVALID",
        ((WINDOW.removeprefix("URI:").encode(), b"a://b"), ()): "CREDENTIALS_INVALID",
        ((b"a://c", b"\xff", b"A://b"), (b"*.example", b"", b"tax.example\x00.evil")): "CREDENTIALS_INVALID",
        ((), ()): "CREDENTIALS_INVALID",
    }
    for (uris, names), told in asked.items():
        assert who(tokens, Call(uris=uris, names=names), grants) == told
    same = {"DNS:counter.example": granted("housing", "window")}
    assert who(tokens, Call(uris=(), names=(b"counter.example",)), same) == "housing/window"


def test_art_43_a_token_counts_on_this_machine_only(tokens):
    token = tokens.files["inquirer"].read_text()
    for peer in (LOCAL, "unix:", "unix:/run/x", "ipv6:[::1]:1", "ipv6:%5B::1%5D:1"):
        assert who(tokens, Call(token, peer)) == "local/inquirer"
    for peer in (NETWORK, "ipv4:12.7.0.1:1", "ipv6:[::12]:1", "ipv6:[2001:db8::1]:1", "", "dns:localhost"):
        assert who(tokens, Call(token, peer)) == "CREDENTIALS_INVALID"
        over_tls = Call(token, peer, transport_security_type=[b"ssl"])
        assert who(tokens, over_tls) == "CREDENTIALS_INVALID"
    assert who(tokens, Call(token, uris=())) == "CREDENTIALS_INVALID"
    assert who(tokens, Call(token, uris=(), x509_common_name=[b"counter.example"])) == "CREDENTIALS_INVALID"


@pytest.mark.parametrize(
    "text", ["", "spiffe://x/y", "URI:", "URI:x", "uri:a://b", "URI:a://b c", "URI:a://*", "DNS:", "DNS:*.example"]
)
def test_what_is_no_identity_is_refused_by_rule(text):
    with pytest.raises(ValueError, match="name of a certificate"):
        parse_identity(text)
    with pytest.raises(DepartmentsRefused) as refused:
        parse(FILE.replace(WINDOW, text or "CN:x").encode())
    assert refused.value.rule == "identity"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('upstairs = {roles = ["inquirer"]', f'upstairs = {{roles = ["inquirer"], identities = ["{WINDOW}"]'),
        ('upstairs = {roles = ["inquirer"]', 'upstairs = {roles = ["inquirer"], identities = ["DNS:COUNTER.example"]'),
        (WINDOW, "DNS:counter.example"),
    ],
)
def test_an_identity_is_one_persons(old, new):
    with pytest.raises(DepartmentsRefused) as refused:
        parse(FILE.replace(old, new).encode())
    assert refused.value.rule == "identity-twice"


def test_a_dns_name_has_one_form():
    assert list(presented([b"a://B"], [b"X.Example"])) == ["URI:a://B", "DNS:x.example"]
    assert parse_identity("DNS:X.Example") == "DNS:x.example"


FILES: dict[str, Any] = {"tls_cert": Path("a"), "tls_key": Path("b"), "tls_client_ca": Path("c")}
TLS: dict[str, Any] = {**FILES, "advertise": "gateway.example"}


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        ("tls-required", {"listen": "0.0.0.0:7700"}),
        ("tls-required", {"feed": "10.0.0.1:1"}),
        ("tls-required", {"admin": "[::]:1"}),
        ("tls-required", {"listen": "gateway.example:1"}),
        ("tls-parts", {"tls_cert": Path("a")}),
        ("tls-parts", {"tls_cert": Path("a"), "tls_key": Path("b")}),
        ("tls-parts", {"tls_client_ca": Path("a"), "listen": "0.0.0.0:7700"}),
        ("advertise", {**FILES, "listen": "0.0.0.0:7700"}),
        ("advertise", {**FILES, "feed": "[::]:7700"}),
        ("loopback", {"metrics": "0.0.0.0:1"}),
        ("loopback", {**TLS, "metrics": "10.0.0.1:1"}),
        ("loopback", {**TLS, "plain_listen": "0.0.0.0:1"}),
        ("loopback", {**TLS, "plain_feed": "10.0.0.1:1"}),
        ("loopback", {**TLS, "plain_admin": "localhost.example:1"}),
        ("", {}),
        ("", {"listen": "[::1]:1", "feed": "localhost:1", "admin": "127.0.0.2:1", "metrics": "127.0.0.1:1"}),
        ("", {**TLS, "listen": "0.0.0.0:7700", "feed": "[::]:1"}),
        ("", {**FILES, "listen": "10.0.0.1:7700"}),
    ],
)
def test_art_43_nothing_is_listened_on_in_the_clear_beyond_this_machine(tmp_path, rule, settings):
    made = Settings(state=tmp_path, **settings)
    if not rule:
        made.check_listeners()
        return
    with pytest.raises(ValueError, match=rf"\(rule {rule}\)"):
        made.check_listeners()


def test_what_others_are_told_of_a_listener(tmp_path):
    made = Settings(state=tmp_path, **TLS)
    assert made.advertised("0.0.0.0:7700") == "gateway.example:7700"
    assert made.advertised("127.0.0.1:7700") == "127.0.0.1:7700"
    assert Settings(state=tmp_path).advertised("10.0.0.1:1") == "10.0.0.1:1"
    assert Settings(state=tmp_path, advertise="2001:db8::1").advertised("[::]:1") == "[2001:db8::1]:1"


async def test_files_are_followed_and_half_written_ones_wait(tmp_path):
    desk = Desk(tmp_path)
    now = datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC)
    paths = CertificateFiles(cert=desk.cert, key=desk.key, client_ca=desk.client_ca)
    certificates = Certificates(paths, lambda: now, look_seconds=0.01)
    first, leaf = certificates.now, desk.authority.gateway(until=now + datetime.timedelta(days=40))
    desk.cert.write_bytes(leaf.cert)
    certificates.look()
    desk.key.write_bytes(leaf.key)  # between two looks: no fault, and not yet taken
    certificates.look()
    assert (certificates.now, certificates.fault) == (first, "")
    certificates.start()
    async with asyncio.timeout(10):
        while certificates.now is first:  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.01)
    assert certificates.days_left(certificates.now.ends_at) == 40
    waiting = desk.authority.issue("DNS:localhost", since=now + datetime.timedelta(days=1))
    desk.renew(waiting)
    async with asyncio.timeout(10):
        while "not-yet" not in certificates.fault:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    now += datetime.timedelta(days=2)
    async with asyncio.timeout(10):
        while certificates.fault:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert certificates.now.chain == waiting.cert
    await certificates.close()


def test_no_key_is_shown(tmp_path):
    desk = Desk(tmp_path)
    held = read(CertificateFiles(cert=desk.cert, key=desk.key, client_ca=desk.client_ca))
    for shown in (repr(held), repr(desk.tls(Authority().issue(WINDOW))), repr(lanjie.Tls(b"a", b"b", b"secret"))):
        assert "PRIVATE" not in shown
        assert "secret" not in shown
