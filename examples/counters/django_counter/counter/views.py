"""Accepting a case: the company is checked, the answer is kept with the case; then what was done about it."""

import os

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET, require_POST

from lanjie import Decision, Outcome
from lanjie.integrations.django import checked, client, report, shown


@require_POST
@checked(matter="procurement.supplier", purpose="bid qualification review")
def accept(request: HttpRequest, decision: Decision) -> HttpResponse:
    """Accept a case; only an interception may stop it, and here an officer looks at it first."""
    return JsonResponse(
        {
            **shown(decision),
            "accepted": decision.outcome is not Outcome.INTERCEPT,
            "revision": decision.revision,
            "source": decision.source.name,
            "worker": os.getpid(),
        }
    )


@require_POST
def feedback(request: HttpRequest) -> HttpResponse:
    """Tell the gateway what the officer did: measures carried out, or why they were not."""
    told = report(
        request.POST.get("decision_id", ""),
        officer=request.POST.get("officer", ""),
        applied=request.POST.getlist("applied"),
        reason=request.POST.get("reason", ""),
        case_refused=request.POST.get("case_refused") == "yes",
    )
    return JsonResponse({"told": [{"listing": each.listing_id, "what": each.disposition.value} for each in told]})


@require_GET
def sync(request: HttpRequest) -> JsonResponse:
    """Tell the state of the set in this worker, for those who run the counter."""
    status = client().sync_status()
    return JsonResponse(
        {
            "state": status.state.value,
            "revision": status.revision,
            "age_seconds": status.age_seconds,
            "leads": status.leads,
            "filter": status.filter,
            "unsent": status.unsent,
            "last_error": status.last_error,
            "worker": os.getpid(),
        }
    )
