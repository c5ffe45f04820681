# ruff: noqa: E501  the table is read line by line
"""The authorisation matrix (Art. 24, 39, 40): who may call what, and ask what, how and where, on both paths.

What is expected is written down here, by hand; nothing of it comes from the code that is tested.
"""

import asyncio
import dataclasses
import datetime
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import pytest
from google.protobuf import message_factory, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

import lanjie
from lanjie._runtime import Seam
from lanjie._transport import translate
from lanjie.officers import OfficerSigner
from lanjie.v1 import (
    access_pb2,
    access_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    calendar_pb2,
    calendar_pb2_grpc,
    catalogue_pb2,
    catalogue_pb2_grpc,
    feedback_pb2,
    feedback_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    listing_pb2,
    listing_pb2_grpc,
    receipt_pb2,
    receipt_pb2_grpc,
    rights_pb2,
    rights_pb2_grpc,
    screening_pb2,
    screening_pb2_grpc,
    statistics_pb2,
    statistics_pb2_grpc,
    subject_pb2,
    sync_pb2,
    sync_pb2_grpc,
    watch_pb2,
    watch_pb2_grpc,
)
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import GatewayError
from lanjie_gateway.services import watches
from lanjie_gateway.services.screening import Inquiry, Party, ScreeningService
from lanjie_matcher.civil_time import SHANGHAI
from lanjie_matcher.fingerprints import IndexKey
from tests.support.certificates import Desk
from tests.support.gateway import RunningGateway, person, running
from tests.support.grants import file as grant_file
from tests.support.grants import give as grant
from tests.support.methods import methods
from tests.support.subjects import uscc

DATA: Final = Path(__file__).parents[1] / "data"
NOW: Final = datetime.datetime(2026, 3, 2, 10, 0, tzinfo=SHANGHAI)
PURPOSE: Final = "test of the matrix"
SIGNER: Final = OfficerSigner(b"k" * 32, "signed")
SILENT, LISTED = uscc(1), uscc(2)
KNOWN: Final = ("procurement.supplier", "tendering.bidder", "license.general", "license.food")
MATTERS: Final = (*KNOWN, "no.such.matter")
REGIONS: Final = ("", "320100", "320500", "340100")
"""The department's own, Nanjing, Suzhou, another province."""

EVERYWHERE: Final = frozenset(REGIONS)
MAY: Final[dict[str, dict[str, frozenset[str]]]] = {
    "local": dict.fromkeys(KNOWN, EVERYWHERE),
    # The matter `license.general` holds `license.food`.
    "wide": dict.fromkeys(("procurement.supplier", "license.general", "license.food"), EVERYWHERE - {"340100"}),
    "narrow": {"license.food": frozenset({"", "320100"})},
    "signed": {"procurement.supplier": frozenset({"", "320100"})},
    "ended": {},
    "past": {},
    "future": {},
    "nobody": {},
}
"""By department and matter the regions for which an inquirer is answered, ex officio; in no other mode without the
subject's own authorisation or proof."""

NARROW: Final[dict[str, Any]] = {"regions": ["320100"], "matters": ["license.food"]}
GRANTS: Final[dict[str, dict[str, Any]]] = {
    "wide": {
        "regions": ["320000"],
        "region": "320500",
        "matters": ["procurement.supplier", "license.general"],
        "modes": ["ex_officio", "authorised", "self"],
    },
    "narrow": NARROW,
    "signed": {"officers_required": True, "counter_key": SIGNER.public_key},
    "ended": NARROW,
    "past": {**NARROW, "valid_until": "2026-03-01"},
    "future": {**NARROW, "valid_from": "2026-03-03"},
}
HOME: Final = {"wide": "340100"}
"""Regions in the departments file, where it is not Nanjing: a question is handled where the grant says."""
PERSONS: Final = {"i": "inquirer", "a": "authority", "g": "agency", "m": "manager"}


def departments() -> str:
    """Return the departments file: in each, one person of each role, known by a token and by a certificate.

    Inquirers of most departments are known by the names in their grants, as well as by this file.
    """
    text = ""
    for name in set(MAY) - {"local"}:
        text += (
            f'[departments.{name}]\nname = "测试{name}"\nregion = "{HOME.get(name, "320100")}"\nlist_types = ["TAX"]\n'
        )
        text += f"[departments.{name}.persons]\n"
        text += "".join(
            f'{who} = {{roles = ["{role}"], identities = ["{identity(name, role)}"]}}\n'
            for who, role in PERSONS.items()
            if who != "m"
        )
        keys = f'level = "municipal", signing_keys = ["ed25519:{name.encode().hex().ljust(64, "0")}"]'
        region = HOME.get(name, "320100")
        text += (
            f'm = {{roles = ["manager"], region = "{region}", {keys}, identities = ["{identity(name, "manager")}"]}}\n'
        )
    return text


def identity(department: str, role: str) -> str:
    """Return the name in the certificate of a person."""
    return f"URI:spiffe://test/{department}/{role}"


def end(gateway: RunningGateway, department: str) -> None:
    """End a grant."""
    gateway.run(gateway.inner.control.grants.end(department, "test", "测授〔2026〕9号", person("agency", Role.AGENCY)))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("matrix")
    (directory / "departments.toml").write_text(departments(), encoding="utf-8")
    tls = DESK.setdefault("desk", Desk(tmp_path_factory.mktemp("certificates"))).settings
    with running(directory / "gateway", NOW, departments=directory / "departments.toml", **tls) as made:
        made.publish(DATA / "national.yaml")
        row = {
            "id_kind": "uscc",
            "list_type": "COURT",
            "subject_kind": "enterprise",
            "source": "local",
            "region": "320100",
        }
        made.import_rows(
            [{**row, "id_number": LISTED.removeprefix("uscc:"), "decision_no": "1", "listed_on": "2026-01-01"}]
        )
        for department, facts in GRANTS.items():
            grant(made, department, identities={f"URI:spiffe://test/{department}": "counter"}, **facts)
        end(made, "ended")
        yield made


def token(gateway: RunningGateway, department: str, role: str = "inquirer") -> str:
    """Return the token of a person."""
    if department == "local":
        return (gateway.state / "tokens" / f"{role}.token").read_text().strip()
    who = next(name for name, each in PERSONS.items() if each == role)
    return (gateway.state / "tokens" / department / f"{who}.token").read_text().strip()


def counter(gateway: RunningGateway, department: str, *, synced: bool = True, **options: Any) -> lanjie.Client:
    """Return a client of a department, whose clock is the gateway's, without a thread of its own."""
    seam = Seam(unix_nanos=lambda: int(gateway.clock.at.timestamp() * 1e9), monotonic=lambda: 1_000.0, thread=False)
    told = json.loads(gateway.file.read_text())
    signer = SIGNER if department == "signed" else None
    made = lanjie.Client(
        told["screening"],
        token=token(gateway, department),
        trust=told["trusted_keys"],
        state_dir=gateway.state / f"sdk-{department}",
        seam=seam,
        timeout=20.0,
        officer_signer=signer,
        **options,
    )
    runtime, deadline = made._handle.running(), time.monotonic() + 20
    while not options and synced and not (runtime.poll_now() and runtime.status().state is lanjie.SyncState.FRESH):
        assert time.monotonic() < deadline, runtime.status()
        time.sleep(0.01)
    return made


def answer(client: lanjie.Client, subject: str, matter: str, region: str, mode: lanjie.InquiryMode) -> str:
    """Return what became of a question."""
    asked: dict[str, Any] = {"handling_region": region, "mode": mode, "officer": "0417"}
    if mode is lanjie.InquiryMode.AUTHORISED:
        asked["authorisation_id"] = "of-nobody"
    try:
        decision = client.check(subject, matter=matter, purpose=PURPOSE, **asked)
    except lanjie.PermissionDenied:
        return "denied"
    except lanjie.UnknownMatter:
        return "unknown"
    return f"{decision.outcome.name} {decision.source.name}"


def expected(department: str, matter: str, region: str, mode: lanjie.InquiryMode, source: str) -> str:
    """Return what the table says."""
    if matter not in KNOWN and department == "local" and mode is not lanjie.InquiryMode.SELF:
        return "unknown"
    if mode is not lanjie.InquiryMode.EX_OFFICIO or matter not in KNOWN:
        return "denied"
    return f"PASS {source}" if region in MAY[department].get(matter, ()) else "denied"


WHOLE: Final = [False, pytest.param(True, marks=pytest.mark.long)]
"""The ordinary run asks in each mode, and for each region, not for each pair of them."""


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("department", MAY)
def test_both_paths_answer_and_refuse_what_the_table_says(
    gateway: RunningGateway, department: str, *, whole: bool
) -> None:
    for source, options in (("LOCAL", {}), ("GATEWAY", {"local": False})):
        with counter(gateway, department, synced=department not in NOT_NOW, **options) as client:
            for _ in range(3):
                client._handle.running().poll_now()
            for matter, region, mode in itertools.product(MATTERS, REGIONS, lanjie.InquiryMode):
                if not whole and region and mode is not lanjie.InquiryMode.EX_OFFICIO:
                    continue
                told = answer(client, SILENT, matter, region, mode)
                assert told == expected(department, matter, region, mode, source), (matter, region, mode, source)
            many = [matter for matter in KNOWN if _batch(client, matter)]
            assert many == [matter for matter in KNOWN if "" in MAY[department].get(matter, ())]


def _batch(client: lanjie.Client, matter: str) -> bool:
    try:
        decisions = client.check_many([SILENT, uscc(3)], matter=matter, purpose=PURPOSE, officer="0417")
    except lanjie.PermissionDenied:
        return False
    assert [each.outcome for each in decisions] == [lanjie.Outcome.PASS] * 2
    return True


def test_a_claim_that_is_wanted_is_wanted_on_both_paths(gateway: RunningGateway) -> None:
    ask: dict[str, Any] = {"matter": "procurement.supplier", "purpose": PURPOSE}
    seconds = int(gateway.clock.at.timestamp()) + 60
    stranger = OfficerSigner(b"o" * 32, "signed")
    wrong = [
        None,
        lanjie.OfficerClaim("0417"),
        stranger.sign("0417", "procurement.supplier", "", PURPOSE, seconds),
        SIGNER.sign("0417", "procurement.supplier", "other case", PURPOSE, seconds),
        SIGNER.sign("0417", "procurement.supplier", "", PURPOSE, seconds - 600),
    ]
    with counter(gateway, "signed") as near, counter(gateway, "signed", local=False) as far:
        for client in (near, far):
            for claim in wrong:
                with pytest.raises(lanjie.PermissionDenied):
                    client.check(SILENT, officer=claim, **ask)
            assert client.check(SILENT, officer="0417", **ask).outcome is lanjie.Outcome.PASS
            sound = SIGNER.sign("0418", "procurement.supplier", "", PURPOSE, seconds)
            assert client.check(LISTED, officer=sound, **ask).outcome is lanjie.Outcome.INTERCEPT
    records = _records(gateway, "signed")
    assert {(each["officer"], each.get("officer_verified")) for each in records} == {("0417", True), ("0418", True)}


def test_a_pass_with_a_bad_claim_is_recorded_and_marked_never_lost(gateway: RunningGateway) -> None:
    sdk = "ab" * 16
    claims = [SIGNER, OfficerSigner(b"o" * 32, "signed"), None]
    passes = []
    for number, signer in enumerate(claims, 1):
        context = screening_pb2.InquiryContext(matter="procurement.supplier", purpose=PURPOSE)
        context.officer.officer_id = str(number)
        if signer is not None:
            said = signer.sign(str(number), "procurement.supplier", "", PURPOSE, int(NOW.timestamp()) + 60)
            context.officer.signature, context.officer.algorithm = said.signature, said.algorithm
            context.officer.expires_time.seconds = said.expires
        nanos = int(NOW.timestamp() * 1e9)
        passes.append(audit_pb2.LocalPass(sequence=number, unix_nanos=nanos, context=context))
    request = audit_pb2.UploadLocalPassesRequest(sdk_id=sdk, passes=passes, lineage="cd" * 16)
    code, response = _call(gateway, _upload(request), "signed")
    assert (code, response.acknowledged_sequence) == ("OK", 3)
    told = {each["officer"]: each for each in _records(gateway, "signed") if each["id"].startswith("abababababab")}
    assert [told[number].get("not_granted", "") for number in "123"] == ["", "officer-signature", "officer-missing"]
    assert [told[number].get("officer_verified", False) for number in "123"] == [True, False, False]


def test_a_local_pass_that_says_it_is_authorised_or_the_subjects_own_is_marked(gateway: RunningGateway) -> None:
    nanos = int(NOW.timestamp() * 1e9)
    modes = [each for each in screening_pb2.InquiryMode.values() if each]
    asked = [screening_pb2.InquiryContext(matter="procurement.supplier", purpose=PURPOSE, mode=n) for n in modes]
    passes = [audit_pb2.LocalPass(sequence=n, unix_nanos=nanos, context=each) for n, each in enumerate(asked, 1)]
    request = audit_pb2.UploadLocalPassesRequest(sdk_id="cd" * 16, passes=passes, lineage="cd" * 16)
    assert _call(gateway, _upload(request), "wide")[0] == "OK"
    told = [each for each in _records(gateway, "wide") if each["id"].startswith("cdcdcdcdcdcd")]
    marked = [(each["mode"], each.get("not_granted", "")) for each in told]
    assert marked == [("ex_officio", ""), ("authorised", "mode"), ("self", "mode")]


def test_records_of_a_department_are_taken_after_its_grant_has_ended_and_of_a_stranger_never(
    gateway: RunningGateway,
) -> None:
    context = screening_pb2.InquiryContext(matter="license.food", purpose=PURPOSE)
    one = audit_pb2.LocalPass(sequence=1, unix_nanos=int(NOW.timestamp() * 1e9), context=context)
    for number, (department, told) in enumerate({"ended": "OK", "past": "OK", "nobody": "NOT_PERMITTED"}.items()):
        request = audit_pb2.UploadLocalPassesRequest(sdk_id=f"{number:032x}", passes=[one], lineage="cd" * 16)
        code, _ = _call(gateway, _upload(request), department)
        assert code == told, department
    assert {each["not_granted"] for each in _records(gateway, "ended") if each.get("kind") == "local"} == {"grant"}


@pytest.mark.parametrize("department", MAY)
def test_a_name_in_a_certificate_asks_what_its_department_may_and_nothing_else(
    gateway: RunningGateway, department: str
) -> None:
    worker = gateway.inner.worker
    service = ScreeningService(
        index=worker.index,
        key=IndexKey(gateway.inner.control.ledger.keys.index),
        records=worker.records,
        clock=gateway.clock,
        current=lambda: True,
        ledger=lambda: (worker.feed.lineage, worker.feed.epoch),
        grants=worker.grants.resolve,
    )
    asker = worker.grants.identify(f"URI:spiffe://test/{department}")
    assert (asker is not None) is (department in GRANTS and department != "ended")
    if asker is None:
        return
    assert asker.roles == {Role.INQUIRER}
    for matter, region, mode in itertools.product(MATTERS, REGIONS, lanjie.InquiryMode):
        named: dict[str, Any] = dict.fromkeys(
            ("authorisation", "request"), "x" if mode is lanjie.InquiryMode.AUTHORISED else ""
        )
        inquiry = Inquiry(matter=matter, purpose=PURPOSE, mode=mode.value, handling_region=region, **named)
        try:
            checked = service.check(asker, Party(identifier=SILENT), inquiry, shape=lambda answer: answer.ruling)
            told = gateway.run(checked).outcome.name
        except GatewayError as error:
            told = "denied" if error.reason == "NOT_PERMITTED" else error.reason
        # Unsigned: where a claim is wanted, nothing is answered.
        may = region in MAY[department].get(matter, ()) and mode is lanjie.InquiryMode.EX_OFFICIO
        assert told == ("PASS" if may and department != "signed" else "denied"), (matter, region, mode)


ANY: Final = frozenset({"inquirer", "authority", "agency", "manager"})
AGENCY: Final = frozenset({"agency"})
WRITES: Final = frozenset({"authority"})
READS: Final = frozenset({"authority", "agency"})
PUBLISHES: Final = frozenset({"manager"})
ASKS: Final = frozenset({"inquirer"})
OWN: Final = frozenset(["inquirer"])
"""The inquirer, of what is the department's own, whatever is granted now."""
COUNTS: Final = frozenset({"inquirer", "agency", "manager"})


class Rpc(NamedTuple):
    """A method, and what it is called with."""

    listener: str
    stub: Any
    method: str
    request: Message


_STATE: Final = sync_pb2.ClientState(sdk_id="ef" * 16)
_CHECK: Final = screening_pb2.InquiryContext(matter="license.food", purpose=PURPOSE)
_FILE: Final = listing_pb2.ImportHeader(
    file_name="x", format=listing_pb2.FILE_FORMAT_CSV, mode=listing_pb2.IMPORT_MODE_DELTA, sha256=b"x" * 32, size=1
)
_EVENT: Final = listing_pb2.LISTING_EVENT_KIND_REVIEWED
RPCS: Final[list[tuple["Rpc", frozenset[str]]]] = [
    (Rpc("screening", screening_pb2_grpc.ScreeningServiceStub, "Check", screening_pb2.CheckRequest(subject=subject_pb2.Subject(identifier=SILENT), context=_CHECK)), ASKS),
    (Rpc("screening", screening_pb2_grpc.ScreeningServiceStub, "BatchCheck", screening_pb2.BatchCheckRequest(subjects=[subject_pb2.Subject(identifier=SILENT)], context=_CHECK)), ASKS),
    (Rpc("screening", screening_pb2_grpc.ScreeningServiceStub, "Discover", screening_pb2.DiscoverRequest()), ANY),
    (Rpc("feed", sync_pb2_grpc.SyncServiceStub, "Pull", sync_pb2.PullRequest(state=_STATE)), ASKS),
    (Rpc("feed", sync_pb2_grpc.SyncServiceStub, "Watch", sync_pb2.WatchRequest(state=_STATE)), ASKS),
    (Rpc("feed", audit_pb2_grpc.InquiryServiceStub, "UploadLocalPasses", audit_pb2.UploadLocalPassesRequest(sdk_id="ef" * 16)), ASKS),
    (Rpc("admin", listing_pb2_grpc.ListingServiceStub, "Import", listing_pb2.ImportRequest(header=_FILE)), WRITES),
    (Rpc("admin", listing_pb2_grpc.ListingServiceStub, "Confirm", listing_pb2.ConfirmRequest(receipt_id="x")), WRITES),
    (Rpc("admin", listing_pb2_grpc.ListingServiceStub, "Decline", listing_pb2.DeclineRequest(receipt_id="x", reason="x")), WRITES),
    (Rpc("admin", listing_pb2_grpc.ListingServiceStub, "ListWaiting", listing_pb2.ListWaitingRequest()), READS),
    (Rpc("admin", listing_pb2_grpc.ListingServiceStub, "Find", listing_pb2.FindRequest(identifier=SILENT, purpose=PURPOSE)), READS),
    (Rpc("admin", listing_pb2_grpc.ListingServiceStub, "Get", listing_pb2.GetRequest(listing_id="0" * 16, purpose=PURPOSE)), READS),
    (Rpc("admin", listing_pb2_grpc.ListingServiceStub, "Remove", listing_pb2.RemoveRequest(listing_id="0" * 16, reason="x", document="x")), WRITES),
    (Rpc("admin", listing_pb2_grpc.ListingServiceStub, "RecordEvent", listing_pb2.RecordEventRequest(listing_id="0" * 16, kind=_EVENT, reason="x", document="x")), WRITES),
    (Rpc("admin", listing_pb2_grpc.ListingServiceStub, "ListDuties", listing_pb2.ListDutiesRequest()), frozenset({"authority", "agency", "manager"})),
    (Rpc("admin", catalogue_pb2_grpc.CatalogueServiceStub, "Publish", catalogue_pb2.PublishRequest(file=b"x", dry_run=True)), PUBLISHES),
    (Rpc("admin", catalogue_pb2_grpc.CatalogueServiceStub, "GetCatalogue", catalogue_pb2.GetCatalogueRequest()), ANY),
    (Rpc("admin", calendar_pb2_grpc.CalendarServiceStub, "PublishYear", calendar_pb2.PublishYearRequest(file=b"x", dry_run=True)), PUBLISHES),
    (Rpc("admin", calendar_pb2_grpc.CalendarServiceStub, "GetYears", calendar_pb2.GetYearsRequest()), ANY),
    (Rpc("admin", calendar_pb2_grpc.CalendarServiceStub, "GetDue", calendar_pb2.GetDueRequest(rule="x", started_date="2026-01-01")), ANY),
    (Rpc("admin", ledger_pb2_grpc.LedgerServiceStub, "Backup", ledger_pb2.BackupRequest()), AGENCY),
    (Rpc("admin", ledger_pb2_grpc.LedgerServiceStub, "RotateViewKey", ledger_pb2.RotateViewKeyRequest()), AGENCY),
    (Rpc("admin", ledger_pb2_grpc.LedgerServiceStub, "GetSyncStatus", ledger_pb2.GetSyncStatusRequest()), AGENCY),
    (Rpc("admin", ledger_pb2_grpc.LedgerServiceStub, "GetListStatus", ledger_pb2.GetListStatusRequest()), AGENCY),
    (Rpc("admin", audit_pb2_grpc.AuditServiceStub, "Explain", audit_pb2.ExplainRequest(decision_id="x", purpose=PURPOSE)), AGENCY),
    (Rpc("admin", access_pb2_grpc.AccessServiceStub, "SetGrant", access_pb2.SetGrantRequest(file=b"x", reason="x")), AGENCY),
    (Rpc("admin", access_pb2_grpc.AccessServiceStub, "EndGrant", access_pb2.EndGrantRequest(department="x", reason="x", document="x")), AGENCY),
    (Rpc("admin", access_pb2_grpc.AccessServiceStub, "GetGrants", access_pb2.GetGrantsRequest()), AGENCY),
    (Rpc("admin", access_pb2_grpc.AccessServiceStub, "GetGrantHistory", access_pb2.GetGrantHistoryRequest(department="x")), AGENCY),
    (Rpc("admin", access_pb2_grpc.AccessServiceStub, "GetWaitingGrants", access_pb2.GetWaitingGrantsRequest()), AGENCY),
    (Rpc("admin", access_pb2_grpc.AccessServiceStub, "ConfirmGrant", access_pb2.ConfirmGrantRequest(act_id="g000000")), AGENCY),
    (Rpc("admin", access_pb2_grpc.AccessServiceStub, "DeclineGrant", access_pb2.DeclineGrantRequest(act_id="g000000", reason="x")), AGENCY),
    (Rpc("admin", ledger_pb2_grpc.LedgerServiceStub, "GetCertificateStatus", ledger_pb2.GetCertificateStatusRequest()), AGENCY),
    (Rpc("admin", ledger_pb2_grpc.LedgerServiceStub, "GetLimits", ledger_pb2.GetLimitsRequest()), AGENCY),
    (Rpc("admin", ledger_pb2_grpc.LedgerServiceStub, "LiftLimits", ledger_pb2.LiftLimitsRequest(department="x")), AGENCY),
    (Rpc("admin", audit_pb2_grpc.AuditServiceStub, "VerifyRecords", audit_pb2.VerifyRecordsRequest()), AGENCY),
    (Rpc("admin", audit_pb2_grpc.AuditServiceStub, "GetWitness", audit_pb2.GetWitnessRequest()), AGENCY),
    (Rpc("admin", audit_pb2_grpc.AuditServiceStub, "GetRecordStatus", audit_pb2.GetRecordStatusRequest()), AGENCY),
    (Rpc("admin", audit_pb2_grpc.AuditServiceStub, "SearchRecords", audit_pb2.SearchRecordsRequest(purpose=PURPOSE, kind="x")), AGENCY),
    (Rpc("admin", audit_pb2_grpc.AuditServiceStub, "ExportRecords", audit_pb2.ExportRecordsRequest(purpose=PURPOSE)), AGENCY),
    (Rpc("admin", audit_pb2_grpc.AuditServiceStub, "EndRetention", audit_pb2.EndRetentionRequest(dry_run=True)), AGENCY),
    (Rpc("admin", audit_pb2_grpc.AuditServiceStub, "ArchiveRecords", audit_pb2.ArchiveRecordsRequest(purpose=PURPOSE)), AGENCY),
    (Rpc("admin", audit_pb2_grpc.AuditServiceStub, "NoteArchive", audit_pb2.NoteArchiveRequest(purpose=PURPOSE)), AGENCY),
    (Rpc("admin", statistics_pb2_grpc.StatisticsServiceStub, "GetStatistics", statistics_pb2.GetStatisticsRequest()), COUNTS),
    (Rpc("feed", feedback_pb2_grpc.FeedbackServiceStub, "Report", feedback_pb2.ReportRequest(decision_id="x", officer_id="1")), OWN),
    (Rpc("feed", feedback_pb2_grpc.FeedbackServiceStub, "ListOutstanding", feedback_pb2.ListOutstandingRequest()), OWN | AGENCY),
    (Rpc("feed", receipt_pb2_grpc.ReceiptServiceStub, "Issue", receipt_pb2.IssueRequest(items=[receipt_pb2.ReceiptItem(decision_id="x")])), OWN),
    (Rpc("feed", rights_pb2_grpc.RightsServiceStub, "RegisterAuthorisation", rights_pb2.RegisterAuthorisationRequest(identifier=SILENT, matters=["license.food"])), OWN | AGENCY),
    (Rpc("feed", rights_pb2_grpc.RightsServiceStub, "WithdrawAuthorisation", rights_pb2.WithdrawAuthorisationRequest(authorisation_id="x", reason="x")), OWN | AGENCY),
    (Rpc("feed", rights_pb2_grpc.RightsServiceStub, "GetAuthorisation", rights_pb2.GetAuthorisationRequest(authorisation_id="x")), OWN | AGENCY),
    (Rpc("feed", rights_pb2_grpc.RightsServiceStub, "SubjectReport", rights_pb2.SubjectReportRequest(identifier=SILENT)), OWN | AGENCY),
    (Rpc("feed", rights_pb2_grpc.RightsServiceStub, "ReadListings", rights_pb2.ReadListingsRequest(identifier=SILENT, purpose=PURPOSE, case_no="1")), OWN | AGENCY),
    (Rpc("feed", rights_pb2_grpc.RightsServiceStub, "AddComplaint", rights_pb2.AddComplaintRequest()), AGENCY),
    (Rpc("feed", rights_pb2_grpc.RightsServiceStub, "ListComplaints", rights_pb2.ListComplaintsRequest()), AGENCY),
    (Rpc("feed", rights_pb2_grpc.RightsServiceStub, "CloseComplaint", rights_pb2.CloseComplaintRequest()), AGENCY),
    (Rpc("feed", watch_pb2_grpc.WatchServiceStub, "Register", watch_pb2.RegisterRequest(identifier=SILENT, matter="license.food", purpose=PURPOSE, until_date="2026-06-01")), OWN),
    (Rpc("feed", watch_pb2_grpc.WatchServiceStub, "List", watch_pb2.ListRequest()), OWN),
    (Rpc("feed", watch_pb2_grpc.WatchServiceStub, "End", watch_pb2.EndRequest(watch_id="w0")), OWN),
    (Rpc("feed", watch_pb2_grpc.WatchServiceStub, "CloseCase", watch_pb2.CloseCaseRequest(matter="license.food", case_no="1")), OWN),
    (Rpc("feed", watch_pb2_grpc.WatchServiceStub, "PullAlerts", watch_pb2.PullAlertsRequest()), OWN),
    (Rpc("feed", watch_pb2_grpc.WatchServiceStub, "StreamAlerts", watch_pb2.StreamAlertsRequest()), OWN),
    (Rpc("feed", watch_pb2_grpc.WatchServiceStub, "Acknowledge", watch_pb2.AcknowledgeRequest(up_to=1)), OWN),
]  # fmt: skip
BY_GRANT: Final = {
    "RegisterAuthorisation": {"local", "wide"},
    "SubjectReport": {"local", "wide"},
    "ReadListings": {"local"},
    "Register": {name for name, may in MAY.items() if "" in may.get("license.food", ())},
    "CloseCase": {name for name, may in MAY.items() if "" in may.get("license.food", ())},
}
"""Departments whose inquirers may, where the grant says it and not the role alone."""
UNDONE: Final = frozenset({"RotateViewKey", "Backup"})
"""Too heavy to be done for each department; that others are refused is what matters."""
NEVER_GRANTED: Final = frozenset({"nobody"})
NOT_NOW: Final = frozenset({"ended", "past", "future", "nobody"})


ORDINARY: Final = {("wide", "certificate"), ("past", "token")}
"""Of each form of identity, and of what is granted and what is not, one in the ordinary run."""


@pytest.mark.parametrize(
    ("department", "form"),
    [
        each if each in ORDINARY else pytest.param(*each, marks=pytest.mark.long)
        for each in itertools.product(MAY, ("token", "certificate", "name in the grant"))
        if each[1] == "token" or (each[0] in set(MAY) - {"local"} and (each[1] == "certificate" or each[0] in GRANTS))
    ],
)
def test_every_method_takes_the_roles_that_the_table_names(gateway: RunningGateway, department: str, form: str) -> None:
    for (rpc, roles), role in itertools.product(RPCS, sorted(ANY)):
        method = rpc.method
        if (method in UNDONE and role in roles) or (form == "name in the grant" and role != "inquirer"):
            continue
        code, _ = _call(gateway, rpc, department, role, form)
        if form == "name in the grant" and department in {"ended", "nobody"}:
            # The name was the grant's: with its end it is nobody's.
            assert code == "CREDENTIALS_INVALID", (method, code)
            continue
        may = role in roles
        if roles is ASKS and method == "UploadLocalPasses":
            may = may and department not in NEVER_GRANTED
        elif roles is ASKS:
            asks = "" in MAY[department].get("license.food", ()) or method in ("Pull", "Watch")
            may = may and department not in NOT_NOW and asks
        elif role == "inquirer" and method in BY_GRANT:
            may = department in BY_GRANT[method]
        assert (code not in ("NOT_PERMITTED", "CREDENTIALS_INVALID")) is may, (method, role, code)


def test_the_table_names_every_method_there_is() -> None:
    there = {f"{service.rpartition('.')[2]}.{method}" for service, method in methods()}
    assert there == {f"{rpc.stub.__name__.removesuffix('Stub')}.{rpc.method}" for rpc, _ in RPCS}


def test_who_loses_a_grant_asks_nothing_from_then_on_and_keeps_no_set(gateway: RunningGateway) -> None:
    grant(gateway, "nobody", **NARROW)
    try:
        with counter(gateway, "nobody") as client:
            ask: dict[str, Any] = {"region": "", "mode": lanjie.InquiryMode.EX_OFFICIO, "matter": "license.food"}
            assert answer(client, SILENT, **ask) == "PASS LOCAL"
            end(gateway, "nobody")
            deadline = time.monotonic() + 20
            while client.sync_status().revision or list((gateway.state / "sdk-nobody").rglob("base-*")):
                assert time.monotonic() < deadline
                client._handle.running().poll_now()
            assert answer(client, SILENT, **ask) == "denied"
    finally:
        grant(gateway, "nobody", **NARROW)
        end(gateway, "nobody")


def test_a_stream_ends_with_the_name_it_was_opened_by(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "HEARTBEAT_SECONDS", 1.0)
    name, other = "URI:spiffe://test/stolen", "URI:spiffe://test/nobody"
    grant(gateway, "nobody", **NARROW, identities={name: "counter", other: "other"})
    told = json.loads(gateway.file.read_text())["tls"]["feed"]

    async def streamed() -> list[str]:
        ends = []
        async with _channel(told, name) as channel:
            stub: Any = sync_pb2_grpc.SyncServiceStub(channel)
            asks = stub.Watch()
            alerts: Any = watch_pb2_grpc.WatchServiceStub(channel).StreamAlerts(
                watch_pb2.StreamAlertsRequest(), timeout=40
            )
            await asks.write(sync_pb2.WatchRequest(state=_STATE))
            while not (await asks.read()).update.last:
                pass
            await alerts.read()
            narrowed = grant_file("nobody", **NARROW, identities={other: "other"})
            act = await gateway.inner.control.grants.bring(narrowed, "stolen", person("agency", Role.AGENCY))
            assert act.act.state == "done"
            await asks.write(sync_pb2.WatchRequest(state=_STATE))
            for call in (asks, alerts):
                try:
                    await asyncio.wait_for(call.read(), 30)
                    ends.append("OK")
                except grpc.aio.AioRpcError as error:
                    ends.append(translate(error).reason)
        return ends

    try:
        assert gateway.run(streamed()) == ["CREDENTIALS_INVALID"] * 2
    finally:
        end(gateway, "nobody")


def test_the_last_day_of_a_grant_ends_at_midnight_without_a_message(gateway: RunningGateway) -> None:
    night = datetime.datetime(2026, 3, 2, 23, 59, 59, tzinfo=SHANGHAI)
    grant(gateway, "narrow", **{**NARROW, "valid_until": "2026-03-02"}, identities={})
    try:
        with counter(gateway, "narrow") as near, counter(gateway, "narrow", local=False) as far:
            ask: dict[str, Any] = {"region": "", "mode": lanjie.InquiryMode.EX_OFFICIO, "matter": "license.food"}
            gateway.clock.at = night
            assert [answer(client, SILENT, **ask) for client in (near, far)] == ["PASS LOCAL", "PASS GATEWAY"]
            gateway.clock.at = night + datetime.timedelta(seconds=1)
            assert [answer(client, SILENT, **ask) for client in (near, far)] == ["denied", "denied"]
    finally:
        gateway.clock.at = NOW
        grant(gateway, "narrow", identities={"URI:spiffe://test/narrow": "counter"}, **NARROW)


def test_not_listed_and_not_yours_differ_in_nothing_but_ids(gateway: RunningGateway) -> None:
    listings = gateway.inner.control.listings
    agency = person("agency", Role.AGENCY)
    (held,) = gateway.run(listings.find(LISTED, PURPOSE, agency))
    ids = (held.listing.id, "0" * len(held.listing.id))
    stub = listing_pb2_grpc.ListingServiceStub
    for role, department in (("authority", "wide"), ("authority", "narrow"), ("inquirer", "wide"), ("manager", "wide")):
        pairs: dict[str, list[Message]] = {
            "Find": [listing_pb2.FindRequest(identifier=each, purpose=PURPOSE) for each in (LISTED, SILENT)],
            "Get": [listing_pb2.GetRequest(listing_id=each, purpose=PURPOSE) for each in ids],
            "Remove": [listing_pb2.RemoveRequest(listing_id=each, reason="x", document="x") for each in ids],
            "RecordEvent": [
                listing_pb2.RecordEventRequest(listing_id=each, kind=_EVENT, reason="x", document="x") for each in ids
            ],
        }
        for method, requests in pairs.items():
            said = [_said(gateway, Rpc("admin", stub, method, each), (department, role)) for each in requests]
            assert said[0] == said[1], (method, role)
    explain = audit_pb2_grpc.AuditServiceStub
    with counter(gateway, "wide", local=False) as client:
        own = client.check(SILENT, matter="license.food", purpose=PURPOSE).decision_id
        for role in ("inquirer", "authority", "manager"):
            asked = (audit_pb2.ExplainRequest(decision_id=each, purpose=PURPOSE) for each in (own, "nobody-1"))
            answers = {_said(gateway, Rpc("admin", explain, "Explain", each), ("wide", role)) for each in asked}
            assert len(answers) == 1
        # Listed, but by nothing that bears on the matter: the answer is that about an unlisted subject.
        told = [client.check(each, matter="license.food", purpose=PURPOSE) for each in (LISTED, SILENT)]
    same = [dataclasses.replace(each, decision_id="", record_digest=b"", masked_identifier="") for each in told]
    assert same[0] == same[1]


WORDS: Final[dict[Any, list[Any]]] = {
    FieldDescriptor.CPPTYPE_STRING: ["", "\0", "a\0b", "x" * 20_000, "9" * 30, "-1", "0001-01-01", "9999-12-31"],
    FieldDescriptor.CPPTYPE_INT32: [-(1 << 31), -1, (1 << 31) - 1],
    FieldDescriptor.CPPTYPE_UINT32: [(1 << 32) - 1],
    FieldDescriptor.CPPTYPE_INT64: [-(1 << 63), -1, (1 << 63) - 1],
    FieldDescriptor.CPPTYPE_UINT64: [1 << 63, (1 << 64) - 1],
    FieldDescriptor.CPPTYPE_ENUM: [77],
    FieldDescriptor.CPPTYPE_BOOL: [True],
}
"""What a careless or hostile caller may put into a field, by its type."""
FULL: Final[list[Message]] = [
    audit_pb2.UploadLocalPassesRequest(sdk_id="ab" * 16, passes=[audit_pb2.LocalPass(sequence=1, context=_CHECK)]),
    rights_pb2.RegisterAuthorisationRequest(identifier=SILENT, matters=["license.food"], purpose=PURPOSE, document_number="1", document_date="2026-03-01", document_sha256=b"d" * 32, valid_until_date="2026-04-01"),
    rights_pb2.AddComplaintRequest(identifier=SILENT, about="department:x", text="x"),
    rights_pb2.CloseComplaintRequest(complaint_id="c0", outcome="unfounded", reply="x"),
]  # fmt: skip
"""Requests that get further than those of the table."""


def odd(request: Message, deep: int = 3) -> Iterator[Message]:
    """Yield a request with one of its fields, or of a message in it, changed to each of `WORDS`."""
    for field in request.DESCRIPTOR.fields:
        many: bool = field.is_repeated
        inner: Any = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            continue
        if inner is not None:
            held = getattr(request, field.name)
            one = (held or [message_factory.GetMessageClass(inner)()])[0] if many else held
            values: Any = odd(one, deep - 1) if deep else ()
        else:
            values = [b"\0", b"x" * 64] if field.type == FieldDescriptor.TYPE_BYTES else WORDS[field.cpp_type]
        for value in values:
            made = type(request)()
            made.MergeFrom(request)
            made.ClearField(field.name)
            if many:
                getattr(made, field.name).extend([value])
            elif isinstance(value, Message):
                getattr(made, field.name).CopyFrom(value)
            else:
                setattr(made, field.name, value)
            yield made


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_no_value_of_a_field_makes_an_internal_error_or_a_refusal_that_gets_lost(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("shared_url") if database == "postgresql" else ""
    with running(tmp_path / "gateway", NOW, ledger_url=url) as made:
        made.publish(DATA / "national.yaml")
        roles = {rpc.request.DESCRIPTOR: (rpc, "inquirer" if roles is ANY else min(roles)) for rpc, roles in RPCS}
        wrong = set()
        for base in (*(rpc.request for rpc, _ in RPCS if rpc.method not in {*UNDONE, "Watch", "StreamAlerts"}), *FULL):
            rpc, role = roles[base.DESCRIPTOR]
            for asked in odd(base):
                code, told = _call(made, rpc._replace(request=asked), "local", role)
                # Of a status that is too large for the client no reason arrives.
                if code in {"INTERNAL", ""}:
                    wrong.add((rpc.method, str(asked)[:200], str(told)[:200]))
        assert not wrong


# Year 292277026596; a nanosecond below none; the last hours of year 9999, which have no day in Shanghai.
@pytest.mark.parametrize("said", [{"seconds": (1 << 63) - 1}, {"nanos": -1}, {"seconds": 253_402_300_799}])
def test_an_instant_that_there_is_not_is_refused_by_rule_by_every_method(
    gateway: RunningGateway, said: dict[str, int]
) -> None:
    at = timestamp_pb2.Timestamp(**said)
    asked = screening_pb2.InquiryContext(matter="license.food", purpose=PURPOSE, as_of_time=at)
    header = listing_pb2.ImportHeader()
    header.MergeFrom(_FILE)
    header.as_of_time.CopyFrom(at)
    subject, proof = subject_pb2.Subject(identifier=SILENT), rights_pb2.RealNameProof(proved_time=at)
    calls: list[tuple[str, str, Any, Message]] = [
        ("Check", "inquirer", screening_pb2_grpc.ScreeningServiceStub, screening_pb2.CheckRequest(subject=subject, context=asked)),
        ("BatchCheck", "inquirer", screening_pb2_grpc.ScreeningServiceStub, screening_pb2.BatchCheckRequest(subjects=[subject], context=asked)),
        ("Report", "inquirer", feedback_pb2_grpc.FeedbackServiceStub, feedback_pb2.ReportRequest(decision_id="x", officer_id="1", confirmed_time=at)),
        ("SubjectReport", "agency", rights_pb2_grpc.RightsServiceStub, rights_pb2.SubjectReportRequest(identifier=SILENT, proof=proof)),
        ("SearchRecords", "agency", audit_pb2_grpc.AuditServiceStub, audit_pb2.SearchRecordsRequest(purpose=PURPOSE, from_time=at)),
        ("ArchiveRecords", "agency", audit_pb2_grpc.AuditServiceStub, audit_pb2.ArchiveRecordsRequest(purpose=PURPOSE, until_time=at)),
        ("Import", "authority", listing_pb2_grpc.ListingServiceStub, listing_pb2.ImportRequest(header=header)),
    ]  # fmt: skip
    listeners = {rpc.method: rpc.listener for rpc, _ in RPCS}
    for method, role, stub, request in calls:
        code, told = _call(gateway, Rpc(listeners[method], stub, method, request), "local", role)
        assert (code, told[1].get("rule")) == ("ARGUMENT_INVALID", "range"), (method, told)


def _said(gateway: RunningGateway, rpc: Rpc, who: tuple[str, str]) -> str:
    code, response = _call(gateway, rpc, *who)
    return f"{code} {response}"


def _upload(request: audit_pb2.UploadLocalPassesRequest) -> Rpc:
    return Rpc("feed", audit_pb2_grpc.InquiryServiceStub, "UploadLocalPasses", request)


def _records(gateway: RunningGateway, department: str) -> list[dict[str, Any]]:
    control = gateway.inner.control
    gateway.run(control.inquiries.load())
    rows = gateway.run(control.ledger.call(lambda ledger: ledger.inquiries(limit=100_000)))
    return [json.loads(row.record) for row in rows if row.department == department]


def _call(
    gateway: RunningGateway, rpc: Rpc, department: str, role: str = "inquirer", form: str = "token"
) -> tuple[str, Any]:
    """Return (OK, response) or (reason, message and metadata); of a stream the first message counts."""
    told = json.loads(gateway.file.read_text())
    if form == "token":
        return gateway.run(_called(told[rpc.listener], rpc, token(gateway, department, role)))
    name = f"URI:spiffe://test/{department}" if form == "name in the grant" else identity(department, role)
    return gateway.run(_called(told["tls"][rpc.listener], rpc, name))


def _channel(address: str, name: str) -> grpc.aio.Channel:
    if not name.startswith("URI:"):
        return grpc.aio.insecure_channel(address)
    authority = DESK["desk"].authority
    leaf = authority.issue(name)
    credentials = grpc.ssl_channel_credentials(authority.pem, leaf.key, leaf.cert)
    # Channels with the same options share connections unless they are told not to.
    return grpc.aio.secure_channel(address, credentials, options=[("grpc.use_local_subchannel_pool", 1)])


async def _called(address: str, rpc: Rpc, who: str) -> tuple[str, Any]:
    by_name = who.startswith("URI:")
    key = address, who if by_name else ""
    channel = _CHANNELS.get(key)
    if channel is None:
        channel = _CHANNELS[key] = _channel(*key)
    call, request = getattr(rpc.stub(channel), rpc.method), rpc.request
    metadata = () if by_name else (("authorization", f"Bearer {who}"),)
    streams = isinstance(call, grpc.aio.StreamUnaryMultiCallable | grpc.aio.StreamStreamMultiCallable)
    begun = call(iter([request]) if streams else request, metadata=metadata, timeout=30)
    try:
        response = await (begun if hasattr(begun, "__await__") else begun.read())
    except grpc.aio.AioRpcError as error:
        told: Any = translate(error)
        return told.reason, (str(told), told.metadata)
    begun.cancel()
    return "OK", response


_CHANNELS: dict[tuple[str, str], grpc.aio.Channel] = {}
DESK: dict[str, Desk] = {}


@pytest.fixture(scope="module", autouse=True)
def channels(gateway: RunningGateway) -> Iterator[None]:
    """Close what was opened."""
    yield

    async def close() -> None:
        await asyncio.gather(*(channel.close() for channel in _CHANNELS.values()))
        _CHANNELS.clear()

    gateway.run(close())
