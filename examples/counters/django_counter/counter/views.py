"""Accepting a case: the company is checked, the answer is kept with the case."""

import os

from django.conf import settings
from django.http import HttpRequest, HttpResponseBadRequest, JsonResponse
from django.views.decorators.http import require_GET, require_POST

import lanjie
from lanjie import Client, Outcome

client = Client.from_file(settings.LANJIE_GATEWAY_FILE, state_dir=settings.LANJIE_STATE_DIR)


@require_POST
def accept(request: HttpRequest) -> JsonResponse | HttpResponseBadRequest:
    """Accept a case; only an interception may stop it."""
    try:
        decision = client.check(
            request.POST.get("identifier", ""),
            matter="procurement.supplier",
            purpose="bid qualification review",
            case_no=request.POST.get("case_no", ""),
        )
    except lanjie.InvalidIdentifier as error:
        return HttpResponseBadRequest(str(error))
    return JsonResponse(
        {
            "accepted": decision.outcome is not Outcome.INTERCEPT,
            "outcome": decision.outcome.name,
            "instruction": decision.instruction,
            "basis": [measure.basis for measure in decision.measures],
            "decision_id": decision.decision_id,
            "revision": decision.revision,
            "source": decision.source.name,
            "worker": os.getpid(),
        }
    )


@require_GET
def sync(request: HttpRequest) -> JsonResponse:
    """Tell the state of the set in this worker, for those who run the counter."""
    status = client.sync_status()
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
