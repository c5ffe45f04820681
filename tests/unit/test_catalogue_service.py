"""Publishing catalogues into a ledger: who may, what comes back, what a retry and a restart find."""

import datetime
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from lanjie.v1 import catalogue_pb2 as pb
from lanjie_gateway.adapters.keys import open_keys
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.api.auth import set_caller
from lanjie_gateway.api.catalogue import CatalogueServicer
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.catalogue_file import CatalogueRefused
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.services.catalogue import CatalogueService
from tests.support.signing import KEY, signed

CATALOGUES = Path(__file__).parents[2] / "examples" / "catalogues"
NATIONAL = (CATALOGUES / "national-example.yaml").read_bytes()
PROVINCIAL = (CATALOGUES / "jiangsu-example.yaml").read_bytes()
NOW = datetime.datetime(2026, 11, 23, 4, 0, tzinfo=datetime.UTC)


def principal(role: Role) -> Principal:
    return Principal(
        department="local",
        person=role.value,
        roles=frozenset({role}),
        region="320100",
        signing_keys=(KEY.public,),
    )


MANAGER = principal(Role.MANAGER)


def _request(file: bytes, name: str) -> pb.PublishRequest:
    by = signed(file)
    return pb.PublishRequest(
        file=file, file_name=name, signature=by.value, signature_algorithm=by.algorithm, key_id=by.key_id
    )


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[LedgerThread]:
    thread = LedgerThread(
        lambda: Ledger.open(
            f"sqlite:///{tmp_path / 'ledger.db'}",
            lambda generation, fresh: open_keys(tmp_path / "keys", generation, fresh=fresh),
            lambda: NOW,
        )
    )
    await thread.start()
    yield thread
    await thread.close()


@pytest.fixture
def announced() -> list[int]:
    return []


@pytest.fixture
def service(ledger: LedgerThread, announced: list[int]) -> CatalogueService:
    async def published(revision: int) -> None:
        announced.append(revision)

    return CatalogueService(ledger, published, lambda: NOW, allow_examples=True)


@pytest.mark.asyncio
async def test_a_published_edition_is_at_hand_with_its_revision(
    service: CatalogueService, announced: list[int]
) -> None:
    done = await service.publish(NATIONAL, "national.yaml", MANAGER, signature=signed(NATIONAL))
    assert done.revision == done.record.edition.revision == announced[0] > 0
    assert service.current().ever_knew("procurement.supplier")
    assert [edition.revision for edition in service.current().editions] == [done.revision]


@pytest.mark.asyncio
async def test_a_dry_run_leaves_nothing(service: CatalogueService, announced: list[int]) -> None:
    done = await service.publish(NATIONAL, "national.yaml", MANAGER, dry_run=True)
    assert (done.revision, announced) == (0, [])
    assert not service.current().ever_knew("procurement.supplier")
    assert await service.get("", "", MANAGER) == ()


@pytest.mark.asyncio
async def test_the_same_file_again_answers_what_it_did_first(service: CatalogueService, announced: list[int]) -> None:
    first = await service.publish(NATIONAL, "national.yaml", MANAGER, signature=signed(NATIONAL))
    second = await service.publish(NATIONAL, "copy.yaml", MANAGER, signature=signed(NATIONAL))
    assert second.revision == first.revision
    assert len(announced) == 1


@pytest.mark.asyncio
async def test_the_same_edition_with_other_content_is_refused(service: CatalogueService) -> None:
    await service.publish(NATIONAL, "national.yaml", MANAGER, signature=signed(NATIONAL))
    with pytest.raises(CatalogueRefused, match="edition-exists"):
        await service.publish(NATIONAL + b"# changed\n", "national.yaml", MANAGER)


@pytest.mark.asyncio
@pytest.mark.parametrize("role", [Role.INQUIRER, Role.AUTHORITY, Role.AGENCY])
async def test_only_a_manager_publishes(service: CatalogueService, role: Role) -> None:
    with pytest.raises(Refused) as refused:
        await service.publish(NATIONAL, "national.yaml", principal(role))
    assert refused.value.reason == "NOT_PERMITTED"
    assert await service.get("", "", principal(role)) == ()


@pytest.mark.asyncio
async def test_a_restart_finds_what_was_published(service: CatalogueService, ledger: LedgerThread) -> None:
    await service.publish(NATIONAL, "national.yaml", MANAGER, signature=signed(NATIONAL))
    await service.publish(PROVINCIAL, "jiangsu.yaml", MANAGER, signature=signed(PROVINCIAL))

    async def published(revision: int) -> None:
        pass

    again = CatalogueService(ledger, published, lambda: NOW, allow_examples=True)
    await again.load_all()
    assert again.current().editions == service.current().editions
    strict = CatalogueService(ledger, published, lambda: NOW, allow_examples=False)
    with pytest.raises(CatalogueRefused, match="example-refused"):
        await strict.load_all()


@pytest.mark.asyncio
async def test_the_servicer_tells_an_edition_whole(service: CatalogueService) -> None:
    servicer = CatalogueServicer(service)
    set_caller(MANAGER)
    response = await servicer.Publish(_request(NATIONAL, "national.yaml"), None)
    edition = response.edition
    assert (edition.catalogue_id, edition.level, edition.region) == ("cn-example", "national", "000000")
    assert (edition.list_types, edition.matters, edition.measures) == (13, 39, 46)
    assert edition.actor == "local/manager"
    assert edition.published_time.ToDatetime(datetime.UTC) == NOW
    await servicer.Publish(_request(PROVINCIAL, "jiangsu.yaml"), None)
    every = (await servicer.GetCatalogue(pb.GetCatalogueRequest(), None)).editions
    assert [each.catalogue_id for each in every] == ["js-example", "cn-example"]
    assert not any(each.file for each in every)
    one = (await servicer.GetCatalogue(pb.GetCatalogueRequest(catalogue_id="cn-example"), None)).editions
    assert [each.file for each in one] == [NATIONAL]
    with pytest.raises(Refused) as refused:
        await servicer.GetCatalogue(pb.GetCatalogueRequest(catalogue_id="cn-example", edition="1999"), None)
    assert refused.value.reason == "NOT_FOUND"


@pytest.mark.asyncio
async def test_a_file_name_is_bounded(service: CatalogueService) -> None:
    with pytest.raises(Refused) as refused:
        await service.publish(NATIONAL, "n" * 256, MANAGER)
    assert refused.value.metadata["field"] == "file_name"
