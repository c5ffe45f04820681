"""`lanjie rotate-view-key`: a new key for the fingerprints that SDKs hold."""

from typing import Any, Final

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import AsJson, Listener, Person, Target

ROTATION_SECONDS: Final = 7_200.0


def rotate_view_key(*, target: Target, as_json: AsJson = False) -> None:
    """Give the view of the SDKs a new key, while checks and removals go on; imports wait meanwhile.

    With several hosts, copy the new file of keys/ to the others as soon as this has ended.
    """
    from lanjie.v1 import ledger_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    last = pb.RotateViewKeyResponse()
    endpoint = target.endpoint(Listener.ADMIN, Person.AGENCY)
    with connect(endpoint) as admin, render.steps(hidden=as_json) as step:
        for last in admin.stream(admin.ledger.RotateViewKey, pb.RotateViewKeyRequest(), seconds=ROTATION_SECONDS):
            waiting = last.done == last.total
            step("SDKs take the new view" if waiting else "fingerprints", last.done, last.total)
    facts: dict[str, Any] = {
        "generation": last.generation,
        "revision": last.revision,
        "key_file": f"keys/view-{last.generation}",
    }
    if as_json:
        render.emit(facts)
    else:
        render.console().print(render.facts_panel("view key rotated 已轮换", facts))
