"""The client of a counter for an event loop. Sync and upload run in a thread of their own, questions on grpc.aio."""

import asyncio
import datetime
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from lanjie._transport import AsyncTransport
from lanjie._watch import Alert, Watch
from lanjie.decision import Decision
from lanjie.errors import LanjieError, RateLimited, Unavailable
from lanjie.officers import OfficerSigner
from lanjie_matcher.identifiers import Identifier

__all__ = ["AsyncClient"]


class AsyncClient:
    """Checks subjects for a counter. Arguments, answers and errors are those of `lanjie.Client`.

    It belongs to one event loop. A local answer takes microseconds and does not leave the loop.
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
        self._handle = Handle(options, seam)
        self._blocking = Alerts(self._handle)
        self._transport: AsyncTransport = self._handle.seam.async_transport(options.endpoint)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], role: str = "inquirer", **options: Any) -> "AsyncClient":
        """Make a client from the ``gateway.json`` of a gateway on this machine; see `lanjie.Client.from_file`."""
        return cls(**{**gateway_file(path, role, options.get("tls")), **options})

    async def __aenter__(self) -> Self:
        self._handle.running()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<lanjie.AsyncClient of {self._handle.options.endpoint.target}>"

    async def wait_ready(self, timeout: float = 10.0) -> None:
        """See `lanjie.Client.wait_ready`."""
        await asyncio.to_thread(self._handle.running().wait_ready, timeout)

    async def check(
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
        """Ask one question; see `lanjie.Client.check`."""
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
            response = await self._transport.check(request, timeout or self._handle.options.timeout)
        except Unavailable as error:
            runtime.suspect(error)
            return core.without_gateway(local, parsed, context, at_least_revision)
        except RateLimited:
            return core.unanswered(parsed, RATE_LIMITED)
        runtime.heard([response.decision])
        return read_answer(response.decision)

    async def check_many(
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
        """Ask many questions that share a context; see `lanjie.Client.check_many`."""
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
            await asyncio.sleep(0)
        while (request := batch.next_request()) is not None:
            try:
                response = await self._transport.batch_check(request, timeout or self._handle.options.timeout)
                runtime.heard(response.decisions)
                batch.answered(response)
            except LanjieError as error:
                runtime.suspect(error)
                batch.failed(error)
        return batch.decisions()

    async def report(
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
        """Tell what was done about an answer with an effect; see `lanjie.Client.report`."""
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
        seconds = timeout or self._handle.options.timeout
        return read_response(await asyncio.to_thread(self._handle.running().report, request, seconds))

    async def receipt(
        self, answers: Iterable[tuple[Decision, str | Identifier]], *, timeout: float | None = None
    ) -> bytes:
        """Return the signed receipt of some answers; see `lanjie.Client.receipt`."""
        request, seconds = receipt_request(answers), timeout or self._handle.options.timeout
        return await asyncio.to_thread(self._handle.running().receipt, request, seconds)

    async def watch(self, identifier: str | Identifier, **asked: Any) -> Watch:
        """Watch an organisation; see `lanjie.Client.watch`."""
        return await asyncio.to_thread(self._blocking.watch, identifier, **asked)

    async def watches(self, *, ended: bool = False) -> tuple[Watch, ...]:
        """Return the department's watches; see `lanjie.Client.watches`."""
        return await asyncio.to_thread(self._blocking.watches, ended=ended)

    async def end_watch(self, watch_id: str) -> Watch:
        """End a watch; see `lanjie.Client.end_watch`."""
        return await asyncio.to_thread(self._blocking.end_watch, watch_id)

    async def close_case(self, case_no: str, *, matter: str) -> bool:
        """Tell that a case is closed; see `lanjie.Client.close_case`."""
        return await asyncio.to_thread(self._blocking.close_case, case_no, matter=matter)

    async def alerts(self, *, after: int = 0, follow: bool = False, acknowledge: bool = True) -> AsyncIterator[Alert]:
        """Yield alerts; see `lanjie.Client.alerts`. A thread waits for the next one, at the longest until `close`."""
        alerts = self._blocking.alerts(after=after, follow=follow, acknowledge=acknowledge)
        loop = asyncio.get_running_loop()
        # One of its own: who only waits would take those from the others that the loop has for all.
        thread = ThreadPoolExecutor(1, "lanjie-alerts")
        try:
            while (alert := await loop.run_in_executor(thread, next, alerts, None)) is not None:
                yield alert
        finally:
            thread.shutdown(wait=False)

    async def acknowledge(self, numbers: Iterable[int] = (), *, up_to: int = 0) -> int:
        """Acknowledge alerts; see `lanjie.Client.acknowledge`."""
        return await asyncio.to_thread(self._blocking.acknowledge, numbers, up_to=up_to)

    def sync_status(self) -> SyncStatus:
        """Return the state of the local set."""
        return self._handle.running().status()

    async def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """See `lanjie.Client.close`."""
        await self._transport.close()
        await asyncio.to_thread(self._handle.close, timeout)
