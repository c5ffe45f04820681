"""What can go wrong, as one small tree.

::

    LanjieError
    ├── InvalidArgument (ValueError)      a field is missing or malformed: field, rule
    ├── InvalidIdentifier (ValueError)    the text cannot be an identifier: rule
    ├── UnknownMatter (LookupError)       no catalogue ever defined the matter
    ├── NotFound (LookupError)            no such listing, receipt, catalogue among those the caller may see
    ├── AuthenticationFailed              no credentials, or none that are known
    ├── PermissionDenied                  the grant of the caller does not cover this (Art. 24, 39, 40)
    ├── PreconditionFailed                not possible in the present state
    ├── CatalogueRefused                  the catalogue breaks a rule: file, entry, rule in `metadata`
    ├── FileRefused                       the list file cannot be taken as a whole: rule, line in `metadata`
    ├── RateLimited                       too many requests: retry_after, seconds
    ├── Unavailable                       the gateway cannot be reached, or cannot answer now
    ├── RevisionCompacted                 a pinned revision is gone; `check_many` handles it itself
    ├── GatewayFault                      the gateway, or what stands in its place, answered what it should not
    └── ClientClosed                      the client was closed

`check` and `check_many` never raise `Unavailable` or `RateLimited`: they answer `UNDETERMINED`. No message ever holds
an identifier or a name.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class LanjieError(Exception):
    """Base of all errors of this library.

    Attributes:
        reason: name of the `ErrorReason` of errors.proto without its prefix, e.g. ``NOT_CURRENT``; empty for an error
            that no gateway sent.
        metadata: the keys that errors.proto documents for the reason.
    """

    def __init__(self, message: str, *, reason: str = "", metadata: Mapping[str, str] = _NONE) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata)


class InvalidArgument(LanjieError, ValueError):
    """A field is missing or malformed.

    Attributes:
        field: name of the field.
        rule: name of the broken rule, e.g. ``length``, ``required``, ``format``.
    """

    @property
    def field(self) -> str:
        """Name of the field; empty when not told."""
        return self.metadata.get("field", "")

    @property
    def rule(self) -> str:
        """Name of the broken rule; empty when not told."""
        return self.metadata.get("rule", "")


class InvalidIdentifier(LanjieError, ValueError):
    """The text cannot be an identifier; nothing is repaired or guessed (Art. 34)."""

    @property
    def rule(self) -> str:
        """Name of the broken rule: ``kind-missing``, ``kind-unknown``, ``length``, ``alphabet``, ``masked``, ..."""
        return self.metadata.get("rule", "")


class UnknownMatter(LanjieError, LookupError):
    """No catalogue ever defined the matter: an error, never a pass (Art. 47)."""

    @property
    def matter(self) -> str:
        """Code of the matter."""
        return self.metadata.get("matter", "")


class NotFound(LanjieError, LookupError):
    """Does not exist, or is not the caller's: the two read alike (Art. 40)."""


class AuthenticationFailed(LanjieError):
    """No credentials, or none that the gateway knows."""


class PermissionDenied(LanjieError):
    """The grant of the caller does not cover this (Art. 24, 39, 40).

    With the reason ``DAILY_CAP`` no further natural persons may be checked today; the gateway's operator can lift it.
    """


class PreconditionFailed(LanjieError):
    """Not possible in the present state of the listing or the import."""


class CatalogueRefused(LanjieError):
    """The catalogue breaks a rule; `metadata` names file, entry and rule (Art. 45-47)."""


class FileRefused(LanjieError):
    """The list file cannot be taken as a whole; `metadata` names rule and line."""


class RateLimited(LanjieError):
    """Too many requests.

    Attributes:
        retry_after: seconds to wait before asking again.
    """

    @property
    def retry_after(self) -> float:
        """Seconds to wait before asking again; one second when the gateway did not say."""
        told = self.metadata.get("retry_after_ms", "")
        return int(told) / 1000 if told.isascii() and told.isdigit() else 1.0


class Unavailable(LanjieError):
    """The gateway cannot be reached within the deadline, or cannot prove that it is current."""


class RevisionCompacted(LanjieError):
    """The pinned revision is no longer held; the batch starts again."""


class GatewayFault(LanjieError):
    """The gateway, or what stands in its place, answered what it should not; its log has the request id."""


class ClientClosed(LanjieError):
    """The client was closed and asks nothing any more."""


BY_REASON: Final[Mapping[str, type[LanjieError]]] = MappingProxyType(
    {
        "IDENTIFIER_INVALID": InvalidIdentifier,
        "ARGUMENT_INVALID": InvalidArgument,
        "MATTER_UNKNOWN": UnknownMatter,
        "CREDENTIALS_INVALID": AuthenticationFailed,
        "NOT_PERMITTED": PermissionDenied,
        "NOT_CURRENT": Unavailable,
        "REVISION_NOT_REACHED": Unavailable,
        "REVISION_COMPACTED": RevisionCompacted,
        "CATALOGUE_REFUSED": CatalogueRefused,
        "FILE_REFUSED": FileRefused,
        "NOT_FOUND": NotFound,
        "TRANSITION_ILLEGAL": PreconditionFailed,
        "SECOND_PERSON_REQUIRED": PreconditionFailed,
        "IMPORT_OUTDATED": PreconditionFailed,
        "AS_OF_NOT_ALLOWED": InvalidArgument,
        "OVERLOADED": RateLimited,
        "RECORD_NOT_DURABLE": GatewayFault,
        "INTERNAL": GatewayFault,
        "LEDGER_UNAVAILABLE": Unavailable,
        "INDEX_UNAVAILABLE": Unavailable,
        "DAILY_CAP": PermissionDenied,
    }
)
"""Every reason of errors.proto and its class."""

BY_STATUS: Final[Mapping[str, type[LanjieError]]] = MappingProxyType(
    {
        "UNAVAILABLE": Unavailable,
        "DEADLINE_EXCEEDED": Unavailable,
        "CANCELLED": Unavailable,
        "RESOURCE_EXHAUSTED": RateLimited,
        "UNAUTHENTICATED": AuthenticationFailed,
        "PERMISSION_DENIED": PermissionDenied,
        "NOT_FOUND": NotFound,
        "INVALID_ARGUMENT": InvalidArgument,
        "FAILED_PRECONDITION": PreconditionFailed,
    }
)
"""Status codes that come without a reason, from a proxy or from the library itself; any other is a `GatewayFault`."""


def error_of(status: str, reason: str, message: str, metadata: Mapping[str, str]) -> LanjieError:
    """Return the error for what a gateway sent.

    Args:
        status: name of the gRPC status code.
        reason: name of the `ErrorReason`, without its prefix; empty when there was none.
        message: text of the gateway; used only together with a reason, for then it is known to hold no identifier.
        metadata: of the reason.
    """
    made = BY_REASON.get(reason)
    if made is not None:
        if reason == "AS_OF_NOT_ALLOWED":
            metadata = {"field": "as_of", "rule": "not-allowed", **metadata}
        return made(message, reason=reason, metadata=metadata)
    return BY_STATUS.get(status, GatewayFault)(f"the call ended with {status}", reason=reason, metadata=metadata)
