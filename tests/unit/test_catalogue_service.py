"""Publishing catalogues into a ledger: who may, what comes back, what a retry and a restart find."""

import dataclasses
import datetime
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from lanjie.v1 import catalogue_pb2 as pb
from lanjie_gateway.adapters.keys import open_keys
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.adapters.signing_keys import SigningKey
from lanjie_gateway.api.auth import set_caller
from lanjie_gateway.api.catalogue import CatalogueServicer
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.catalogue_file import CatalogueRefused
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.signing import Signature, SignedKind, verify
from lanjie_gateway.services.catalogue import CatalogueService
from lanjie_matcher.catalogues import Level
from tests.support import catalogues as catalogue
from tests.support.callers import manager
from tests.support.signing import KEY, signed

CATALOGUES = Path(__file__).parents[2] / "examples" / "catalogues"
NATIONAL = (CATALOGUES / "national-example.yaml").read_bytes()
PROVINCIAL = (CATALOGUES / "jiangsu-example.yaml").read_bytes()
DATA = Path(__file__).parents[1] / "data"
SMALL, LOCAL = ((DATA / f"{level}.yaml").read_bytes() for level in ("national", "provincial"))
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
OTHER = SigningKey(b"o" * 32)


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


@pytest.mark.asyncio
async def test_what_is_published_bears_a_signature_of_who_publishes_it(
    service: CatalogueService, announced: list[int]
) -> None:
    flipped = SMALL.replace(b"test-national", b"test-nationam", 1)
    wrong = [
        (None, "signature-missing"),
        (signed(SMALL, OTHER), "signature-invalid"),
        (signed(SMALL, kind=SignedKind.YEAR_FILE), "signature-invalid"),
        (signed(flipped), "signature-invalid"),
    ]
    for signature, rule in wrong:
        with pytest.raises(CatalogueRefused) as refused:
            await service.publish(SMALL, "national.yaml", MANAGER, signature=signature)
        assert (refused.value.reason, refused.value.metadata["rule"]) == ("CATALOGUE_REFUSED", rule)
        # A dry run needs none.
        await service.publish(SMALL, "national.yaml", MANAGER, signature=signature, dry_run=True)
    # Another manager's signature is not the caller's.
    other = dataclasses.replace(MANAGER, person="max", signing_keys=(OTHER.public,))
    with pytest.raises(CatalogueRefused, match="signature-invalid"):
        await service.publish(SMALL, "national.yaml", other, signature=signed(SMALL))
    assert announced == []
    done = await service.publish(SMALL, "national.yaml", other, signature=signed(SMALL, OTHER))
    again = await service.publish(SMALL, "national.yaml", MANAGER)
    assert again.revision == done.revision


@pytest.mark.asyncio
async def test_who_signed_is_kept_and_shown(service: CatalogueService, ledger: LedgerThread) -> None:
    servicer = CatalogueServicer(service)
    set_caller(MANAGER)
    await servicer.Publish(_request(SMALL, "national.yaml"), None)
    # One that was published before signatures stays what it was.
    old = catalogue.edition("old")
    await ledger.call(Ledger.publish_edition, old, b"old", "old.yaml", "local/manager", known=1)
    stored = {each.catalogue_id: each.signed for each in await ledger.call(Ledger.editions)}
    assert stored["old"] is None
    kept = stored["test-national"]
    assert kept is not None
    assert (kept.actor, kept.key, kept.signature) == (MANAGER.actor, KEY.public, signed(SMALL))
    (shown,) = (await servicer.GetCatalogue(pb.GetCatalogueRequest(catalogue_id="test-national"), None)).editions
    assert shown.signer == "local/manager"
    by = Signature(algorithm=shown.signature_algorithm, key_id=shown.key_id, value=shown.signature)
    assert verify(KEY.public, SignedKind.CATALOGUE, shown.sha256, by)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("level", "region", "permitted"),
    [
        (None, "320000", (True, True)),
        (Level.NATIONAL, "000000", (True, False)),
        (Level.PROVINCIAL, "320000", (False, True)),
        (Level.PROVINCIAL, "330000", (False, False)),
        (Level.MUNICIPAL, "320100", (False, False)),
    ],
)
async def test_a_manager_publishes_the_lists_of_one_level_and_region(
    service: CatalogueService, level: Level | None, region: str, permitted: tuple[bool, bool]
) -> None:
    who = manager(level, region)
    required = {SMALL: "national 000000", LOCAL: "provincial 320000"}

    async def published(file: bytes, *, dry_run: bool = False) -> bool:
        try:
            await service.publish(file, "list.yaml", who, signature=signed(file), dry_run=dry_run)
        except Refused as refused:
            return (refused.reason, refused.metadata["required"]) != ("NOT_PERMITTED", required[file])
        return True

    national, provincial = permitted
    assert (await published(SMALL, dry_run=True), await published(SMALL)) == (national, national)
    # The provincial list refers to it. What is published is the same for a retry.
    await service.publish(SMALL, "list.yaml", MANAGER, signature=signed(SMALL))
    assert await published(SMALL) is national
    assert (await published(LOCAL, dry_run=True), await published(LOCAL)) == (provincial, provincial)
