"""What all frameworks share: the question that a request holds, and what is shown of its answer.

1. The subject comes in the body of a request, never in its address; it is in no header, message or log (Art. 40, 43).
2. An answer stops nothing by itself. `INTERCEPT` has a ready refusal, for a view that decides so (Art. 47).
3. `UNDETERMINED` goes on: what is to be done, and by when, is shown.
4. What the caller can mend is an error of the form. A refusal by the gateway is one of the operator, never a pass.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lanjie._context import OfficerClaim
from lanjie.client import Client
from lanjie.decision import Decision, Outcome
from lanjie.errors import (
    AuthenticationFailed,
    InvalidArgument,
    InvalidIdentifier,
    LanjieError,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    UnknownMatter,
)
from lanjie_matcher.civil_time import SHANGHAI

PROBLEM: Final = "application/problem+json"
_FORM: Final = frozenset({"identifier", "name", "case_no"})
_LOG: Final = logging.getLogger("lanjie.integrations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a view asks of every case.

    Attributes:
        matter: code of the matter.
        purpose: why it is asked (Art. 24).
        role: part the subject plays.
        handling_region: region of the handling authority, six digits; the department's own when empty.
    """

    matter: str
    purpose: str
    role: str = ""
    handling_region: str = ""

    def asked(self, form: Mapping[str, Any], officer: str | OfficerClaim | None) -> dict[str, Any]:
        """Return the arguments of `Client.check` for a form with `identifier`, `name` and `case_no` (1).

        Raises:
            InvalidArgument: a field is no text.
        """
        fields = {name: form.get(name, "") for name in _FORM}
        for name, value in fields.items():
            if not isinstance(value, str):
                raise InvalidArgument(f"{name} is a text", metadata={"field": name, "rule": "type"})
        fields["name"] = fields["name"].strip()
        return {
            **fields,
            "matter": self.matter,
            "purpose": self.purpose,
            "role": self.role,
            "handling_region": self.handling_region,
            "officer": officer,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A ready answer: a problem document (RFC 9457) and the same in words, Chinese."""

    status: int
    document: Mapping[str, Any]
    text: str
    headers: Mapping[str, str]


def client_of(settings: Mapping[str, Any]) -> Client:
    """Return a client by settings: `gateway_file` or `target`, and any other argument of `Client`.

    A function as `client` makes it in another way, e.g. `FakeGateway.client` in tests.
    """
    options = dict(settings)
    if "client" in options:
        made: Client = options["client"]()
        return made
    file = options.pop("gateway_file", None)
    return Client(**options) if file is None else Client.from_file(file, **options)


def shown(decision: Decision) -> dict[str, Any]:
    """Return what a clerk is shown of an answer, for a page or a JSON answer: no number, masked or not."""
    return {
        "outcome": decision.outcome.name,
        "instruction": decision.instruction,
        "resolve_by": _until(decision),
        "measures": [
            {"code": each.code, "title": each.title, "effect": each.effect.name, "basis": each.basis}
            for each in decision.measures
        ],
        "remedies": [each.remedies for each in decision.listings if each.remedies],
        "objection_channel": decision.objection_channel,
        "officer_verifies": list(decision.officer_verifies),
        "confirmation_required": decision.confirmation_required,
        "warnings": list(decision.warnings),
        "decision_id": decision.decision_id,
    }


def headers_of(decision: Decision) -> dict[str, str]:
    """Return the headers of an answer: outcome, its name, and until when an officer settles it (3)."""
    found = {
        "Lanjie-Outcome": decision.outcome.name,
        "Lanjie-Decision": decision.decision_id,
        "Lanjie-Resolve-By": _until(decision),
        "Cache-Control": "no-store",
    }
    return {name: value for name, value in found.items() if value}


def banner(decision: Decision) -> str:
    """Return the line that a page shows above the case; empty for a pass."""
    if decision.outcome is Outcome.PASS:
        return ""
    if decision.resolve_by is None:
        return decision.instruction
    return f"{decision.instruction}(请于{decision.resolve_by.astimezone(SHANGHAI):%Y-%m-%d %H:%M}前核实)"


def refusal(decision: Decision) -> Reply:
    """Return the ready refusal of a case, with legal basis and remedies (2).

    Raises:
        ValueError: the answer intercepts nothing: no other may stop a case.
    """
    if decision.outcome is not Outcome.INTERCEPT:
        raise ValueError("only INTERCEPT may stop a case")
    told = shown(decision)
    lines = [decision.instruction]
    lines += [f"措施:{each.title}。依据:{each.basis}" for each in decision.measures]
    lines += [f"列入:{each.authority},{each.decision_no},{each.basis}" for each in decision.listings]
    lines += [f"救济途径:{remedies}" for remedies in dict.fromkeys(told["remedies"])]
    lines.append(f"异议渠道:{decision.objection_channel}")
    document = {"type": "about:blank", "title": "拦截", "status": 409, "detail": decision.instruction, **told}
    return Reply(status=409, document=document, text="\n".join(lines), headers=headers_of(decision))


def trouble(error: LanjieError) -> Reply:
    """Return the answer to a question that was not answered (4)."""
    rule, field = error.metadata.get("rule", ""), error.metadata.get("field", "")
    headers: dict[str, str] = {}
    if isinstance(error, InvalidIdentifier):
        status, field, title = 422, "identifier", "证件或代码填写有误, 请核对后重新提交"
    elif isinstance(error, InvalidArgument | NotFound | PreconditionFailed) and not isinstance(error, UnknownMatter):
        status, title = 422, "填写有误, 请核对后重新提交"
    elif isinstance(error, PermissionDenied | AuthenticationFailed | UnknownMatter):
        # No pass and no refusal: the case waits until somebody mends the grant, the credentials or the settings.
        status, title = 500, "本系统未获准进行此项比对, 请联系系统管理员"
        _LOG.error("not allowed to ask: %s %s", type(error).__name__, error.reason)
    else:
        status, title = 503, "暂时无法比对并留存记录, 请稍后重试"
        headers["Retry-After"] = "5"
        _LOG.error("no answer: %s %s", type(error).__name__, error.reason)
    document = {"type": "about:blank", "title": title, "status": status, "detail": str(error)}
    if status == 422:
        document["errors"] = [{"field": field, "rule": rule}]
    return Reply(status=status, document=document, text=f"{title}({rule})" if rule else title, headers=headers)


def _until(decision: Decision) -> str:
    return "" if decision.resolve_by is None else decision.resolve_by.isoformat(timespec="seconds")
