"""The three frameworks alike: what a clerk sees of an answer, what a form is told, and that no answer stops a case."""

import contextlib
import json
import logging
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import django
import pytest
from django.conf import settings as django_settings
from django.http import JsonResponse
from django.test import AsyncClient as DjangoAsyncClient
from django.test import Client as DjangoClient
from django.urls import path
from fastapi import Depends, FastAPI, Request
from fastapi.testclient import TestClient
from flask import Flask, request

import lanjie.integrations.django as in_django
import lanjie.integrations.fastapi as in_fastapi
import lanjie.integrations.flask as in_flask
from lanjie import Decision, GatewayFault, Outcome, PermissionDenied
from lanjie.integrations._case import refusal
from lanjie.testing import FakeGateway
from tests.support.subjects import uscc

SUBJECT, FREE = uscc(1), uscc(2)
QUESTION: dict[str, Any] = {"matter": "procurement.supplier", "purpose": "bid review"}
ONGOING = [Outcome.ADVISE, Outcome.HEIGHTEN, Outcome.RESTRICT, Outcome.UNDETERMINED]


@dataclass
class Web:
    """An application and its gateway; `post` returns status, headers and text."""

    gateway: FakeGateway
    post: Callable[..., tuple[int, dict[str, str], str]]

    def case(self, subject: str = SUBJECT, **more: Any) -> tuple[int, dict[str, str], Any]:
        status, headers, text = self.post("/cases/", {"identifier": subject}, **more)
        return status, headers, json.loads(text)


@contextlib.contextmanager
def fastapi_app(gateway: FakeGateway) -> Iterator[Callable[..., Any]]:
    app = FastAPI(lifespan=in_fastapi.lifespan(client=gateway.async_client))
    check = in_fastapi.Check(officer=lambda _: "0042", **QUESTION)

    @app.post("/cases/")
    async def accept(decision: Annotated[Decision, Depends(check)]) -> Any:
        if decision.outcome is Outcome.INTERCEPT:
            return in_fastapi.intercepted(decision)
        return {**in_fastapi.shown(decision), "banner": in_fastapi.banner(decision)}

    @app.post("/feedback/")
    async def feedback(request: Request) -> Any:
        form = await request.form()
        told = await in_fastapi.report(request, str(form["id"]), officer="0042", applied=[str(form["applied"])])
        return {"what": told[0].disposition.value}

    with TestClient(app) as web:

        def post(address: str, form: Any, **more: Any) -> Any:
            as_json = {"content": json.dumps(form), "headers": {"Content-Type": "application/json"}}
            answer = web.post(address, **(as_json if more.get("as_json") else {"data": form}))
            found = answer.json()
            # An error of FastAPI holds the document as its detail.
            inner = found["detail"] if isinstance(found.get("detail"), dict) else found
            return answer.status_code, dict(answer.headers), json.dumps(inner)

        yield post


@contextlib.contextmanager
def flask_app(gateway: FakeGateway) -> Iterator[Callable[..., Any]]:
    app, extension = Flask(__name__), in_flask.Lanjie()
    app.config["LANJIE"] = {"client": gateway.client}
    extension.init_app(app)

    @app.post("/cases/")
    @extension.checked(officer=lambda: "0042", **QUESTION)
    def accept(decision: Decision) -> Any:
        if decision.outcome is Outcome.INTERCEPT:
            return in_flask.intercepted(decision)
        return {**in_flask.shown(decision), "banner": in_flask.banner(decision)}

    @app.post("/feedback/")
    def feedback() -> Any:
        told = extension.report(request.form["id"], officer="0042", applied=[request.form["applied"]])
        return {"what": told[0].disposition.value}

    web = app.test_client()

    def post(address: str, form: Any, **more: Any) -> Any:
        given = {"json" if more.get("as_json") else "data": form}
        answer = web.post(address, **given, headers={"Accept": more.get("accept", "application/json")})
        return answer.status_code, dict(answer.headers), answer.text

    yield post
    extension.close(app)


def django_views(place: str) -> list[Any]:
    def answer(request: Any, decision: Decision) -> Any:
        if decision.outcome is Outcome.INTERCEPT:
            return in_django.intercepted(request, decision)
        return JsonResponse({**in_django.shown(decision), "banner": in_django.banner(decision)})

    @in_django.checked(officer=lambda _: "0042", **QUESTION)
    def blocking(request: Any, decision: Decision) -> Any:
        return answer(request, decision)

    @in_django.checked(officer=lambda _: "0042", **QUESTION)
    async def waiting(request: Any, decision: Decision) -> Any:
        return answer(request, decision)

    def feedback(request: Any) -> Any:
        told = in_django.report(request.POST["id"], officer="0042", applied=[request.POST["applied"]])
        return JsonResponse({"what": told[0].disposition.value})

    return [path(f"{place}cases/", waiting if place else blocking), path(f"{place}feedback/", feedback)]


@contextlib.contextmanager
def django_app(gateway: FakeGateway, place: str = "") -> Iterator[Callable[..., Any]]:
    if not django_settings.configured:
        urls = types.ModuleType("counter_urls")
        urls.urlpatterns = [*django_views(""), *django_views("waiting/")]  # type: ignore[attr-defined]
        middleware = ["lanjie.integrations.django.LanjieMiddleware"]
        django_settings.configure(ROOT_URLCONF=urls, MIDDLEWARE=middleware, ALLOWED_HOSTS=["testserver"], LANJIE={})
        django.setup(set_prefix=False)
    django_settings.LANJIE = {"client": gateway.client}

    def post(address: str, form: Any, **more: Any) -> Any:
        given = {"data": form, "content_type": "application/json"} if more.get("as_json") else {"data": form}
        accept = {"accept": more.get("accept", "application/json")}
        if place:
            from asgiref.sync import async_to_sync

            answer = async_to_sync(DjangoAsyncClient().post)(f"/{place}{address[1:]}", **given, headers=accept)
        else:
            answer = DjangoClient().post(address, **given, headers=accept)
        return answer.status_code, dict(answer.headers), answer.content.decode()

    yield post
    in_django.close()


APPS = {
    "fastapi": fastapi_app,
    "flask": flask_app,
    "django": django_app,
    "django-async": lambda gateway: django_app(gateway, "waiting/"),
}


@pytest.fixture(params=APPS)
def web(request: pytest.FixtureRequest) -> Iterator[Web]:
    gateway = FakeGateway(matters=["procurement.supplier"])
    with APPS[request.param](gateway) as post:
        yield Web(gateway, post)


@pytest.mark.parametrize("outcome", ONGOING)
def test_every_answer_but_one_goes_on_with_its_instruction(web: Web, outcome: Outcome) -> None:
    web.gateway.list_subject(SUBJECT, outcome=outcome)
    status, headers, told = web.case()
    assert (status, told["outcome"], headers.get("Lanjie-Outcome") or headers["lanjie-outcome"]) == (
        200,
        outcome.name,
        outcome.name,
    )
    assert told["instruction"] in told["banner"]
    assert bool(told["resolve_by"]) is ("前核实" in told["banner"]) is (outcome is Outcome.UNDETERMINED)
    assert web.gateway.questions[-1].officer == "0042"


def test_a_pass_has_no_banner(web: Web) -> None:
    status, _, told = web.case(FREE)
    assert (status, told["outcome"], told["banner"], told["measures"]) == (200, "PASS", "", [])


def test_a_gateway_that_is_away_stops_no_case(web: Web) -> None:
    web.gateway.reachable = False
    status, headers, told = web.case()
    assert (status, told["outcome"]) == (200, "UNDETERMINED")
    assert told["banner"]
    assert told["resolve_by"] in {value for name, value in headers.items() if name.lower() == "lanjie-resolve-by"}


def test_an_interception_has_a_ready_refusal_with_basis(web: Web) -> None:
    web.gateway.list_subject(SUBJECT)
    status, headers, told = web.case()
    assert (status, told["status"], told["outcome"]) == (409, 409, "INTERCEPT")
    assert told["measures"][0]["basis"] == "示例依据"
    assert told["objection_channel"].startswith("示例")
    assert {"application/problem+json"} & set(headers.values())


@pytest.mark.parametrize("as_json", [False, True])
def test_what_the_form_got_wrong_is_told_to_the_form(web: Web, *, as_json: bool) -> None:
    for wrong in ("uscc:73519", SUBJECT[5:], ""):
        status, _, told = web.case(wrong, as_json=as_json)
        assert (status, told["errors"][0]["field"]) == (422, "identifier")
        assert told["errors"][0]["rule"]
        assert not wrong or wrong[5:] not in json.dumps(told)
    assert not web.gateway.questions


def test_a_json_body_is_an_object_of_texts(web: Web) -> None:
    for body in ({"identifier": 91}, ["uscc:1"]):
        status, _, text = web.post("/cases/", body, as_json=True)
        assert (status, "errors" in json.loads(text)) == (422, True)


@pytest.mark.parametrize("field", ["name", "case_no"])
def test_half_a_character_is_told_to_the_form(web: Web, field: str) -> None:
    status, _, text = web.post("/cases/", {"identifier": SUBJECT, field: "\ud83d"}, as_json=True)
    assert (status, json.loads(text)["errors"]) == (422, [{"field": field, "rule": "encoding"}])


@pytest.mark.parametrize(("error", "status"), [(PermissionDenied("no"), 500), (GatewayFault("no"), 503)])
def test_a_refusal_of_the_gateway_is_an_error_of_the_operator_and_no_pass(
    web: Web, caplog: pytest.LogCaptureFixture, error: Any, status: int
) -> None:
    web.gateway.list_subject(SUBJECT)
    web.gateway.failure = error
    with caplog.at_level(logging.ERROR, "lanjie.integrations"):
        found, headers, told = web.case()
    assert (found, "outcome" in told, "请" in told["title"]) == (status, False, True)
    assert type(error).__name__ in caplog.text
    assert any(name.lower() == "retry-after" for name in headers) is (status == 503)


def test_no_number_of_the_subject_leaves(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    number = SUBJECT[5:]
    for outcome in Outcome:
        web.gateway.list_subject(SUBJECT, outcome=outcome)
        with caplog.at_level(logging.DEBUG):
            _, headers, told = web.case()
        assert number not in json.dumps(told) + str(headers) + caplog.text


def test_what_was_done_is_reported(web: Web) -> None:
    web.gateway.list_subject(SUBJECT, outcome=Outcome.RESTRICT)
    decision = web.case()[2]["decision_id"]
    status, _, text = web.post("/feedback/", {"id": decision, "applied": "FAKE-1"})
    assert (status, json.loads(text)) == (200, {"what": "applied"})
    assert web.gateway.reports[-1].officer_id == "0042"
    status, _, text = web.post("/feedback/", {"id": decision, "applied": "OTHER"})
    assert (status, json.loads(text)["errors"]) == (422, [{"field": "applied", "rule": "outside-of-answer"}])
    assert web.post("/feedback/", {"id": "nobody", "applied": "FAKE-1"})[0] == 422


@pytest.mark.parametrize("app", [flask_app, django_app])
def test_a_page_is_told_in_words(app: Any) -> None:
    gateway = FakeGateway(matters=["procurement.supplier"])
    gateway.list_subject(SUBJECT)
    with app(gateway) as post:
        status, headers, text = post("/cases/", {"identifier": SUBJECT}, accept="text/html")
        assert (status, headers["Content-Type"]) == (409, "text/plain; charset=utf-8")
        assert "依据:示例依据" in text
        assert "异议渠道:示例" in text
        assert SUBJECT[5:] not in text
        assert "请核对" in post("/cases/", {"identifier": "uscc:1"}, accept="text/html")[2]


def test_no_other_answer_has_a_refusal() -> None:
    gateway = FakeGateway(matters=["procurement.supplier"])
    with gateway.client() as client:
        for outcome in ONGOING:
            gateway.list_subject(SUBJECT, outcome=outcome)
            with pytest.raises(ValueError, match="only INTERCEPT"):
                refusal(client.check(SUBJECT, **QUESTION))
