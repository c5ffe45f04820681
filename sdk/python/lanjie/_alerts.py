"""The part of a client that watches organisations and takes alerts."""

import contextlib
import datetime
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from lanjie._context import encodable
from lanjie._handle import Handle
from lanjie._watch import Alert, Watch, acknowledge_request, read_alert, read_watch, register_request
from lanjie.errors import RateLimited, Unavailable
from lanjie.v1 import watch_pb2
from lanjie_matcher.identifiers import Identifier

_PAGE: Final = 100
_FIRST_PAUSE: Final = 0.2
_LAST_PAUSE: Final = 5.0
_PASSING: Final = (Unavailable, RateLimited)
"""What whoever follows waits out."""


class Alerts:
    """Watches and alerts of the client's department. Thread-safe.

    Args:
        handle: of the client.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def watch(
        self,
        identifier: str | Identifier,
        *,
        matter: str,
        purpose: str,
        until: datetime.date,
        since: datetime.date | None = None,
        case_no: str = "",
        handling_region: str = "",
        timeout: float | None = None,
    ) -> Watch:
        """Watch an organisation for a matter and a term (关注): what comes to bear on it is told by `alerts`.

        Again with another term or purpose, the watch takes those.

        Args:
            identifier: of an organisation, as `check` takes it.
            matter: code of the matter; the grant must cover it.
            purpose: why, 1 to 200 characters (Art. 24).
            until: last day in Shanghai, at most three years after the first; it ends by itself.
            since: first day; today when `None`.
            case_no: number of the case or contract.
            handling_region: see `check`.
            timeout: seconds for the gateway; that of the client when `None`.

        Raises:
            PermissionDenied: the grant does not cover it, or it is a natural person (Art. 40).
            LanjieError: see `check`.
        """
        request = register_request(
            identifier,
            matter=matter,
            purpose=purpose,
            until=until,
            since=since,
            case_no=case_no,
            handling_region=handling_region,
        )
        response = self._watching("Register", request, timeout)
        return read_watch(response.watch, repeated=response.repeated)

    def watches(self, *, ended: bool = False, timeout: float | None = None) -> tuple[Watch, ...]:
        """Return the department's watches, the newest first; those too that have ended, if asked for."""
        found: list[Watch] = []
        while True:
            after = found[-1].watch_id if found else ""
            request = watch_pb2.ListRequest(ended=ended, after=after, limit=_PAGE)
            page = self._watching("List", request, timeout).watches
            found += map(read_watch, page)
            if len(page) < _PAGE:
                return tuple(found)

    def end_watch(self, watch_id: str, *, timeout: float | None = None) -> Watch:
        """End a watch before its term.

        Raises:
            NotFound: there is none of this department.
        """
        encodable("watch_id", watch_id)
        return read_watch(self._watching("End", watch_pb2.EndRequest(watch_id=watch_id), timeout).watch)

    def close_case(self, case_no: str, *, matter: str, timeout: float | None = None) -> bool:
        """Tell that a case is closed, so that its passes are looked back at no more; return whether it was before."""
        encodable("case_no", case_no)
        request = watch_pb2.CloseCaseRequest(matter=matter, case_no=case_no)
        return bool(self._watching("CloseCase", request, timeout).repeated)

    def alerts(
        self, *, after: int = 0, follow: bool = False, acknowledge: bool = True, timeout: float | None = None
    ) -> Iterator[Alert]:
        """Yield alerts in order, those that are not acknowledged first (提醒).

        At least once: an alert is acknowledged when the next one is asked for, and comes again if that never happens.

        Args:
            after: number behind which to begin.
            follow: wait for more, over lost connections too, until the client is closed.
            acknowledge: whether to acknowledge what was yielded; else see `acknowledge`.
            timeout: seconds for each call to the gateway; that of the client when `None`.

        Raises:
            LanjieError: see `check`; with `follow` neither `Unavailable` nor `RateLimited`.
        """
        for page in self._pages(after, timeout, follow=follow):
            for alert in page:
                yield alert
                if acknowledge:
                    self._kept_trying(alert.number, timeout, follow=follow)

    def acknowledge(self, numbers: Iterable[int] = (), *, up_to: int = 0, timeout: float | None = None) -> int:
        """Acknowledge alerts by number, or all up to one; return how many were not before."""
        return int(self._watching("Acknowledge", acknowledge_request(numbers, up_to), timeout).acknowledged)

    def _pages(self, after: int, timeout: float | None, *, follow: bool) -> Iterator[list[Alert]]:
        seconds = timeout or self._handle.options.timeout
        pause = _FIRST_PAUSE
        while True:
            try:
                if not follow:
                    request = watch_pb2.PullAlertsRequest(after=after, limit=_PAGE)
                    page = [read_alert(each) for each in self._watching("PullAlerts", request, seconds).alerts]
                    if page:
                        yield page
                        after = page[-1].number
                    if len(page) < _PAGE:
                        return
                    continue
                for response in self._handle.running().follow_alerts(after, seconds):
                    pause = _FIRST_PAUSE
                    page = [read_alert(each) for each in response.alerts]
                    if page:
                        after = page[-1].number
                        yield page
            except _PASSING:
                if not follow:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)

    def _kept_trying(self, number: int, timeout: float | None, *, follow: bool) -> None:
        # What came to nothing comes again; whoever follows goes on.
        with contextlib.suppress(*(_PASSING if follow else ())):
            self.acknowledge([number], timeout=timeout)

    def _watching(self, method: str, request: Any, timeout: float | None) -> Any:
        return self._handle.running().watching(method, request, timeout or self._handle.options.timeout)
