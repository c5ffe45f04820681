"""Client for counters that check subjects against serious-dishonesty lists.

Example::

    from lanjie import Client, Outcome

    with Client.from_file("state/gateway.json") as client:
        decision = client.check("uscc:91320102MA1ABCDE82", matter="procurement.supplier", purpose="bid review")
        if decision.outcome is Outcome.INTERCEPT:
            ...

The parts are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lanjie._batch import Decisions
    from lanjie._context import InquiryMode, OfficerClaim
    from lanjie._feedback import Disposition, Feedback
    from lanjie._runtime import SyncState, SyncStatus
    from lanjie._tls import Tls
    from lanjie._watch import Alert, AlertKind, Watch
    from lanjie.aio import AsyncClient
    from lanjie.client import Client
    from lanjie.decision import (
        Decision,
        Effect,
        ListingEvidence,
        Measure,
        MissingFact,
        Outcome,
        Source,
        UndeterminedReason,
    )
    from lanjie.errors import (
        AuthenticationFailed,
        CatalogueRefused,
        ClientClosed,
        FileRefused,
        GatewayFault,
        InvalidArgument,
        InvalidIdentifier,
        LanjieError,
        NotFound,
        PermissionDenied,
        PreconditionFailed,
        RateLimited,
        RevisionCompacted,
        Unavailable,
        UnknownMatter,
    )
    from lanjie.officers import OfficerSigner

__version__ = "0.1.0"

__all__ = [
    "Alert",
    "AlertKind",
    "AsyncClient",
    "AuthenticationFailed",
    "CatalogueRefused",
    "Client",
    "ClientClosed",
    "Decision",
    "Decisions",
    "Disposition",
    "Effect",
    "Feedback",
    "FileRefused",
    "GatewayFault",
    "InquiryMode",
    "InvalidArgument",
    "InvalidIdentifier",
    "LanjieError",
    "ListingEvidence",
    "Measure",
    "MissingFact",
    "NotFound",
    "OfficerClaim",
    "OfficerSigner",
    "Outcome",
    "PermissionDenied",
    "PreconditionFailed",
    "RateLimited",
    "RevisionCompacted",
    "Source",
    "SyncState",
    "SyncStatus",
    "Tls",
    "Unavailable",
    "UndeterminedReason",
    "UnknownMatter",
    "Watch",
    "__version__",
]

_HOMES = {
    "Decisions": "_batch",
    "InquiryMode": "_context",
    "OfficerClaim": "_context",
    "Disposition": "_feedback",
    "Feedback": "_feedback",
    "OfficerSigner": "officers",
    "SyncState": "_runtime",
    "SyncStatus": "_runtime",
    "Tls": "_tls",
    "Alert": "_watch",
    "AlertKind": "_watch",
    "Watch": "_watch",
    "AsyncClient": "aio",
    "Client": "client",
    **dict.fromkeys(
        ("Decision", "Effect", "ListingEvidence", "Measure", "MissingFact", "Outcome", "Source", "UndeterminedReason"),
        "decision",
    ),
    **dict.fromkeys(
        (
            "AuthenticationFailed",
            "CatalogueRefused",
            "ClientClosed",
            "FileRefused",
            "GatewayFault",
            "InvalidArgument",
            "InvalidIdentifier",
            "LanjieError",
            "NotFound",
            "PermissionDenied",
            "PreconditionFailed",
            "RateLimited",
            "RevisionCompacted",
            "Unavailable",
            "UnknownMatter",
        ),
        "errors",
    ),
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lanjie' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lanjie.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
