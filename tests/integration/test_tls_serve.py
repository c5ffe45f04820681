"""`lanjie serve` with TLS in processes of its own: the same certificates in control and every worker."""

import json
import time
from pathlib import Path

import pytest

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
