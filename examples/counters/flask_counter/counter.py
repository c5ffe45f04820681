"""Accepting a case in Flask: the company is checked, the clerk is shown what to do, and tells what was done."""

import os
from typing import Any

from flask import Flask, request

from lanjie import Decision, Outcome
from lanjie.integrations.flask import Lanjie, banner, intercepted, shown

lanjie = Lanjie()


def create_app() -> Flask:
    """Make the application."""
    app = Flask(__name__)
    app.config["LANJIE"] = {
        "gateway_file": os.environ["LANJIE_GATEWAY_FILE"],
        "state_dir": os.environ["LANJIE_STATE_DIR"],
    }
    lanjie.init_app(app)
    app.post("/cases/")(accept)
    app.post("/feedback/")(feedback)
    return app


@lanjie.checked(matter="procurement.supplier", purpose="bid qualification review")
def accept(decision: Decision) -> Any:
    """Accept a case; only an interception may stop it."""
    if decision.outcome is Outcome.INTERCEPT:
        return intercepted(decision)
    return {**shown(decision), "accepted": True, "banner": banner(decision)}


def feedback() -> Any:
    """Tell the gateway what the officer did: measures carried out, or why they were not."""
    told = lanjie.report(
        request.form.get("decision_id", ""),
        officer=request.form.get("officer", ""),
        applied=request.form.getlist("applied"),
        reason=request.form.get("reason", ""),
    )
    return {"told": [{"listing": each.listing_id, "what": each.disposition.value} for each in told]}
