"""The certificate of a client: from files, renewed, never beside a token; failed handshakes in words."""

import json

import pytest

import lanjie
from lanjie._options import gateway_file
from lanjie._tls import Renewal, explain
from tests.support.certificates import Authority, Desk, replace


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path / "certificates")


def test_renewed_files_are_used_once_they_are_whole(desk):
    now = 0.0
    tls = desk.tls(desk.authority.issue("URI:a://b"))
    renewal = Renewal(tls, lambda: now)

    def later():
        nonlocal now
        now += 2
        return renewal.now()

    assert later() is tls
    leaf = desk.authority.issue("URI:a://b")
    desk.tls(leaf)
    assert renewal.now() is tls
    assert later() is tls
    renewed = later()
    assert renewed is not None
    assert (renewed.cert, renewed.key) == (leaf.cert, leaf.key)
    # A certificate without its key, then none at all: the last good ones go on, until the files are good again.
    replace(tls.files[1], desk.authority.issue("URI:a://b").cert)
    assert [later(), later(), later()] == [renewed] * 3
    tls.files[2].unlink()
    assert [later(), later()] == [renewed] * 2
    leaf = desk.authority.issue("URI:a://b")
    desk.tls(leaf)
    later()
    again = later()
    assert again is not None
    assert again.cert == leaf.cert


def test_parts_that_do_not_belong_together_are_refused(desk):
    cert, key = desk.authority.issue("URI:a://b").write(desk.directory, "one")
    other, _ = Authority().issue("URI:a://b").write(desk.directory, "other")
    missing = desk.directory / "missing"
    for ca, own, private in ((desk.ca, other, key), (key, cert, key), (desk.ca, missing, key), (desk.ca, cert, cert)):
        with pytest.raises(lanjie.InvalidArgument) as refused:
            lanjie.Tls.from_files(ca=ca, cert=own, key=private)
        assert (refused.value.field, refused.value.rule) == ("tls", "files")
        assert "-----" not in str(refused.value)


def test_a_certificate_takes_the_place_of_a_token(desk, tmp_path):
    tls = desk.tls(desk.authority.issue("URI:a://b"))
    with pytest.raises(lanjie.InvalidArgument) as refused:
        lanjie.Client("localhost:1", token="t", tls=tls)
    assert refused.value.field == "token"
    file, token = tmp_path / "gateway.json", tmp_path / "inquirer.token"
    token.write_text("secret")
    content = {"screening": "127.0.0.1:1", "trusted_keys": {}, "tokens": {"inquirer": "inquirer.token"}}
    file.write_text(json.dumps(content))
    assert gateway_file(file, "inquirer")["token"] == "secret"
    with pytest.raises(lanjie.InvalidArgument, match="no listener with TLS"):
        gateway_file(file, "inquirer", tls)
    file.write_text(json.dumps(content | {"tls": {"screening": "gateway.example:1"}}))
    assert gateway_file(file, "inquirer", tls) == {"target": "gateway.example:1", "trust": {}}


def test_only_handshakes_are_explained():
    for said in ("", "Socket closed", "last error: UNAVAILABLE: ipv4:10.0.0.1:1: connection refused"):
        assert explain(said) == ""
    assert "own certificate" in explain("connections to all backends failing; last error: UNAVAILABLE: Socket closed")
