"""`lanjie serve` with TLS in processes of its own: the same certificates in control and every worker."""

import json
import socket
import time
from pathlib import Path

import pytest

from lanjie_gateway import supervisor
from tests.integration.test_tls import DEPARTMENTS, WINDOW, ask
from tests.support.certificates import Authority, Desk, replace
from tests.support.serve import run, serving


@pytest.mark.long
def test_workers_and_control_take_a_renewed_certificate(tmp_path: Path):
    desk, renewed, departments = Desk(tmp_path / "tls"), Authority("the next one"), tmp_path / "departments.toml"
    departments.write_text(DEPARTMENTS)
    settings = {name: str(path) for name, path in desk.settings.items()}
    leaf = desk.authority.issue(WINDOW)
    cert, key = leaf.write(desk.directory, "client")
    with serving(tmp_path / "state", workers="2", departments=str(departments), redis_url="none", **settings) as file:
        content = json.loads(file.read_text())
        places = {name: content["tls"][name] for name in ("screening", "feed")}
        assert run("status", gateway_file=file).code == 0, "tokens, in the clear, on this machine"
        own = ["--tls-cert", str(cert), "--tls-key", str(key), "--tls-ca", str(desk.ca)]
        assert "NOT_PERMITTED" in run("status", *own, gateway_file=file).err
        for listener, address in places.items():
            assert ask(address, leaf, listener, ca=desk.authority.pem) == "ok"
            # Whoever has no certificate is not let in, over whatever listener the network sees.
            assert "closed at the handshake" in ask(address, None, listener, ca=desk.authority.pem)
        desk.renew(renewed.gateway())
        deadline, well = time.monotonic() + 20, 0
        while well < 12:  # connections in a row, dealt out to both workers
            assert time.monotonic() < deadline
            taken = all(ask(address, leaf, name, ca=renewed.pem) == "ok" for name, address in places.items())
            well = well + 1 if taken else 0
            if not taken:
                time.sleep(0.1)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("tls-required", ["--listen", "0.0.0.0:0"]),
        ("tls-required", ["--admin", "[::]:0"]),
        ("tls-parts", ["--tls-cert", "gateway.pem"]),
        ("unreadable", ["--tls-cert", "missing.pem", "--tls-key", "missing", "--tls-client-ca", "missing"]),
    ],
)
def test_serve_refuses_by_rule(tmp_path, rule, options):
    state = tmp_path / "state"
    refused = run("serve", "--state", str(state), *options)
    assert (refused.code, f"(rule {rule})" in refused.err) == (2, True)
    assert not state.exists()


def test_serve_refuses_a_key_of_another_certificate(tmp_path):
    desk = Desk(tmp_path / "tls")
    replace(desk.key, desk.authority.issue().key)
    files = ["--tls-cert", str(desk.cert), "--tls-key", str(desk.key), "--tls-client-ca", str(desk.client_ca)]
    refused = run("serve", "--state", str(tmp_path / "state"), *files)
    assert "(rule key-other)" in refused.err


@pytest.mark.parametrize(
    ("settings", "options", "said"),
    [
        ({"log_level": "loud"}, [], "log_level"),
        ({"redis_url": "valkey://:hunter2@h:1"}, [], "is not of the form redis"),
        ({"redis_url": "redis+cluster://:hunter2@h:1/1"}, [], "is not of the form redis"),
        ({"sockets": "/dev/null/sockets"}, [], "/dev/null"),
        ({}, ["--feed", "127.0.0.1:7709", "--admin", "127.0.0.1:7709"], "(rule port-twice)"),
        ({}, ["--feed", "TAKEN"], "cannot be listened on: Address already in use"),
        ({}, ["--admin", "TAKEN"], "cannot be listened on: Address already in use"),
    ],
)
def test_serve_says_what_it_cannot_use_instead_of_starting_again_and_again(
    tmp_path, monkeypatch, settings, options, said
):
    monkeypatch.setattr(supervisor, "PORT_SECONDS", 0.0)

    async def started(*_: object) -> int:
        raise AssertionError("it was started")

    monkeypatch.setattr(supervisor, "_supervise", started)
    for name, value in settings.items():
        monkeypatch.setenv(f"LANJIE_{name.upper()}", value)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        asked = [address if each == "TAKEN" else each for each in options]
        refused = run("serve", "--state", str(tmp_path / "state"), "--listen", "127.0.0.1:0", *asked)
    assert (refused.code, said in refused.err, "hunter2" in refused.err) == (2, True, False), refused.err
    assert "internal error" not in refused.err


def test_a_plain_listener_beside_one_with_tls_has_a_port(tmp_path, monkeypatch):
    desk = Desk(tmp_path / "tls")
    files = ["--tls-cert", str(desk.cert), "--tls-key", str(desk.key), "--tls-client-ca", str(desk.client_ca)]
    monkeypatch.setenv("LANJIE_PLAIN_FEED", "127.0.0.1:99999")
    refused = run("serve", "--state", str(tmp_path / "state"), "--listen", "127.0.0.1:0", *files)
    assert (refused.code, "(rule port)" in refused.err) == (2, True)
