"""Flask: an extension with `init_app`, and a decorator that checks the subject of a request.

Example::

    lanjie = Lanjie()

    def create_app() -> Flask:
        app = Flask(__name__)
        app.config["LANJIE"] = {"gateway_file": "/var/lib/lanjie/gateway.json"}
        lanjie.init_app(app)
        return app

    @blueprint.post("/cases/")
    @lanjie.checked(matter="procurement.supplier", purpose="bid review")
    def accept(decision: Decision) -> Any:
        return intercepted(decision) if decision.outcome is Outcome.INTERCEPT else shown(decision)
"""

import functools
import json
import threading
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, current_app, g, request

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

__all__ = ["Lanjie", "banner", "headers_of", "intercepted", "shown"]


class Lanjie:
    """The extension: one client for each application, made at its first use.

    ``app.config["LANJIE"]`` holds `gateway_file` or `target`, and any other argument of `Client`. Templates find
    `lanjie_banner`, the line above the case.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._lock = threading.Lock()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Bind the extension to an application."""
        app.extensions["lanjie"] = None
        app.register_error_handler(LanjieError, lambda error: _response(trouble(error)))
        app.after_request(_marked)
        app.context_processor(lambda: {"lanjie_banner": banner(g.lanjie) if "lanjie" in g else ""})

    @property
    def client(self) -> Client:
        """The client of the current application."""
        extensions = current_app.extensions
        with self._lock:
            if extensions["lanjie"] is None:
                extensions["lanjie"] = client_of(current_app.config["LANJIE"])
        client: Client = extensions["lanjie"]
        return client

    def checked(
        self, *, officer: Callable[[], str | OfficerClaim | None] = lambda: None, **question: str
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorate a view that takes `decision`; form or JSON in the body hold `identifier`, `name`, `case_no`.

        Args:
            officer: tells who sits at the counter, from the session of the application.
            question: see `Question`: matter, purpose, role, handling_region.
        """
        asks = Question(**question)

        def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(view)
            def checked(*arguments: Any, **named: Any) -> Any:
                asked = asks.asked(_form(), officer())
                g.lanjie = self.client.check(asked.pop("identifier"), **asked)
                return current_app.ensure_sync(view)(*arguments, decision=g.lanjie, **named)

            return checked

        return decorate

    def report(self, decision_id: str, **told: Any) -> tuple[Feedback, ...]:
        """Tell what was done about an answer; see `Client.report`. What is wrong with it is told to the form."""
        return self.client.report(decision_id, **told)

    def close(self, app: Flask) -> None:
        """Upload the records of the last local passes; for the end of a worker."""
        client, app.extensions["lanjie"] = app.extensions["lanjie"], None
        if client is not None:
            client.close()


def intercepted(decision: Decision) -> Response:
    """Return the ready refusal of a case: 409, with legal basis and remedies, as a page or a problem document."""
    return _response(refusal(decision))


def _form() -> Any:
    if not request.is_json:
        return request.form
    found = request.get_json(silent=True)
    if not isinstance(found, dict):
        raise InvalidArgument("the body is a JSON object", metadata={"field": "body", "rule": "format"})
    return found


def _response(reply: Reply) -> Response:
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        return Response(reply.text, reply.status, dict(reply.headers), content_type="text/plain; charset=utf-8")
    body = json.dumps(reply.document, ensure_ascii=False)
    return Response(body, reply.status, dict(reply.headers), content_type=PROBLEM)


def _marked(response: Response) -> Response:
    if "lanjie" in g:
        response.headers.update(headers_of(g.lanjie))
    return response
