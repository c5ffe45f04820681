"""`lanjie list`: events that say more than reason and document, and `lanjie duties` that they open."""

import datetime
from typing import Annotated, Any, Literal

import typer

from lanjie_gateway.cli import lists, render
from lanjie_gateway.cli.gateway_file import (
    AsJson,
    CommandError,
    Listener,
    Person,
    Target,
)
from lanjie_gateway.cli.lists import Day, Document, ListingId, Reason

LastDay = Annotated[
    datetime.datetime | None,
    typer.Option("--until", formats=["%Y-%m-%d"], help="Last day of the stay; until it is lifted when left out."),
]


@lists.app.command()
def stay(
    listing_id: ListingId,
    *,
    reason: Reason,
    document: Document,
    date: Day = None,
    until: LastDay = None,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Record a stay by a court or reconsideration organ."""
    facts: dict[str, Any] = {"reason": reason, "document": document, "day": _day(date), "until_date": _day(until)}
    lists.carry_out("stay", "STAYED", listing_id, target, as_json=as_json, **facts)


@lists.app.command("close-objection")
def close_objection(
    listing_id: ListingId,
    *,
    outcome: Annotated[
        Literal["unfounded", "corrected", "deleted"],
        typer.Option(help="What came of it. corrected: a correction is recorded. deleted: it was never in force."),
    ],
    reply: Annotated[str, typer.Option(help="What the subject is told (Art. 64), 1 to 2,000 characters.")],
    reason: Reason,
    document: Document,
    date: Day = None,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Close an objection with its outcome and a reply to the subject (Art. 64)."""
    from lanjie.v1 import listing_pb2 as pb

    number = pb.ObjectionOutcome.Value(f"OBJECTION_OUTCOME_{outcome.upper()}")
    facts: dict[str, Any] = {
        "reason": reason,
        "document": document,
        "day": _day(date),
        "objection_outcome": number,
        "reply": reply,
    }
    lists.carry_out("close-objection", "OBJECTION_CLOSED", listing_id, target, as_json=as_json, **facts)


@lists.app.command()
def notice(
    listing_id: ListingId,
    *,
    what: Annotated[
        Literal["revoked", "altered", "annulled"], typer.Option(help="What became of the instrument it rests on.")
    ],
    instrument_date: Annotated[
        datetime.datetime, typer.Option(formats=["%Y-%m-%d"], help="Day on which that took effect.")
    ],
    reason: Reason,
    document: Document,
    date: Day = None,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Record that notice arrived (Art. 65); revoke, annul or correct the listing within two working days."""
    from lanjie.v1 import listing_pb2 as pb

    number = pb.InstrumentNotice.Value(f"INSTRUMENT_NOTICE_{what.upper()}")
    facts: dict[str, Any] = {"reason": reason, "document": document, "day": _day(date)}
    facts |= {"notice": number, "instrument_date": _day(instrument_date)}
    lists.carry_out("notice", "NOTICED", listing_id, target, as_json=as_json, **facts)


@lists.app.command()
def review(
    listing_id: ListingId,
    *,
    revision: Annotated[int, typer.Option(min=1, help="Revision of the act; `list show` tells it.")],
    contest: Annotated[bool, typer.Option("--contest", help="You do not agree; say why with --reason.")] = False,
    reason: Annotated[str, typer.Option(help="Why, 1 to 500 characters; needed to contest.")] = "",
    document: Annotated[str, typer.Option(help="Number of a document of its own, where there is one.")] = "",
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Look at an act that another person recorded by hand (Art. 61). A contested act stands until it is undone."""
    if contest and not reason:
        raise CommandError("--contest needs a --reason")
    facts: dict[str, Any] = {"reason": reason or "agreed", "document": document or f"revision {revision}"}
    facts |= {"reviewed_revision": revision, "contested": contest}
    lists.carry_out("review", "REVIEWED", listing_id, target, as_json=as_json, person=Person.REVIEWER, **facts)


def duties(
    *,
    overdue: Annotated[bool, typer.Option("--overdue", help="Those alone whose last day is past.")] = False,
    rule: Annotated[str, typer.Option(help="Those of one deadline, e.g. objection-reply.")] = "",
    late: Annotated[bool, typer.Option("--late", help="Those too that were done too late in twelve months.")] = False,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """List who has to do what by when (Art. 60, 61, 64-66), the last to fall due first."""
    from lanjie.v1 import listing_pb2 as pb
    from lanjie_gateway.cli import render_events
    from lanjie_gateway.cli.admin import connect
    from lanjie_matcher.civil_time import day_of

    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        request = pb.ListDutiesRequest(overdue=overdue, rule=rule, late=late)
        found = admin.call(admin.listings.ListDuties, request).duties
    if as_json:
        render.emit([render.message_dict(each) for each in found])
    elif found:
        today = day_of(datetime.datetime.now(datetime.UTC))
        render.console().print(render_events.duties_table(found, today))
    else:
        typer.echo("nothing is overdue" if overdue else "nothing is to be done")


def _day(day: datetime.datetime | None) -> str:
    return "" if day is None else day.date().isoformat()
