"""What follows an answer of `lanjie.testing.FakeGateway`, in memory: watches, alerts and receipts."""

import contextlib
import datetime
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lanjie.decision import Outcome
from lanjie.errors import error_of
from lanjie.v1 import audit_pb2, receipt_pb2, watch_pb2
from lanjie.v1 import screening_pb2 as pb
from lanjie_matcher import receipts
from lanjie_matcher.civil_time import day_of, last_day_after_months
from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.identifiers import Identifier, IdentifierError, parse

LISTING: Final = "fake-listing"
KEY_ID: Final = "sign-fake"
_MOST: Final = 5_000
_LIMIT: Final = 100
_MAX_PURPOSE: Final = 200
_MAX_CASE_NO: Final = 64
_MAX_MONTHS: Final = 36


@dataclass(slots=True, kw_only=True)
class _Watched:
    """A watch; `known` is the outcome that was told last."""

    message: watch_pb2.Watch
    identifier: Identifier
    known: str = Outcome.PASS.name

    def runs(self, today: datetime.date) -> bool:
        days = self.message.from_date <= today.isoformat() <= self.message.until_date
        return days and not self.message.HasField("ended_time")


@dataclass(slots=True, kw_only=True)
class _Answered:
    """An answer that was given; `digest` is that of its subject, as a local pass names it."""

    context: pb.InquiryContext
    digest: int
    facts: dict[str, Any]
    decision: pb.Decision = field(default_factory=pb.Decision)
    overtaken: bool = False


class FakeLoop:
    """Keeps watches and alerts and issues receipts. Its gateway holds the lock.

    Args:
        lineage: of the ledger.
        signing: key that the sets are signed with.
        view: key of the sets.
        scripts: gives what is answered, by canonical key and matter; with `outcome` and `authority`.
    """

    def __init__(
        self,
        lineage: str,
        signing: Ed25519PrivateKey,
        view: ViewKey,
        scripts: Callable[[], Mapping[tuple[str, str], Any]],
    ) -> None:
        self.alerts: list[watch_pb2.Alert] = []
        self._lineage = lineage
        self._signing = signing
        self._view = view
        self._scripts = scripts
        self._watches: list[_Watched] = []
        self._answers: dict[str, _Answered] = {}
        self._closed: set[tuple[str, str]] = set()

    def answered(self, decision: pb.Decision, identifier: Identifier, context: pb.InquiryContext) -> None:
        """Note an answer of the gateway."""
        facts: dict[str, Any] = {
            "decided": _text(decision.decided_time.ToDatetime(datetime.UTC)),
            "as_of": _text(decision.as_of_time.ToDatetime(datetime.UTC)),
            "epoch": decision.epoch,
            "revision": decision.revision,
            "source": "gateway",
            "outcome": pb.Outcome.Name(decision.outcome).removeprefix("OUTCOME_"),
        }
        if decision.measures:
            facts["measures"] = [each.code for each in decision.measures]
            facts["listings"] = [each.listing_id for each in decision.listings]
        digest = self._view.digest64(identifier.key)
        made = _Answered(context=context, digest=digest, facts=facts, decision=decision)
        self._answers[decision.decision_id] = made

    def uploaded(
        self, sdk_id: str, passes: Iterable[audit_pb2.LocalPass], revision: int, now: datetime.datetime
    ) -> None:
        """Note local passes; those that no longer hold are told."""
        for each in passes:
            decided = _text(datetime.datetime.fromtimestamp(each.unix_nanos / 1e9, datetime.UTC))
            facts: dict[str, Any] = {
                "decided": decided,
                "as_of": decided,
                "epoch": each.epoch,
                "revision": each.revision,
                "source": "local",
                "outcome": Outcome.PASS.name,
            }
            made = _Answered(context=each.context, digest=each.view_digest, facts=facts)
            self._answers.setdefault(f"{sdk_id[:12]}-{each.sequence}", made)
        for (key, matter), script in self._scripts().items():
            self._overtake(key, matter, script, revision, now)

    def listed(self, key: str, matter: str, revision: int, now: datetime.datetime) -> None:
        """Tell what a listing that came, or was changed, is to watches and passes."""
        script = self._scripts()[key, matter]
        for each in self._watches:
            if each.identifier.key == key and matter in ("", each.message.matter) and each.runs(day_of(now)):
                kind = watch_pb2.ALERT_KIND_AMENDED if each.known != Outcome.PASS.name else watch_pb2.ALERT_KIND_LISTED
                self._tell_watch(each, kind, script, revision, now)
        self._overtake(key, matter, script, revision, now)

    def removed(self, key: str, revision: int, now: datetime.datetime) -> None:
        """Tell that the listings of a subject are gone."""
        for each in self._watches:
            if each.identifier.key == key and each.runs(day_of(now)):
                self._tell_watch(each, watch_pb2.ALERT_KIND_REMOVED, None, revision, now)

    def call(self, method: str, request: Any, revision: int, now: datetime.datetime) -> Any:
        """Answer a method of WatchService that answers once."""
        match method:
            case "Register":
                return self._register(request, revision, now)
            case "List":
                numbers = [len(self._watches) - n for n in range(len(self._watches))]
                before = int(request.after[1:]) if request.after else len(numbers) + 1
                found = [self._watches[n - 1] for n in numbers if n < before]
                some = [each.message for each in found if request.ended or self._lives(each, now)]
                return watch_pb2.ListResponse(watches=some[: request.limit or _LIMIT])
            case "End":
                for each in self._watches:
                    if each.message.watch_id == request.watch_id:
                        if not each.message.HasField("ended_time"):
                            each.message.ended_time.FromDatetime(now)
                        return watch_pb2.EndResponse(watch=each.message)
                raise error_of("NOT_FOUND", "NOT_FOUND", "no such watch", {})
            case "CloseCase":
                _require_case_no(request.case_no, least=1)
                closed = (request.matter, request.case_no)
                known = closed in self._closed
                self._closed.add(closed)
                return watch_pb2.CloseCaseResponse(repeated=known)
            case "PullAlerts":
                return watch_pb2.PullAlertsResponse(alerts=self.pull(request.after, request.limit or _LIMIT))
            case "Acknowledge":
                fresh = [
                    e
                    for e in self.pull(0, len(self.alerts))
                    if e.number <= request.up_to or e.number in request.numbers
                ]
                for alert in fresh:
                    alert.acknowledged_time.FromDatetime(now)
                return watch_pb2.AcknowledgeResponse(acknowledged=len(fresh))
        raise error_of("UNIMPLEMENTED", "", "", {})

    def pull(self, after: int, limit: int) -> list[watch_pb2.Alert]:
        """Return alerts behind a number that are not acknowledged."""
        found = [each for each in self.alerts if each.number > after and not each.HasField("acknowledged_time")]
        return found[:limit]

    def receipt(self, request: receipt_pb2.IssueRequest, now: datetime.datetime) -> receipt_pb2.IssueResponse:
        """Issue the receipt of answers, as docs/receipts.md has it."""
        if not 1 <= len(request.items) <= _MOST:
            raise _refused("items", "count", f"a receipt has 1 to {_MOST:,} answers: ask for several")
        salt = hashlib.sha256(request.SerializeToString() + _text(now).encode()).digest()[:16]
        answers = [self._about(each) for each in request.items]
        commons = [_common(each.context, self._lineage) for each, _ in answers]
        if any(each != commons[0] for each in commons):
            raise _refused("items", "mixed", "the answers differ: make a receipt for each")
        items = []
        for each, (answer, identifier) in zip(request.items, answers, strict=True):
            record = hashlib.sha256(b"\0" + each.decision_id.encode()).hexdigest()
            item = {"decision": each.decision_id, "record": record, **answer.facts, "subject": identifier.masked}
            if not identifier.is_person:
                item["proof"] = receipts.proof(salt, identifier.reveal())
            items.append(item)
        decisions = [answer.decision for answer, _ in answers]
        made: dict[str, Any] = {
            "format": receipts.FORMAT,
            "issued": _text(now),
            "salt": salt.hex(),
            **commons[0],
            "matter_name": f"示例事项{commons[0]['matter']}",
            "catalogues": sorted({measure.catalogue for each in decisions for measure in each.measures}),
            "measures": {measure.code: _measure(measure) for each in decisions for measure in each.measures},
            "listings": {listing.listing_id: _listing(listing) for each in decisions for listing in each.listings},
            "items": items,
        }
        made["id"] = receipts.receipt_id(made)
        signature = self._signing.sign(receipts.SIGNED_PREFIX + receipts.canonical(made))
        return receipt_pb2.IssueResponse(receipt=receipts.sealed(made, KEY_ID, signature))

    def _about(self, item: receipt_pb2.ReceiptItem) -> tuple[_Answered, Identifier]:
        answer = self._answers.get(item.decision_id)
        with contextlib.suppress(IdentifierError):
            identifier = parse(item.identifier)
            if answer is not None and answer.digest == self._view.digest64(identifier.key):
                return answer, identifier
        raise error_of("NOT_FOUND", "NOT_FOUND", "no such decision", {})

    def _register(
        self, request: watch_pb2.RegisterRequest, revision: int, now: datetime.datetime
    ) -> watch_pb2.RegisterResponse:
        try:
            identifier = parse(request.identifier)
        except IdentifierError as error:
            raise error_of("INVALID_ARGUMENT", "IDENTIFIER_INVALID", str(error), {"rule": error.rule}) from None
        if identifier.is_person:
            told = {"required": "organisation"}
            raise error_of("PERMISSION_DENIED", "NOT_PERMITTED", "natural persons are not watched (Art. 40)", told)
        if not request.purpose.strip() or len(request.purpose) > _MAX_PURPOSE:
            raise _refused("purpose", "length", f"a purpose has 1 to {_MAX_PURPOSE} characters")
        _require_case_no(request.case_no, least=0)
        first = request.from_date or day_of(now).isoformat()
        if request.until_date < first:
            raise _refused("until_date", "order", "a watch ends on its first day or later")
        if request.until_date > last_day_after_months(datetime.date.fromisoformat(first), _MAX_MONTHS).isoformat():
            raise _refused("until_date", "range", "a watch lasts three years at most")
        if request.until_date < day_of(now).isoformat():
            raise _refused("until_date", "past", "the term has ended")
        made = watch_pb2.Watch(
            watch_id=f"w{len(self._watches) + 1}",
            masked_subject=identifier.masked,
            matter=request.matter,
            case_no=request.case_no,
            purpose=request.purpose,
            from_date=first,
            until_date=request.until_date,
            handling_region=request.handling_region,
        )
        for each in self._watches:
            same = (each.identifier, each.message.matter, each.message.case_no)
            if same == (identifier, made.matter, made.case_no) and self._lives(each, now):
                made.watch_id = each.message.watch_id
                repeated = made == each.message
                each.message.CopyFrom(made)
                return watch_pb2.RegisterResponse(watch=made, repeated=repeated)
        watched = _Watched(message=made, identifier=identifier)
        self._watches.append(watched)
        script = self._scripts().get((identifier.key, made.matter)) or self._scripts().get((identifier.key, ""))
        if script is not None:
            self._tell_watch(watched, watch_pb2.ALERT_KIND_STANDING, script, revision, now)
        return watch_pb2.RegisterResponse(watch=made)

    @staticmethod
    def _lives(watch: _Watched, now: datetime.datetime) -> bool:
        return not watch.message.HasField("ended_time") and watch.message.until_date >= day_of(now).isoformat()

    def _overtake(self, key: str, matter: str, script: Any, revision: int, now: datetime.datetime) -> None:
        digest = self._view.digest64(key)
        for decision_id, each in self._answers.items():
            asked, case_no = each.context.matter, each.context.case_no
            passed = each.facts["outcome"] == Outcome.PASS.name and not each.overtaken
            open_ = not case_no or (asked, case_no) not in self._closed
            if (
                each.digest == digest
                and passed
                and open_
                and matter in ("", asked)
                and script.outcome is not Outcome.PASS
            ):
                each.overtaken = True
                self._tell(
                    watch_pb2.Alert(
                        kind=watch_pb2.ALERT_KIND_PASS_OVERTAKEN,
                        matter=asked,
                        case_no=case_no,
                        decision_id=decision_id,
                        authority=script.authority,
                        outcome_before=Outcome.PASS.name,
                        outcome=script.outcome.name,
                    ),
                    revision,
                    now,
                )

    def _tell_watch(
        self, watch: _Watched, kind: watch_pb2.AlertKind.ValueType, script: Any, revision: int, now: datetime.datetime
    ) -> None:
        after = Outcome.PASS.name if script is None else script.outcome.name
        before, watch.known = watch.known, after
        if Outcome.PASS.name == before == after:
            return
        alert = watch_pb2.Alert(
            kind=kind,
            matter=watch.message.matter,
            case_no=watch.message.case_no,
            watch_id=watch.message.watch_id,
            masked_subject=watch.identifier.masked,
            authority="" if script is None else script.authority,
            outcome_before=before,
            outcome=after,
        )
        self._tell(alert, revision, now)

    def _tell(self, alert: watch_pb2.Alert, revision: int, now: datetime.datetime) -> None:
        alert.number = len(self.alerts) + 1
        alert.listing_id, alert.list_type, alert.revision = LISTING, "fake", revision
        alert.alert_time.FromDatetime(now)
        self.alerts.append(alert)


def _require_case_no(case_no: str, *, least: int) -> None:
    if not least <= len(case_no) <= _MAX_CASE_NO:
        raise _refused("case_no", "length", f"a case number has {least} to {_MAX_CASE_NO} characters")


def _common(context: pb.InquiryContext, lineage: str) -> dict[str, Any]:
    stated = {"matter": context.matter, "purpose": context.purpose, "case_no": context.case_no}
    stated |= {"role": context.role or "applicant", "region": context.handling_region or "320000"}
    return {"department": "local", "lineage": lineage, **{name: value for name, value in stated.items() if value}}


def _measure(measure: pb.AppliedMeasure) -> dict[str, Any]:
    names = ("title", "content", "basis", "department", "instruction", "catalogue")
    effect = pb.Effect.Name(measure.effect).removeprefix("EFFECT_")
    return {**{name: getattr(measure, name) for name in names}, "effect": effect, "publication": "示例公告"}


def _listing(listing: pb.ListingEvidence) -> dict[str, Any]:
    names = ("list_type", "list_type_name", "authority", "decision_no", "decision_date", "basis", "reason")
    more = ("removal_conditions", "remedies", "objection")
    return {name: getattr(listing, name) for name in (*names, *more)}


def _refused(field_: str, rule: str, message: str) -> Exception:
    return error_of("INVALID_ARGUMENT", "ARGUMENT_INVALID", message, {"field": field_, "rule": rule})


def _text(at: datetime.datetime) -> str:
    return at.astimezone(datetime.UTC).isoformat(timespec="microseconds")
