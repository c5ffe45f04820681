"""`lanjie status`: is the gateway ready, on which revision, with which catalogues, lists, SDKs and certificate."""

import datetime
from typing import TYPE_CHECKING, Any

import typer

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import AsJson, CommandError, Listener, Person, Target

if TYPE_CHECKING:
    from lanjie_gateway.cli.admin import Connection


def status(*, target: Target, as_json: AsJson = False) -> None:
    """Say whether the gateway is ready, its revision, catalogues, lists and SDKs; exit 1 when it is not ready."""
    from lanjie.v1 import audit_pb2, catalogue_pb2, ledger_pb2, screening_pb2
    from lanjie_gateway.cli import certificates, limits, list_status, sync_status
    from lanjie_gateway.cli.admin import connect

    if target.address is not None:
        raise CommandError("status asks several listeners: give --gateway-file in place of --address")
    with connect(target.endpoint(Listener.SCREENING, Person.AGENCY)) as screening:
        ready = _ready(screening)
        here = screening.call(screening.screening.Discover, screening_pb2.DiscoverRequest())
    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        found = admin.call(admin.catalogues.GetCatalogue, catalogue_pb2.GetCatalogueRequest())
        sync = admin.call(admin.ledger.GetSyncStatus, ledger_pb2.GetSyncStatusRequest())
        lists = admin.call(admin.ledger.GetListStatus, ledger_pb2.GetListStatusRequest())
        certified = admin.call(admin.ledger.GetCertificateStatus, ledger_pb2.GetCertificateStatusRequest())
        persons = admin.call(admin.ledger.GetLimits, ledger_pb2.GetLimitsRequest())
        records = admin.call(admin.audit.GetRecordStatus, audit_pb2.GetRecordStatusRequest())
    now = datetime.datetime.now(datetime.UTC)
    facts: dict[str, Any] = {
        "ready": ready,
        "screening": screening.address,
        "admin": admin.address,
        **render.message_dict(here),
    }
    if as_json:
        editions = [render.edition_dict(each) for each in found.editions]
        shown = {
            "sync": sync_status.sync_dict(sync, now),
            "lists": list_status.lists_dict(lists),
            "limits": limits.limits_dict(persons),
        }
        if certified.tls:
            shown["certificates"] = certificates.certificates_dict(certified)
        shown["records"] = render.message_dict(records)
        render.emit({**facts, **shown, "catalogues": editions})
    else:
        console = render.console()
        console.print(render.facts_panel("lanjie gateway", facts))
        if certified.tls:
            console.print(certificates.certificates_view(certified))
        console.print(render.editions_table(found.editions))
        console.print(list_status.lists_view(lists))
        console.print(sync_status.sync_view(sync, now))
        if persons.departments:
            console.print(limits.limits_view(persons))
        for each in records.findings:
            console.print(
                f"! inquiry records are {each.fault} from {each.index} on: `lanjie audit verify`", style="bold red"
            )
        if records.spool_faults:
            console.print(f"! {records.spool_faults} gaps or breaks in the spools of SDKs", style="bold yellow")
    if not ready:
        raise typer.Exit(1)


def _ready(connection: "Connection") -> bool:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    stub: Any = health_pb2_grpc.HealthStub(connection.channel)
    answer = connection.call(stub.Check, health_pb2.HealthCheckRequest())
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
