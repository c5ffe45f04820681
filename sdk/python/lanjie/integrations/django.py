"""Django: a decorator that checks the subject of a request, and a middleware that marks the answer.

Example::

    # settings.py
    LANJIE = {"gateway_file": "/var/lib/lanjie/gateway.json", "state_dir": "/var/lib/counter/lanjie"}
    MIDDLEWARE = [..., "lanjie.integrations.django.LanjieMiddleware"]

    # views.py
    @require_POST
    @checked(matter="procurement.supplier", purpose="bid review")
    def accept(request, decision):
        if decision.outcome is Outcome.INTERCEPT:
            return intercepted(request, decision)
        return JsonResponse(shown(decision))
"""

import asyncio
import functools
import json
import threading
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from lanjie._context import OfficerClaim
from lanjie._feedback import Feedback
from lanjie.client import Client
from lanjie.decision import Decision
from lanjie.errors import InvalidArgument, LanjieError
from lanjie.integrations._case import (
    PROBLEM,
    Question,
    Reply,
    banner,
    client_of,
    headers_of,
    refusal,
    shown,
    trouble,
)

__all__ = ["LanjieMiddleware", "banner", "checked", "client", "close", "intercepted", "report", "shown"]

_lock = threading.Lock()
_made: list[Client] = []


def client() -> Client:
    """Return the client of this process, made once by ``settings.LANJIE``; it connects when it is first used."""
    with _lock:
        if not _made:
            _made.append(client_of(settings.LANJIE))
        return _made[0]


def close() -> None:
    """Upload the records of the last local passes; for the end of a worker (gunicorn: `worker_exit`)."""
    with _lock:
        while _made:
            _made.pop().close()


def checked(
    *, officer: Callable[[HttpRequest], str | OfficerClaim | None] = lambda _: None, **question: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a view that takes `decision`; form or JSON in the body hold `identifier`, `name`, `case_no`.

    Args:
        officer: tells who sits at the counter, from the session of the application.
        question: see `Question`: matter, purpose, role, handling_region.
    """
    asks = Question(**question)

    def ask(request: HttpRequest) -> Decision | HttpResponse:
        try:
            asked = asks.asked(_form(request), officer(request))
            request.lanjie = client().check(asked.pop("identifier"), **asked)
        except LanjieError as error:
            return _response(request, trouble(error))
        return request.lanjie

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(view)
        def blocking(request: HttpRequest, *arguments: Any, **named: Any) -> Any:
            found = ask(request)
            return view(request, *arguments, decision=found, **named) if isinstance(found, Decision) else found

        @functools.wraps(view)
        async def waiting(request: HttpRequest, *arguments: Any, **named: Any) -> Any:
            found = await asyncio.to_thread(ask, request)
            return await view(request, *arguments, decision=found, **named) if isinstance(found, Decision) else found

        return waiting if iscoroutinefunction(view) else blocking

    return decorate


class LanjieMiddleware:
    """Puts the outcome of a checked request into the headers of its answer, and turns errors of views into answers."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._waits = iscoroutinefunction(get_response)
        if self._waits:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Answer, or return what answers when it is awaited."""
        return self._wait(request) if self._waits else _marked(request, self._get_response(request))

    async def _wait(self, request: HttpRequest) -> Any:
        return _marked(request, await self._get_response(request))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Turn what a view was refused, e.g. by `report`, into an error of the form or of the operator."""
        return _response(request, trouble(exception)) if isinstance(exception, LanjieError) else None


def intercepted(request: HttpRequest, decision: Decision) -> HttpResponse:
    """Return the ready refusal of a case: 409, with legal basis and remedies, as a page or a problem document."""
    return _response(request, refusal(decision))


def report(decision_id: str, **told: Any) -> tuple[Feedback, ...]:
    """Tell what was done about an answer; see `Client.report`. The middleware turns what is refused into an answer."""
    return client().report(decision_id, **told)


def _form(request: HttpRequest) -> Any:
    if request.content_type != "application/json":
        return request.POST
    try:
        found = json.loads(request.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidArgument("the body is a JSON object", metadata={"field": "body", "rule": "format"})
    return found


def _response(request: HttpRequest, reply: Reply) -> HttpResponse:
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        return HttpResponse(reply.text, "text/plain; charset=utf-8", reply.status, headers=dict(reply.headers))
    body = json.dumps(reply.document, ensure_ascii=False)
    return HttpResponse(body, PROBLEM, reply.status, headers=dict(reply.headers))


def _marked(request: HttpRequest, response: Any) -> Any:
    if (decision := getattr(request, "lanjie", None)) is not None:
        for name, value in headers_of(decision).items():
            response[name] = value
    return response
