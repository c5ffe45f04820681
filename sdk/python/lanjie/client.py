"""The blocking client of a counter."""

import datetime
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from lanjie._alerts import Alerts
from lanjie._batch import Batch, Decisions
from lanjie._context import Inquiry, InquiryMode, OfficerClaim
from lanjie._core import RATE_LIMITED, check_name, read_answer, read_identifier
from lanjie._feedback import Feedback, read_response, receipt_request, request_of
from lanjie._handle import Handle
from lanjie._options import Options, gateway_file
from lanjie._runtime import CLOSE_SECONDS, Seam, SyncStatus
from lanjie._tls import Tls
from lanjie.decision import Decision
from lanjie.errors import LanjieError, RateLimited, Unavailable
from lanjie.officers import OfficerSigner
from lanjie_matcher.identifiers import Identifier

__all__ = ["Client"]


class Client(Alerts):
    """Checks subjects for a counter. Thread-safe; may be made before a fork.

    A company that is not in the synchronised set passes locally in microseconds; whatever else is asked is answered by
    the gateway. When that cannot be reached the answer is `Outcome.UNDETERMINED`, never a pass and never a refusal.

    Nothing is connected, started or written before the first use.

    Args:
        target: screening address, ``host:port``. Without `tls` only this machine itself: loopback or ``unix:PATH``.
        token: bearer token.
        tls: mutual TLS, in place of a token; `Tls.from_files` follows a certificate that is renewed.
        trust: Ed25519 public keys by key id, 32 bytes or hexadecimal, that may sign the set. Without any, local answers
            are off and every question goes to the gateway.
        state_dir: where the set is kept, and records of local passes wait for their upload; by default
            ``$XDG_STATE_HOME/lanjie``. Processes that share one share the set, and one of them syncs for all. One
            department, one directory: a process uploads under its own name what others left there.
        timeout: seconds for a call to the gateway, a day at the most.
        upload_interval: seconds between two uploads of records of local passes, a day at the most.
        local: whether to answer locally at all.
        filter: ``bloom`` (less memory traffic at many millions) or ``sorted`` (the exact set).
        on_sync_change: called with the new status whenever its state changes, from a thread of the client.
        officer_signer: signs for the officers that `check` names by number, where the department's grant wants it.
        seam: for tests.

    Raises:
        InvalidArgument: an argument breaks a rule.
    """

    def __init__(
        self,
        target: str,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        trust: Mapping[str, bytes | str] | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        timeout: float = 2.0,
        upload_interval: float = 2.0,
        local: bool = True,
        filter: str = "bloom",  # noqa: A002  the name users write
        on_sync_change: Callable[[SyncStatus], None] | None = None,
        officer_signer: OfficerSigner | None = None,
        seam: Seam | None = None,
    ) -> None:
        options = Options.of(
            target,
            token=token,
            tls=tls,
            trust=trust,
            state_dir=state_dir,
            timeout=timeout,
            upload_interval=upload_interval,
            on_sync_change=on_sync_change,
            officer_signer=officer_signer,
            local=local,
            filter=filter,
        )
        super().__init__(Handle(options, seam))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], role: str = "inquirer", **options: Any) -> "Client":
        """Make a client from the ``gateway.json`` that a gateway on this machine writes.

        Args:
            path: the file.
            role: whose token to use: ``inquirer`` for checks. With `tls` there is none, and its listener is addressed.
            options: any other argument of the class.

        Raises:
            FileNotFoundError: no gateway runs on that state.
            InvalidArgument: it is no such file.
        """
        return cls(**{**gateway_file(path, role, options.get("tls")), **options})

    def __enter__(self) -> Self:
        self._handle.running()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<lanjie.Client of {self._handle.options.endpoint.target}>"

    def wait_ready(self, timeout: float = 10.0) -> None:
        """Wait until the local set is fresh; where local answers are off, until the gateway was found.

        Checks need not wait for it: until then they ask the gateway.

        Args:
            timeout: seconds.

        Raises:
            Unavailable: it did not happen in time.
        """
        self._handle.running().wait_ready(timeout)

    def check(
        self,
        identifier: str | Identifier,
        *,
        matter: str,
        purpose: str,
        case_no: str = "",
        name: str = "",
        role: str = "",
        handling_region: str = "",
        mode: InquiryMode = InquiryMode.EX_OFFICIO,
        officer: str | OfficerClaim | None = None,
        as_of: datetime.datetime | None = None,
        authorisation_id: str = "",
        request_id: str = "",
        at_least_revision: int = 0,
        timeout: float | None = None,
    ) -> Decision:
        """Ask one question (比对).

        Args:
            identifier: ``kind:number``, e.g. ``uscc:91320102MA1ABCDE82``; the kind is never guessed.
            matter: code of the business matter.
            purpose: why it is asked, 1 to 200 characters (Art. 24).
            case_no: number of the case; some matters require it.
            name: name as the case file has it, a second factor on a hit.
            role: part the subject plays in the case, ``applicant`` when empty.
            handling_region: region of the handling authority, six digits; the department's own when empty.
            mode: how the inquiry is made (Art. 39).
            officer: the officer at the counter, by number; signed by the client's `officer_signer` where it has one.
            as_of: aware instant to judge at, for matters that allow it; always asked at the gateway.
            authorisation_id: with the mode authorised, the subject's authorisation; always asked at the gateway.
            request_id: with the mode authorised, your own name of this question, made of it when left out. Ask again
                under it within ten minutes where an answer was lost, and the authorisation is used once.
            at_least_revision: the answer must know this revision, e.g. that of an import just made.
            timeout: seconds for the gateway; that of the client when `None`.

        Raises:
            InvalidIdentifier: the text cannot be an identifier.
            InvalidArgument: another argument breaks a rule.
            UnknownMatter: no catalogue ever defined the matter.
            PermissionDenied: the grant does not cover it; reason ``DAILY_CAP``: no more natural persons today.
            AuthenticationFailed: the credentials are not known.
            GatewayFault: the gateway failed; there is no answer.
            ClientClosed: the client was closed.
        """
        runtime = self._handle.runtime or self._handle.running()
        core, local = runtime.core, runtime.local
        inquiry = matter, purpose, case_no, role, handling_region, mode, officer, as_of, authorisation_id, request_id
        if name:
            check_name(name)
        passed = core.quick(local, identifier, inquiry, at_least_revision)
        if passed is not None:
            return passed
        parsed = read_identifier(identifier)
        context = core.context(inquiry)
        passed = core.answer(local, parsed, context, at_least_revision)
        if passed is not None:
            return passed
        request = core.question(local, parsed, name, context, at_least_revision)
        try:
            response = runtime.transport.check(request, timeout or self._handle.options.timeout)
        except Unavailable as error:
            runtime.suspect(error)
            return core.without_gateway(local, parsed, context, at_least_revision)
        except RateLimited:
            return core.unanswered(parsed, RATE_LIMITED)
        runtime.heard([response.decision])
        return read_answer(response.decision)

    def check_many(
        self,
        identifiers: Iterable[str | Identifier],
        *,
        matter: str,
        purpose: str,
        names: Sequence[str] | None = None,
        case_no: str = "",
        role: str = "",
        handling_region: str = "",
        mode: InquiryMode = InquiryMode.EX_OFFICIO,
        officer: str | OfficerClaim | None = None,
        as_of: datetime.datetime | None = None,
        at_least_revision: int = 0,
        timeout: float | None = None,
    ) -> Decisions:
        """Ask many questions that share a context, e.g. all bidders of a tender.

        Answers stand in the order of the questions. An item that is no identifier is answered
        ``UNDETERMINED(IDENTIFIER_INVALID)``, a natural person in a matter that takes no files of persons
        ``UNDETERMINED(PERSON_FILE)``: ask about that one with `check`. The others answer. What the gateway is asked is
        judged on one revision.

        Args:
            identifiers: as `check` takes them.
            matter: see `check`, as all that is not told here.
            purpose: see `check`.
            names: names by place, as many as identifiers.
            case_no: see `check`.
            role: see `check`.
            handling_region: see `check`.
            mode: see `check`; an authorised inquiry is about one subject and never goes in a batch.
            officer: see `check`.
            as_of: see `check`.
            at_least_revision: see `check`.
            timeout: seconds for each request to the gateway, of up to 300 items.

        Raises:
            LanjieError: see `check`; but never `InvalidIdentifier`.
        """
        runtime = self._handle.runtime or self._handle.running()
        context = runtime.core.context(Inquiry(matter, purpose, case_no, role, handling_region, mode, officer, as_of))
        batch = Batch(
            runtime.core,
            runtime.local,
            identifiers,
            names=names,
            context=context,
            at_least_revision=at_least_revision,
        )
        for _ in batch.judge():
            # Other threads need not wait for this one's turn to end.
            time.sleep(0)
        while (request := batch.next_request()) is not None:
            try:
                response = runtime.transport.batch_check(request, timeout or self._handle.options.timeout)
                runtime.heard(response.decisions)
                batch.answered(response)
            except LanjieError as error:
                runtime.suspect(error)
                batch.failed(error)
        return batch.decisions()

    def report(
        self,
        decision_id: str,
        *,
        officer: str,
        applied: Iterable[str] = (),
        listings: Iterable[str] = (),
        reason: str = "",
        text: str = "",
        case_refused: bool = False,
        confirmed_by: str = "",
        confirmed_at: datetime.datetime | None = None,
        corrects: bool = False,
        timeout: float | None = None,
    ) -> tuple[Feedback, ...]:
        """Tell what was done about an answer with an effect (反馈).

        Every such answer asks for it. It is durable when this returns; told again after a lost connection, it is told
        once.

        Args:
            decision_id: of the answer.
            officer: who handled the case, by number.
            applied: codes of the measures that were carried out; only such as the answer names (Art. 47).
            listings: ids of the listings it is about; empty for all of the answer.
            reason: why other measures were not applied: ``repaired``, ``objection``, ``identity``, ``irrelevant``,
                ``discretion``, ``not_competent``, ``other_measure``, ``withdrawn``, ``other``.
            text: the same in words, at most 200 characters, without any number; required with ``other``.
            case_refused: the application was refused because of the answer; right after `Outcome.INTERCEPT` alone.
            confirmed_by: officer who confirmed measures against a natural person before they were applied
                (PIPL 24(3)); required for `applied` where the decision says `confirmation_required`.
            confirmed_at: when he did; aware, after the answer.
            corrects: it takes the place of what was reported before.
            timeout: seconds for the gateway; that of the client when `None`.

        Returns:
            What was taken, by listing.

        Raises:
            InvalidArgument: a rule is broken; `metadata` has field and rule.
            NotFound: no such answer of this department.
            Unavailable: the gateway could not be reached; report again.
            LanjieError: see `check`.
        """
        request = request_of(
            decision_id,
            officer=officer,
            applied=applied,
            listings=listings,
            reason=reason,
            text=text,
            case_refused=case_refused,
            confirmed_by=confirmed_by,
            confirmed_at=confirmed_at,
            corrects=corrects,
        )
        return read_response(self._handle.running().report(request, timeout or self._handle.options.timeout))

    def receipt(self, answers: Iterable[tuple[Decision, str | Identifier]], *, timeout: float | None = None) -> bytes:
        """Return the signed receipt (核查凭证) of some answers, as a file that `lanjie receipt verify` proves offline.

        Args:
            answers: decision and the identifier that it is about, of one matter, purpose and case; at most 5,000.
            timeout: seconds for the gateway; that of the client when `None`.

        Raises:
            NotFound: an answer is not known there, or is about another subject.
            InvalidArgument: the answers do not belong together.
            LanjieError: see `check`.
        """
        request = receipt_request(answers)
        return self._handle.running().receipt(request, timeout or self._handle.options.timeout)

    def sync_status(self) -> SyncStatus:
        """Return the state of the local set."""
        return self._handle.running().status()

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Stop, after the records of local passes were uploaded as far as the gateway takes them now.

        Args:
            timeout: seconds after which no more are sent (30: some ten thousand records). What is left on disk is
                uploaded by the next process.
        """
        self._handle.close(timeout)
