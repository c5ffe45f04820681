"""A gateway in memory, for the tests of those who build on this library. No network and no server.

The client is the real one: it verifies a signed set, probes it, spools its passes and asks the double for the rest.

Example:
    >>> from lanjie import Outcome
    >>> from lanjie.testing import FakeGateway
    >>> gateway = FakeGateway(matters=["procurement.supplier"])
    >>> gateway.list_subject("uscc:913201990000001T4F", outcome=Outcome.INTERCEPT)
    >>> with gateway.client() as client:
    ...     client.wait_ready()
    ...     ask = {"matter": "procurement.supplier", "purpose": "bid review"}
    ...     listed = client.check("uscc:913201990000001T4F", **ask).outcome
    ...     other = client.check("uscc:913201990000002T0Q", **ask).outcome
    ...     gateway.reachable = False
    ...     unreachable = client.check("uscc:913201990000001T4F", **ask).outcome
    >>> listed, other, unreachable
    (<Outcome.INTERCEPT: 'intercept'>, <Outcome.PASS: 'pass'>, <Outcome.UNDETERMINED: 'undetermined'>)
    >>> [asked.matter for asked in gateway.questions]
    ['procurement.supplier']
"""

import datetime
import hashlib
import itertools
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.timestamp_pb2 import Timestamp

from lanjie._fake_loop import KEY_ID, LISTING, FakeLoop
from lanjie._runtime import Seam
from lanjie.aio import AsyncClient
from lanjie.client import Client
from lanjie.decision import Outcome, UndeterminedReason, instant_of
from lanjie.errors import LanjieError, error_of
from lanjie.v1 import audit_pb2, feedback_pb2, receipt_pb2, sync_pb2, watch_pb2
from lanjie.v1 import screening_pb2 as pb
from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.identifiers import NORMALISATION, Identifier, IdentifierError, parse
from lanjie_matcher.shards import Shards, digests_of, encode_shard, root_of, split
from lanjie_matcher.views import SIGNED_PREFIX

__all__ = ["Asked", "FakeGateway"]

_BITS: Final = 40
_REMEDIES: Final = "示例：可依法申请行政复议或者提起行政诉讼"
_CHANNEL: Final = "示例：向示例部门提出书面异议"
_RESOLVE: Final = datetime.timedelta(hours=24)
_HEAD_EXPIRES: Final = datetime.timedelta(minutes=10)
_BEAT_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.02
_TARGET: Final = "127.0.0.1:1"
_FEED: Final = "127.0.0.1:2"
_REASONS: Final = frozenset(
    "repaired objection identity irrelevant discretion not_competent other_measure withdrawn other".split()
)
_EFFECTS: Final = {
    Outcome.ADVISE: pb.EFFECT_ADVISE,
    Outcome.HEIGHTEN: pb.EFFECT_HEIGHTEN,
    Outcome.RESTRICT: pb.EFFECT_RESTRICT,
    Outcome.INTERCEPT: pb.EFFECT_DENY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question that reached the double.

    Attributes:
        identifier: text form, in the clear: what is tested is invented.
        name: stated name.
        matter: code of the matter.
        purpose: purpose.
        case_no: case number.
        role: part in the case.
        handling_region: region.
        officer: officer's number.
        at_least_revision: revision the answer had to know.
        as_of: instant asked about, `None` for now.
    """

    identifier: str = field(repr=False)
    name: str = field(repr=False)
    matter: str
    purpose: str
    case_no: str
    role: str
    handling_region: str
    officer: str
    at_least_revision: int
    as_of: datetime.datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Script:
    """What the double answers for one subject and matter."""

    outcome: Outcome
    reason: UndeterminedReason | None
    measure: str
    authority: str
    basis: str


_PERSON_FILE: Final = _Script(
    outcome=Outcome.UNDETERMINED, reason=UndeterminedReason.PERSON_FILE, measure="", authority="", basis=""
)


class FakeGateway:
    """A gateway in memory. Thread-safe.

    Args:
        matters: codes of the matters it knows, in force on every day.
        case_no_required: those of them that want a case number.
        high_consequence: those of them that are passed locally on a fresh set only.
        stale_pass: those of them that pass, flagged, on a stale set while the gateway cannot be reached.
        as_of_allowed: those of them that may be asked about a past instant.
        person_files: those of them in which a batch may ask about natural persons.
        unix_nanos: nanoseconds of its clock, and of the clients it makes.

    Attributes:
        reachable: whether questions reach it; with `False` clients answer ``UNDETERMINED``.
        feed_reachable: whether sync and uploads reach it; with `False` their sets age.
        failure: an error to answer every question with; `None` for none.
        questions: every question that reached it, batch items one by one.
        local_passes: every local pass that was uploaded, as messages of audit.proto.
        reports: every report of what was done about an answer, as messages of feedback.proto.
        alerts: every alert that was made, as messages of watch.proto: of what `list_subject` and `remove_subject`
            change for watches, and of passes that no longer hold.
        lineage: identity of its ledger.
        epoch: epoch of its ledger.
        revision: revision; each change of a listing adds one.
        oldest: oldest revision that a batch may still be pinned to.
    """

    def __init__(
        self,
        matters: Iterable[str] = ("procurement.supplier",),
        *,
        case_no_required: Iterable[str] = (),
        high_consequence: Iterable[str] = (),
        stale_pass: Iterable[str] = (),
        as_of_allowed: Iterable[str] = (),
        person_files: Iterable[str] = (),
        unix_nanos: Callable[[], int] = time.time_ns,
    ) -> None:
        self.reachable = True
        self.feed_reachable = True
        self.failure: LanjieError | None = None
        self.questions: list[Asked] = []
        self.local_passes: list[audit_pb2.LocalPass] = []
        self.reports: list[feedback_pb2.ReportRequest] = []
        self.lineage = secrets.token_hex(16)
        self.epoch = 1
        self.revision = 1
        self.oldest = 1
        self._matters = {code: code in tuple(case_no_required) for code in matters}
        self._high_consequence = frozenset(high_consequence)
        self._stale_pass = frozenset(stale_pass)
        self._as_of_allowed = frozenset(as_of_allowed)
        self._person_files = frozenset(person_files)
        self._unix_nanos = unix_nanos
        self._lock = threading.RLock()
        self._changed = threading.Condition()
        self._given: dict[str, tuple[pb.Decision, bool]] = {}
        self._scripts: dict[tuple[str, str], _Script] = {}
        self._signing = Ed25519PrivateKey.generate()
        self._view_key = secrets.token_bytes(32)
        view = ViewKey(self._view_key, _BITS)
        self._loop = FakeLoop(self.lineage, self._signing, view, lambda: self._scripts)
        self.alerts = self._loop.alerts
        self._numbers = itertools.count(1)
        self._clients: weakref.WeakSet[_Client | _AsyncClient] = weakref.WeakSet()
        self._state = tempfile.mkdtemp(prefix="lanjie-fake-")
        weakref.finalize(self, shutil.rmtree, self._state, ignore_errors=True)

    @property
    def trust(self) -> Mapping[str, bytes]:
        """The key that its sets and receipts are signed with."""
        return {KEY_ID: self._signing.public_key().public_bytes_raw()}

    def client(self, **options: Any) -> Client:
        """Return a client of this gateway; `options` as those of `Client`."""
        client = _Client(_TARGET, **{**self._options(), **options})
        self._clients.add(client)
        return client

    def async_client(self, **options: Any) -> AsyncClient:
        """Return an asynchronous client of this gateway; `options` as those of `AsyncClient`."""
        client = _AsyncClient(_TARGET, **{**self._options(), **options})
        self._clients.add(client)
        return client

    def seam(self, **replaced: Any) -> Seam:
        """Return the seam its clients are made with; `replaced` as fields of `Seam`."""
        made: dict[str, Any] = {
            "transport": lambda _: _Transport(self),
            "async_transport": lambda _: _AsyncTransport(self),
            "unix_nanos": self._unix_nanos,
        }
        return Seam(**{**made, **replaced})

    def list_subject(
        self,
        identifier: str,
        *,
        outcome: Outcome = Outcome.INTERCEPT,
        matter: str = "",
        reason: UndeterminedReason | None = None,
        measure: str = "FAKE-1",
        authority: str = "示例列入机关",
        basis: str = "示例依据",
    ) -> None:
        """List a subject; connected clients know it when this returns.

        Args:
            identifier: text form.
            outcome: what to answer. `Outcome.PASS` is a listing that bears no measure for the matter.
            matter: matter it holds for; every one when empty.
            reason: with `Outcome.UNDETERMINED`, why; `UndeterminedReason.FACTS_MISSING` when `None`.
            measure: code of the measure in the answer.
            authority: authority in the answer.
            basis: legal basis in the answer.
        """
        if outcome is Outcome.UNDETERMINED:
            reason = reason or UndeterminedReason.FACTS_MISSING
        with self._lock:
            script = _Script(outcome=outcome, reason=reason, measure=measure, authority=authority, basis=basis)
            key = parse(identifier).key
            self._scripts[key, matter] = script
            self.revision += 1
            self._loop.listed(key, matter, self.revision, self._now())
        self.refresh()

    def remove_subject(self, identifier: str) -> None:
        """Remove every listing of a subject; connected clients know it when this returns."""
        key = parse(identifier).key
        with self._lock:
            self._scripts = {place: script for place, script in self._scripts.items() if place[0] != key}
            self.revision += 1
            self._loop.removed(key, self.revision, self._now())
        self.refresh()

    def refresh(self) -> None:
        """Have every connected client look for a newer set now."""
        with self._changed:
            self._changed.notify_all()
        # Twice: clients that share a state directory follow the one among them that leads.
        for client in (*self._clients, *self._clients):
            client.look()

    def check(self, request: pb.CheckRequest) -> pb.CheckResponse:
        """Answer one question, as a gateway does. Clients call it."""
        with self._lock:
            self._admit(request.context, request.at_least_revision)
            try:
                identifier = parse(request.subject.identifier)
            except IdentifierError as error:
                raise error_of("INVALID_ARGUMENT", "IDENTIFIER_INVALID", str(error), {"rule": error.rule}) from None
            self._note(request.subject, request.context, request.at_least_revision)
            return pb.CheckResponse(decision=self._answer(identifier, request.context))

    def batch_check(self, request: pb.BatchCheckRequest) -> pb.BatchCheckResponse:
        """Answer a batch, as a gateway does. Clients call it."""
        with self._lock:
            self._admit(request.context, request.at_least_revision)
            if request.context.mode == pb.INQUIRY_MODE_AUTHORISED:
                raise _invalid("mode", "one-subject", "an authorisation is one subject's: ask one question (Art. 69)")
            if request.pinned_revision and request.pinned_revision < self.oldest:
                raise error_of("OUT_OF_RANGE", "REVISION_COMPACTED", "the revision is gone", {})
            for subject in request.subjects:
                self._note(subject, request.context, request.at_least_revision)
            parties = [parse(subject.identifier) for subject in request.subjects]
            decisions = [self._answer(each, request.context, batch=True) for each in parties]
            return pb.BatchCheckResponse(decisions=decisions, revision=request.pinned_revision or self.revision)

    def discover(self) -> pb.DiscoverResponse:
        """Say where the feed is. Clients call it."""
        if not self.reachable:
            raise error_of("UNAVAILABLE", "", "", {})
        return pb.DiscoverResponse(
            feed_address=_FEED, lineage=self.lineage, epoch=self.epoch, revision=self.revision, version="fake"
        )

    def update(self, state: sync_pb2.ClientState) -> sync_pb2.Update:
        """Return what leads a client from what it has to the newest set: a heartbeat, or a whole set in one part."""
        with self._lock:
            self._reach_feed()
            shards = self._shards()
            root = root_of(digests_of(shards, _BITS))
            same = (state.lineage, state.epoch, state.root) == (self.lineage, self.epoch, root)
            made = sync_pb2.Update(
                kind=sync_pb2.UPDATE_KIND_HEARTBEAT if same else sync_pb2.UPDATE_KIND_SNAPSHOT,
                head=self._head(root, sum(map(len, shards))),
                scope=self._scope().SerializeToString(deterministic=True),
                last=True,
            )
        for number, shard in enumerate(() if same else shards):
            made.shards.add(number=number, count=len(shard), planes=encode_shard(shard, _BITS))
        return made

    def pull(self, request: sync_pb2.PullRequest) -> Iterator[sync_pb2.PullResponse]:
        """Send the newest state. Clients call it."""
        yield sync_pb2.PullResponse(update=self.update(request.state))

    def upload(self, request: audit_pb2.UploadLocalPassesRequest) -> audit_pb2.UploadLocalPassesResponse:
        """Take records of local passes. Clients call it."""
        with self._lock:
            self._reach_feed()
            self.local_passes.extend(request.passes)
            self._loop.uploaded(request.sdk_id, request.passes, self.revision, self._now())
            return audit_pb2.UploadLocalPassesResponse(acknowledged_sequence=request.passes[-1].sequence)

    def report(self, request: feedback_pb2.ReportRequest) -> feedback_pb2.ReportResponse:
        """Take a report on an answer of this gateway that is no pass. Clients call it."""
        with self._lock:
            self._reach_feed()
            decision, person = self._given.get(request.decision_id, (None, False))
            if decision is None:
                raise error_of("NOT_FOUND", "NOT_FOUND", "no such decision", {})
            _require_sound(request, decision, person=person)
            told = [each for each in self.reports if each.decision_id == request.decision_id]
            repeated = bool(told) and _same(request, told[-1])
            if told and not repeated and not request.corrects:
                raise _invalid("decision_id", "told-otherwise", "something else was reported; say that it is corrected")
            self.reports.append(request)
        applied = bool(request.applied_measures)
        taken = feedback_pb2.ListingFeedback(
            listing_id=LISTING if decision.listings else "",
            disposition=feedback_pb2.DISPOSITION_APPLIED if applied else feedback_pb2.DISPOSITION_NOT_APPLIED,
            applied_measures=request.applied_measures,
            repeated=repeated,
        )
        if applied and decision.outcome == pb.OUTCOME_ADVISE:
            taken.alarms.append("applied-on-advice")
        if request.case_refused and decision.outcome != pb.OUTCOME_INTERCEPT:
            taken.alarms.append("refused-without-interception")
        return feedback_pb2.ReportResponse(listings=[taken])

    def receipt(self, request: receipt_pb2.IssueRequest) -> receipt_pb2.IssueResponse:
        """Issue the receipt of answers of this gateway, signed with the key of `trust`. Clients call it."""
        with self._lock:
            self._reach_feed()
            return self._loop.receipt(request, self._now())

    def watching(self, method: str, request: Any) -> Any:
        """Answer a method of WatchService. Clients call it."""
        with self._lock:
            self._reach_feed()
            if method in ("Register", "CloseCase") and request.matter not in self._matters:
                raise error_of("NOT_FOUND", "MATTER_UNKNOWN", "no catalogue defines it", {"matter": request.matter})
            return self._loop.call(method, request, self.revision, self._now())

    def _reach_feed(self) -> None:
        if not (self.reachable and self.feed_reachable):
            raise error_of("UNAVAILABLE", "", "", {})

    def _now(self) -> datetime.datetime:
        return instant_of(self._unix_nanos())

    def _options(self) -> dict[str, Any]:
        return {"trust": self.trust, "state_dir": self._state, "upload_interval": 0.1, "seam": self.seam()}

    def _admit(self, context: pb.InquiryContext, at_least_revision: int) -> None:
        if not self.reachable:
            raise error_of("UNAVAILABLE", "", "", {})
        if self.failure is not None:
            raise self.failure
        if at_least_revision > self.revision:
            raise error_of("UNAVAILABLE", "REVISION_NOT_REACHED", "the revision is not reached", {})
        if context.mode == pb.INQUIRY_MODE_SELF:
            told = {"required": "RightsService.SubjectReport"}
            raise error_of("PERMISSION_DENIED", "NOT_PERMITTED", "a subject's own inquiry is its report", told)
        if context.matter not in self._matters:
            raise error_of("NOT_FOUND", "MATTER_UNKNOWN", "no catalogue defines it", {"matter": context.matter})
        if context.HasField("as_of_time"):
            if context.matter not in self._as_of_allowed:
                told = {"matter": context.matter}
                raise error_of("INVALID_ARGUMENT", "AS_OF_NOT_ALLOWED", "this matter is judged as of now only", told)
            if context.as_of_time.ToNanoseconds() > self._unix_nanos():
                raise _invalid("as_of_time", "future", "as_of lies in the future")
        if self._matters[context.matter] and not context.case_no.strip():
            raise _invalid("case_no", "required", "this matter wants a case number")

    def _note(self, subject: Any, context: pb.InquiryContext, at_least_revision: int) -> None:
        asked = Asked(
            identifier=subject.identifier,
            name=subject.name,
            matter=context.matter,
            purpose=context.purpose,
            case_no=context.case_no,
            role=context.role,
            handling_region=context.handling_region,
            officer=context.officer.officer_id,
            at_least_revision=at_least_revision,
            as_of=context.as_of_time.ToDatetime(datetime.UTC) if context.HasField("as_of_time") else None,
        )
        self.questions.append(asked)

    def _answer(self, identifier: Identifier, context: pb.InquiryContext, *, batch: bool = False) -> pb.Decision:
        script = self._scripts.get((identifier.key, context.matter)) or self._scripts.get((identifier.key, ""))
        if batch and identifier.is_person and context.matter not in self._person_files:
            script = _PERSON_FILE
        decision = self._decide(identifier, context, script)
        self._given[decision.decision_id] = decision, identifier.is_person
        self._loop.answered(decision, identifier, context)
        return decision

    def _decide(self, identifier: Identifier, context: pb.InquiryContext, script: _Script | None) -> pb.Decision:
        now = instant_of(self._unix_nanos())
        outcome = script.outcome if script is not None else Outcome.PASS
        decision = pb.Decision(
            outcome=pb.Outcome.Value(f"OUTCOME_{outcome.name}"),
            instruction=f"示例：{outcome.name}",
            warnings=identifier.warnings,
            source=pb.SOURCE_GATEWAY,
            revision=self.revision,
            epoch=self.epoch,
            lineage=self.lineage,
            as_of_time=context.as_of_time if context.HasField("as_of_time") else _stamp(now),
            decided_time=_stamp(now),
            decision_id=f"fake-{next(self._numbers)}",
            masked_identifier=identifier.masked,
        )
        if script is None or outcome is Outcome.PASS:
            return decision
        if script.reason is not None:
            decision.undetermined_reason = pb.UndeterminedReason.Value(f"UNDETERMINED_REASON_{script.reason.name}")
            decision.resolve_by_time.CopyFrom(_stamp(now + _RESOLVE))
            return decision
        decision.confirmation_required = identifier.is_person and outcome in (Outcome.INTERCEPT, Outcome.RESTRICT)
        decision.measures.add(
            code=script.measure,
            title=f"示例措施{script.measure}",
            content="示例",
            effect=_EFFECTS[outcome],
            basis=script.basis,
            department="示例部门",
            instruction="示例",
            catalogue="fake@1",
            listing_ids=[LISTING],
        )
        decision.listings.add(
            listing_id=LISTING,
            list_type="fake",
            authority=script.authority,
            basis=script.basis,
            remedies=_REMEDIES,
            objection_channel=_CHANNEL,
        )
        decision.remedies, decision.objection_channel = _REMEDIES, _CHANNEL
        return decision

    def _shards(self) -> Shards:
        key = ViewKey(self._view_key, _BITS)
        texts = {"canary:hit", *(text for text, _ in self._scripts)}
        return split(sorted({key.fingerprint(text) for text in texts}), _BITS)

    def _head(self, root: bytes, count: int) -> sync_pb2.SignedManifest:
        now = self._now()
        raw = sync_pb2.Manifest(
            view="companies",
            lineage=self.lineage,
            epoch=self.epoch,
            generation=1,
            revision=self.revision,
            root=root,
            count=count,
            bits=_BITS,
            prf=sync_pb2.PRF_ALGORITHM_BLAKE2B_64,
            digest=sync_pb2.DIGEST_ALGORITHM_SHA256,
            key_id="view-1",
            key_check=ViewKey(self._view_key, _BITS).key_check(),
            normalisation=NORMALISATION,
            canaries_hit=["canary:hit"],
            issued_time=_stamp(now),
            expires_time=_stamp(now + _HEAD_EXPIRES),
            scope_digest=hashlib.sha256(self._scope().SerializeToString(deterministic=True)).digest(),
            bounds=sync_pb2.AgeBounds(fresh_seconds=45, soft_seconds=900, stale_seconds=86_400, purge_seconds=172_800),
        ).SerializeToString(deterministic=True)
        signature = sync_pb2.Signature(
            key_id=KEY_ID,
            algorithm=sync_pb2.SIGNATURE_ALGORITHM_ED25519,
            value=self._signing.sign(SIGNED_PREFIX + raw),
        )
        return sync_pb2.SignedManifest(manifest=raw, signatures=[signature])

    def _scope(self) -> sync_pb2.ViewScope:
        matters = [
            sync_pb2.MatterScope(
                code=code,
                rules=[
                    sync_pb2.MatterRules(
                        case_no_required=required,
                        high_consequence=code in self._high_consequence,
                        stale_pass=code in self._stale_pass,
                    )
                ],
            )
            for code, required in self._matters.items()
        ]
        grant = sync_pb2.GrantScope(
            department="local",
            all_matters=True,
            modes=[pb.INQUIRY_MODE_EX_OFFICIO, pb.INQUIRY_MODE_AUTHORISED, pb.INQUIRY_MODE_SELF],
            regions=["000000"],
            home_region="320000",
            days=sync_pb2.DateSpan(start_date="0001-01-01", end_date="9999-12-31"),
        )
        return sync_pb2.ViewScope(key=self._view_key, covers=["company"], matters=matters, grant=grant)


class _Client(Client):
    def look(self) -> None:
        if self._handle.runtime is not None:
            self._handle.runtime.poll_now()


class _AsyncClient(AsyncClient):
    def look(self) -> None:
        if self._handle.runtime is not None:
            self._handle.runtime.poll_now()


class _Transport:
    """A `Transport` that ends in a `FakeGateway`."""

    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway
        self._closed = False

    def check(self, request: pb.CheckRequest, timeout: float) -> pb.CheckResponse:
        del timeout
        return self._gateway.check(request)

    def batch_check(self, request: pb.BatchCheckRequest, timeout: float) -> pb.BatchCheckResponse:
        del timeout
        return self._gateway.batch_check(request)

    def discover(self, timeout: float) -> pb.DiscoverResponse:
        del timeout
        return self._gateway.discover()

    def pull(self, feed: str, request: sync_pb2.PullRequest, timeout: float) -> Iterator[sync_pb2.PullResponse]:
        del feed, timeout
        return self._gateway.pull(request)

    def watch(self, feed: str) -> "_Watch":
        del feed
        return _Watch(self._gateway)

    def upload(
        self, feed: str, request: audit_pb2.UploadLocalPassesRequest, timeout: float
    ) -> audit_pb2.UploadLocalPassesResponse:
        del feed, timeout
        return self._gateway.upload(request)

    def report(self, feed: str, request: feedback_pb2.ReportRequest, timeout: float) -> feedback_pb2.ReportResponse:
        del feed, timeout
        return self._gateway.report(request)

    def receipt(self, feed: str, request: receipt_pb2.IssueRequest, timeout: float) -> receipt_pb2.IssueResponse:
        del feed, timeout
        return self._gateway.receipt(request)

    def watching(self, feed: str, method: str, request: Any, timeout: float) -> Any:
        del feed, timeout
        return self._gateway.watching(method, request)

    def follow_alerts(
        self, feed: str, request: watch_pb2.StreamAlertsRequest
    ) -> Iterator[watch_pb2.StreamAlertsResponse]:
        del feed
        after = request.after
        while not self._closed:
            found = self._gateway.watching("PullAlerts", watch_pb2.PullAlertsRequest(after=after)).alerts
            if found:
                yield watch_pb2.StreamAlertsResponse(alerts=found)
                after = found[-1].number
            else:
                time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        self._closed = True


class _Watch:
    """A stream that ends in a `FakeGateway`: news at once, and a heartbeat whenever somebody does not wait for it."""

    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway
        self._said: sync_pb2.WatchRequest | None = None
        self._beat_at = 0.0
        self._closed = False

    def send(self, request: sync_pb2.WatchRequest) -> None:
        self._said = request

    def receive(self, timeout: float) -> sync_pb2.WatchResponse | None:
        if self._closed:
            raise error_of("CANCELLED", "", "", {})
        if self._said is None:
            return None
        update = self._gateway.update(self._said.state)
        if timeout and self._is_no_news(update) and time.monotonic() < self._beat_at:
            with self._gateway._changed:  # noqa: SLF001  two halves of one double
                self._gateway._changed.wait(timeout)  # noqa: SLF001
            update = self._gateway.update(self._said.state)
            if self._is_no_news(update) and not self._closed:
                return None
        self._said, self._beat_at = None, time.monotonic() + _BEAT_SECONDS
        return sync_pb2.WatchResponse(update=update)

    def close(self) -> None:
        self._closed = True
        with self._gateway._changed:  # noqa: SLF001
            self._gateway._changed.notify_all()  # noqa: SLF001

    def _is_no_news(self, update: sync_pb2.Update) -> bool:
        known = self._said is not None and self._said.state.revision == self._gateway.revision
        return update.kind == sync_pb2.UPDATE_KIND_HEARTBEAT and known


class _AsyncTransport:
    """An `AsyncTransport` that ends in a `FakeGateway`."""

    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway

    async def check(self, request: pb.CheckRequest, timeout: float) -> pb.CheckResponse:
        del timeout
        return self._gateway.check(request)

    async def batch_check(self, request: pb.BatchCheckRequest, timeout: float) -> pb.BatchCheckResponse:
        del timeout
        return self._gateway.batch_check(request)

    async def close(self) -> None:
        pass


def _stamp(at: datetime.datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def _invalid(field: str, rule: str, message: str) -> LanjieError:
    return error_of("INVALID_ARGUMENT", "ARGUMENT_INVALID", message, {"field": field, "rule": rule})


def _require_sound(request: feedback_pb2.ReportRequest, decision: pb.Decision, *, person: bool) -> None:
    """Refuse what a gateway would refuse of a report on an answer."""
    if not request.officer_id.strip():
        raise _invalid("officer", "length", "name the officer by number")
    if request.reason and request.reason not in _REASONS:
        raise _invalid("reason", "unknown", f"a reason is one of {', '.join(sorted(_REASONS))}")
    if request.reason == "other" and not request.text.strip():
        raise _invalid("text", "required", "the reason `other` wants words")
    if bool(request.confirmed_by) is not request.HasField("confirmed_time"):
        raise _invalid("confirmed_by", "required", "a confirmation has an officer and a time")
    if decision.outcome == pb.OUTCOME_PASS:
        raise _invalid("decision_id", "no-effect", "the answer has no effect to report on")
    if set(request.listing_ids) - {each.listing_id for each in decision.listings}:
        raise _invalid("listings", "outside-of-answer", "the answer has no such listing")
    if set(request.applied_measures) - {each.code for each in decision.measures}:
        raise _invalid("applied", "outside-of-answer", "the answer names no such measure")
    if decision.measures and not request.applied_measures and not request.reason:
        raise _invalid("reason", "required", "a measure that was not applied has a reason")
    if person and request.applied_measures and not request.confirmed_by:
        raise _invalid("confirmed_by", "confirmation", "for a natural person an officer confirms first (PIPL 24)")


def _same(one: feedback_pb2.ReportRequest, other: feedback_pb2.ReportRequest) -> bool:
    """Whether two reports tell the same; that one corrects is not told."""
    one, other = (feedback_pb2.ReportRequest.FromString(each.SerializeToString()) for each in (one, other))
    one.corrects = other.corrects = False
    return one == other
