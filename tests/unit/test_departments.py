"""The departments file: what it says, and that a fault refuses it whole, by name."""

import dataclasses
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lanjie_gateway.adapters.departments_file import read_departments
from lanjie_gateway.adapters.keys import KeysLostError
from lanjie_gateway.api.auth import Tokens
from lanjie_gateway.domain.access import Management, Role
from lanjie_gateway.domain.departments import DepartmentsRefused, parse
from lanjie_gateway.domain.errors import Refused
from lanjie_matcher.catalogues import Level
from tests.support.serve import run
from tests.support.signing import KEY

GOOD = f"""
[departments.nanjing-market]
name = "示例市市场监管局"
region = "320100"
units = ["示例市 市场监督管理局", "11320100-MB0000000X"]
list_types = ["TAX", "WAGE"]

[departments.nanjing-market.persons]
anna = {{roles = ["authority"]}}
bert = {{roles = ["authority", "inquirer"]}}

[departments.credit]
name = "示例省信用办"
region = "320000"

[departments.credit.persons]
mara = {{roles = ["manager"], level = "provincial", signing_keys = ["{KEY.public.text}"]}}
"""
DEPARTMENTS = parse(GOOD.encode())


def test_a_file_says_who_writes_and_who_publishes():
    market, credit = DEPARTMENTS
    anna, bert = market.principals("320000")
    assert (anna.actor, anna.region) == ("nanjing-market/anna", "320100")
    assert anna.roles == {Role.AUTHORITY}
    assert bert.roles == {Role.AUTHORITY, Role.INQUIRER}
    assert anna.may_write("TAX", "320102")
    assert anna.may_write("WAGE", "")
    assert not anna.may_write("TAX", "320500")
    assert not anna.may_write("FOOD", "320100")
    for unit in ("示例市市场监管局", "示例市市场监督管理局", "11320100MB0000000x"):
        assert anna.identified(unit, "")
    assert not anna.identified("示例市税务局", "")
    (mara,) = credit.principals("320000")
    assert mara.manages == Management(level=Level.PROVINCIAL, region="320000")
    assert mara.signing_keys == (KEY.public,)
    assert not mara.may_write("TAX", "320000")
    assert mara.may_publish(Level.PROVINCIAL, "320000")
    assert not mara.may_publish(Level.NATIONAL, "000000")


def test_nobody_of_a_file_is_without_bounds():
    for department in DEPARTMENTS:
        for principal in department.principals("320000"):
            assert principal.writes is not None
            assert principal.manages is not None or Role.MANAGER not in principal.roles


FAULTS = [
    ("key-unknown", 'region = "320100"', 'region = "320100"\nlist_type = ["TAX"]'),
    ("key-unknown", "[departments.credit]", "[department.credit]"),
    ("key-unknown", 'anna = {roles = ["authority"]}', 'anna = {roles = ["authority"], level = "municipal"}'),
    ("key-missing", 'name = "示例省信用办"\n', ""),
    ("key-missing", 'level = "provincial", ', ""),
    ("key-missing", f', signing_keys = ["{KEY.public.text}"]', ""),
    ("type", 'list_types = ["TAX", "WAGE"]', 'list_types = "TAX"'),
    ("type", 'name = "示例省信用办"', "name = 1"),
    ("code", "[departments.nanjing-market", '[departments."../keys"'),
    ("code", "anna =", '"../anna" ='),
    ("local", "[departments.nanjing-market", "[departments.local"),
    ("role-unknown", '["authority"]', '["root"]'),
    ("role-unknown", '["authority"]', "[]"),
    ("region", 'region = "320100"', "region = 320100"),
    ("region", 'region = "320100"', 'region = "3201"'),
    ("region", 'level = "provincial"', 'level = "municipal"'),
    ("region", 'level = "provincial"', 'level = "provincial", region = "330000"'),
    ("level", 'level = "provincial"', 'level = "highest"'),
    ("list-types", 'list_types = ["TAX", "WAGE"]\n', ""),
    ("list-types", '["TAX", "WAGE"]', '["TAX WAGE"]'),
    ("key", KEY.public.text, "ed25519:00"),
    ("key", KEY.public.text, f"rot13:{'0' * 64}"),
    ("key-twice", "[departments.credit.persons]", "[departments.credit.persons]\n%s"),
    ("toml", "[departments.credit]", "[departments.credit"),
]


@pytest.mark.parametrize(("rule", "old", "new"), FAULTS)
def test_a_fault_refuses_the_file_by_name(rule, old, new):
    mara = GOOD[GOOD.index("mara =") :].replace("mara", "max")
    text = GOOD.replace(old, new.replace("%s", mara))
    assert text != GOOD
    with pytest.raises(DepartmentsRefused) as refused:
        parse(text.encode())
    assert refused.value.rule == rule
    assert rule in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"\xff", b"#" * (1 << 20) + b"#"])
def test_what_is_no_such_file_is_refused(content):
    with pytest.raises(DepartmentsRefused):
        parse(content)


def test_tokens_are_made_once_and_tell_the_person(tmp_path: Path):
    first = Tokens(tmp_path / "tokens", b"k" * 32, "320000", DEPARTMENTS)
    file = tmp_path / "tokens" / "nanjing-market" / "anna.token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.signing_key.stat().st_mode) == 0o600
    metadata = [("authorization", f"Bearer {file.read_text()}")]
    again = Tokens(tmp_path / "tokens", b"k" * 32, "320000", DEPARTMENTS)
    for tokens in (first, again):
        found = tokens.principal(metadata, "ipv4:127.0.0.1:1")
        assert found == next(DEPARTMENTS[0].principals("320000"))
    manager = [("authorization", f"Bearer {first.files['manager'].read_text()}")]
    assert again.principal(manager, "unix:") == first.principal(manager, "unix:")
    assert len(again.principal(manager, "unix:").signing_keys) == 1
    # Who has left the file is nobody, whatever lies in the directory.
    with pytest.raises(Refused):
        Tokens(tmp_path / "tokens", b"k" * 32, "320000").principal(metadata, "unix:")


def test_two_persons_with_one_token_refuse_the_start(tmp_path: Path):
    files = Tokens(tmp_path / "tokens", b"k" * 32, "320000", DEPARTMENTS).files
    own = files["manager"].read_text()
    copied = tmp_path / "tokens" / "nanjing-market" / "anna.token"
    copied.write_text(own)
    with pytest.raises(KeysLostError, match=r"anna\.token holds the token of local/manager") as refused:
        Tokens(tmp_path / "tokens", b"k" * 32, "320000", DEPARTMENTS)
    assert own not in str(refused.value)
    copied.unlink()
    Tokens(tmp_path / "tokens", b"k" * 32, "320000", DEPARTMENTS)


def test_processes_that_start_at_once_agree_on_the_tokens(tmp_path: Path):
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: Tokens(tmp_path / "t", b"k" * 32, "320000", DEPARTMENTS), range(4)))
    assert all(each._principals == made[0]._principals for each in made)


def test_a_bad_file_refuses_the_start_with_one_line(tmp_path: Path):
    (tmp_path / "departments.toml").write_text(GOOD.replace("320100", "3201"))
    refused = run("serve", "--state", str(tmp_path), "--listen", "127.0.0.1:0")
    assert refused.code == 2
    (line,) = refused.err.strip().splitlines()
    assert line.startswith("error: departments file: department nanjing-market region: ")


def test_a_file_that_is_named_must_be_there(tmp_path: Path):
    assert read_departments(tmp_path, None) == b""
    with pytest.raises(OSError, match="missing"):
        read_departments(tmp_path, tmp_path / "missing.toml")


def test_another_person_is_another_value():
    one, two = DEPARTMENTS[0].principals("320000")
    assert one != dataclasses.replace(two, roles=one.roles)
