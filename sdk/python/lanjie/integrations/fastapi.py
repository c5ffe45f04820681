"""FastAPI: a dependency that checks the subject of a request and hands the route its `Decision`.

Example::

    app = FastAPI(lifespan=lifespan(gateway_file="/var/lib/lanjie/gateway.json"))
    Checked = Annotated[Decision, Depends(Check(matter="procurement.supplier", purpose="bid review"))]

    @app.post("/cases/")
    async def accept(decision: Checked) -> Any:
        if decision.outcome is Outcome.INTERCEPT:
            return intercepted(decision)
        return shown(decision)
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from lanjie._context import OfficerClaim
from lanjie._feedback import Feedback
from lanjie.aio import AsyncClient
from lanjie.decision import Decision
from lanjie.errors import InvalidArgument, LanjieError
from lanjie.integrations._case import PROBLEM, Question, banner, headers_of, refusal, shown, trouble

__all__ = ["Check", "banner", "client_of", "headers_of", "intercepted", "lifespan", "report", "shown"]

_Lifespan = Callable[[FastAPI], contextlib.AbstractAsyncContextManager[Mapping[str, Any]]]


def lifespan(**settings: Any) -> _Lifespan:
    """Return the lifespan of an application with one client: made when it starts, closed when it ends.

    Args:
        settings: `gateway_file` or `target`, and any other argument of `AsyncClient`; or `client`, a function that
            makes one.
    """

    @contextlib.asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        del app
        options = dict(settings)
        make = options.pop("client", None)
        if make is None:
            file = options.pop("gateway_file", None)
            make = AsyncClient if file is None else lambda **given: AsyncClient.from_file(file, **given)
        async with make(**options) as client:
            yield {"lanjie": client}

    return run


def client_of(request: Request) -> AsyncClient:
    """Return the client of the application that a request came to."""
    client: AsyncClient = request.state.lanjie
    return client


class Check:
    """A dependency. It reads `identifier`, `name` and `case_no` from the form or JSON object in the body.

    Args:
        officer: tells who sits at the counter, from the session of the application.
        question: see `Question`: matter, purpose, role, handling_region.
    """

    def __init__(
        self, *, officer: Callable[[Request], str | OfficerClaim | None] = lambda _: None, **question: str
    ) -> None:
        self._officer = officer
        self._question = Question(**question)

    async def __call__(self, request: Request, response: Response) -> Decision:
        """Ask; a route that makes a response of its own adds `headers_of`."""
        try:
            asked = self._question.asked(await _form(request), self._officer(request))
            decision = await client_of(request).check(asked.pop("identifier"), **asked)
        except LanjieError as error:
            raise _problem(error) from None
        response.headers.update(headers_of(decision))
        return decision


def intercepted(decision: Decision) -> JSONResponse:
    """Return the ready refusal of a case: 409, a problem document with legal basis and remedies."""
    reply = refusal(decision)
    return JSONResponse(reply.document, reply.status, dict(reply.headers), media_type=PROBLEM)


async def report(request: Request, decision_id: str, **told: Any) -> tuple[Feedback, ...]:
    """Tell what was done about an answer; see `AsyncClient.report`. What is wrong with it is told to the form."""
    try:
        return await client_of(request).report(decision_id, **told)
    except LanjieError as error:
        raise _problem(error) from None


async def _form(request: Request) -> Mapping[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return await request.form()
    try:
        found = await request.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidArgument("the body is a JSON object", metadata={"field": "body", "rule": "format"})
    return found


def _problem(error: LanjieError) -> HTTPException:
    reply = trouble(error)
    return HTTPException(reply.status, dict(reply.document), dict(reply.headers))
