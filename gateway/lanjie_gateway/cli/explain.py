"""`lanjie explain`: what was answered then, decided again on what was known then, step by step."""

import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import AsJson, Listener, Person, Target

if TYPE_CHECKING:
    from rich.console import RenderableType

NOT_REPRODUCED = 1


def explain(
    decision_id: Annotated[str, typer.Argument(metavar="DECISION_ID", help="Id of the decision, as the answer told.")],
    *,
    purpose: Annotated[str, typer.Option("--purpose", help="Why it is asked (Art. 24), 1 to 200 characters.")],
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Explain a past answer (Art. 65, PIPL 24); exit 1 when deciding again does not give the same."""
    from lanjie.v1 import audit_pb2
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        found = admin.call(admin.audit.Explain, audit_pb2.ExplainRequest(decision_id=decision_id, purpose=purpose))
    if as_json:
        render.emit(render.message_dict(found))
    else:
        render.console().print(account(found))
    if not found.reproduced:
        raise typer.Exit(NOT_REPRODUCED)


def account(found: Any) -> "RenderableType":
    """Return an explanation as a numbered account."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [render.facts_panel("what was asked", _asked(found)), _answers(found)]
    if found.listings:
        parts.append(_listings(found.listings))
    for step in found.steps:
        head = Text(f"\n({step.number}) {step.title}", style="bold")
        parts.append(head.append(f"  {step.article}", style="dim not bold"))
        parts.extend(Text(f"    {each.text}") for each in step.findings)
        if not step.findings:
            parts.append(Text("    nothing to find", style="dim"))
    parts.append(Text())
    parts.extend(Text(f"differs: {each}", style="red") for each in found.differences)
    parts.extend(Text(f"cannot be told: {each}", style="yellow") for each in found.obstacles)
    same = Text("reproduced: deciding again gives the same answer", style="bold green")
    parts.append(same if found.reproduced else Text("not reproduced", style="bold red"))
    return Group(*parts)


def _asked(found: Any) -> dict[str, Any]:
    as_of = found.as_of_time.ToDatetime(datetime.UTC) if found.HasField("as_of_time") else None
    return {
        "decision": found.decision_id,
        "kind": found.kind,
        "answered": render.local_time(found.decided_time.ToDatetime(datetime.UTC)),
        "judged as of": render.local_time(as_of) if as_of else "",
        "department": found.department,
        "matter": found.matter,
        "role": found.role,
        "handling region": found.handling_region,
        "ledger": f"{found.lineage[:8]} epoch {found.epoch} revision {found.revision}",
        "record of this explanation": found.record_id,
    }


def _answers(found: Any) -> "RenderableType":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("", "as recorded", "decided again"):
        table.add_column(heading, overflow="fold")
    again = found.replayed if found.HasField("replayed") else None
    for name in ("outcome", "reason", "measures", "listings", "catalogues", "warnings"):
        table.add_row(name, _shown(getattr(found.recorded, name)), _shown(getattr(again, name)) if again else "–")
    return table


def _listings(listings: Any) -> "RenderableType":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=Text("listings as they stood"), title_justify="left")
    for heading in ("id", "list type", "authority", "decision", "begins"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "id")
    for each in listings:
        table.add_row(each.listing_id, each.list_type, each.authority, each.decision_no, each.begins_date)
    return table


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "\n".join(value)
