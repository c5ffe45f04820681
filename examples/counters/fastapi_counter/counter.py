"""Accepting a case in FastAPI: the company is checked, the clerk is shown what to do, and tells what was done."""

import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Form, Request

from lanjie import Decision, Outcome
from lanjie.integrations.fastapi import Check, banner, intercepted, lifespan, report, shown

app = FastAPI(
    lifespan=lifespan(gateway_file=os.environ["LANJIE_GATEWAY_FILE"], state_dir=os.environ["LANJIE_STATE_DIR"])
)
Checked = Annotated[Decision, Depends(Check(matter="procurement.supplier", purpose="bid qualification review"))]


@app.post("/cases/")
async def accept(decision: Checked) -> Any:
    """Accept a case; only an interception may stop it."""
    if decision.outcome is Outcome.INTERCEPT:
        return intercepted(decision)
    return {**shown(decision), "accepted": True, "banner": banner(decision)}


@app.post("/feedback/")
async def feedback(
    request: Request,
    decision_id: Annotated[str, Form()],
    officer: Annotated[str, Form()],
    applied: Annotated[list[str] | None, Form()] = None,
    reason: Annotated[str, Form()] = "",
) -> Any:
    """Tell the gateway what the officer did: measures carried out, or why they were not."""
    told = await report(request, decision_id, officer=officer, applied=applied or [], reason=reason)
    return {"told": [{"listing": each.listing_id, "what": each.disposition.value} for each in told]}
