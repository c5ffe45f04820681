"""`lanjie grant` against a gateway: two persons for what widens, ends at once, a whole history (Art. 39, 61)."""

import asyncio
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused
from lanjie_matcher.civil_time import SHANGHAI
from tests.support.gateway import RunningGateway, person, running
from tests.support.grants import file
from tests.support.serve import Result
from tests.support.serve import run as lanjie

NOW = datetime.datetime(2026, 3, 2, 10, 0, tzinfo=SHANGHAI)
FIRST, SECOND = person("agency", Role.AGENCY), person("controller", Role.AGENCY)
WHY = ("--reason", "test", "--json")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("grants") / "gateway", NOW) as made:
        yield made


def run(gateway: RunningGateway, *arguments: str) -> Result:
    return lanjie("grant", *arguments, gateway_file=gateway.file)


def put(gateway: RunningGateway, tmp_path: Path, department: str, **changes: Any) -> Result:
    path = tmp_path / "grant.toml"
    path.write_bytes(file(department, **changes))
    return run(gateway, "set", str(path), *WHY)


def worker_knows(gateway: RunningGateway, department: str) -> bool:
    return gateway.inner.worker.grants.current.of(department) is not None


def test_a_grant_waits_works_narrows_at_once_and_ends_at_once(gateway: RunningGateway, tmp_path: Path) -> None:
    waits = put(gateway, tmp_path, "housing", matters=["license.food", "procurement.supplier"])
    assert waits.code == 4, waits.err
    act = waits.json["act"]
    assert (act["state"], waits.json["widens"], act["revision"]) == ("waiting", ["grant"], 0)
    assert waits.json["warnings"]
    assert not worker_knows(gateway, "housing")
    assert [each["act_id"] for each in run(gateway, "waiting", "--json").json] == [act["act_id"]]
    token = gateway.state / "tokens" / "agency.token"
    alone = run(gateway, "confirm", act["act_id"], "--token-file", str(token))
    assert (alone.code, "SECOND_PERSON_REQUIRED" in alone.err) == (2, True)
    done = run(gateway, "confirm", act["act_id"], "--json").json["act"]
    assert (done["state"], done["second"]) == ("done", "local/controller")
    assert worker_knows(gateway, "housing")
    narrowed = put(gateway, tmp_path, "housing", matters=["license.food"])
    assert (narrowed.code, narrowed.json["act"]["state"], narrowed.json["widens"]) == (0, "done", [])
    assert gateway.inner.worker.grants.current.of("housing").matters == {"license.food"}  # type: ignore[union-attr]
    assert run(gateway, "show", "housing", "--json").json["grant"]["matters"] == ["license.food"]
    assert (
        run(gateway, "show", "housing").code
        == run(gateway, "list").code
        == run(gateway, "history", "housing").code
        == 0
    )
    assert [each["department"] for each in run(gateway, "list", "--json").json] == ["housing"]
    ended = run(gateway, "end", "housing", "--document", "测授〔2026〕9号", *WHY)
    assert ended.json["act"]["kind"] == "end"
    assert not worker_knows(gateway, "housing")
    assert run(gateway, "show", "housing").code == 2
    assert run(gateway, "end", "housing", "--document", "x", *WHY).code == 2
    history = run(gateway, "history", "housing", "--json").json
    assert [(each["kind"], each["state"]) for each in history] == [("set", "done"), ("set", "done"), ("end", "done")]
    assert [each["revision"] for each in history] == sorted(each["revision"] for each in history)
    assert all(each["actor"] and each["reason"] and each["document"] for each in history)


def test_what_waited_is_outdated_by_whatever_works_meanwhile(gateway: RunningGateway, tmp_path: Path) -> None:
    for matters in (["license.food"], ["funds.fiscal"]):
        assert put(gateway, tmp_path, "water", matters=matters).code == 4
    first, second = (each["act_id"] for each in run(gateway, "waiting", "--json").json if each["department"] == "water")
    assert run(gateway, "confirm", first).code == 0
    refused = run(gateway, "confirm", second)
    assert (refused.code, "IMPORT_OUTDATED" in refused.err) == (2, True)
    assert run(gateway, "decline", second, *WHY).json["act"]["state"] == "declined"
    assert run(gateway, "decline", second, *WHY).code == 2
    assert run(gateway, "waiting", "--json").json == []
    assert run(gateway, "waiting").out == "no grants\n"


def test_a_name_in_a_certificate_is_of_one_department(gateway: RunningGateway, tmp_path: Path) -> None:
    name = {"URI:spiffe://test/one": "anna"}
    waits = [put(gateway, tmp_path, each, identities=name).json["act"]["act_id"] for each in ("one", "two")]
    assert run(gateway, "confirm", waits[0]).code == 0
    for again in (run(gateway, "confirm", waits[1]), put(gateway, tmp_path, "two", identities=name)):
        assert (again.code, "identity-taken" in again.err) == (2, True)
    asker = gateway.inner.worker.grants.identify("URI:spiffe://test/one")
    assert asker is not None
    assert (asker.department, asker.person, asker.roles) == ("one", "anna", frozenset({Role.INQUIRER}))


def test_confirmed_at_the_same_time_a_name_in_a_certificate_is_still_of_one_department(
    gateway: RunningGateway,
) -> None:
    service, name = gateway.inner.control.grants, {"URI:spiffe://test/race": "anna"}
    brought = [gateway.run(service.bring(file(each, identities=name), "test", FIRST)) for each in ("left", "right")]

    async def confirm() -> list[object]:
        confirmed = (service.confirm(each.act.id, SECOND) for each in brought)
        return await asyncio.gather(*confirmed, return_exceptions=True)

    refused = [each for each in gateway.run(confirm()) if isinstance(each, Refused)]
    assert [each.metadata.get("rule") for each in refused] == ["identity-taken"]


def test_grants_are_there_after_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "gateway"
    with running(state, NOW) as gateway:
        service = gateway.inner.control.grants
        done = gateway.run(service.bring(file("housing"), "test", FIRST))
        gateway.run(service.confirm(done.act.id, SECOND))
        before = gateway.inner.worker.grants.current.of("housing")
        with pytest.raises(Refused):
            gateway.run(service.bring(file("housing"), "", FIRST))
    with running(state, NOW) as gateway:
        assert gateway.inner.worker.grants.current.of("housing") == before
        assert gateway.inner.control.grants.book.current.of("housing") == before
