"""Errors of the gateway, and the one place that names their reasons (errors.proto).

    GatewayError
    ├── Refused             the caller's fault: argument, file, catalogue, grant, state
    └── Unanswerable        ours: not current, overloaded, ledger or index not reachable, record not durable

`api.errors` translates them, and nothing else does. No message ever holds an identifier or a name.
"""

from lanjie_matcher.identifiers import IdentifierError


class GatewayError(Exception):
    """Base of all errors that reach a caller.

    Attributes:
        reason: name of the `ErrorReason` without its prefix, e.g. ``MATTER_UNKNOWN``.
        metadata: the keys that errors.proto documents for the reason.
    """

    def __init__(self, reason: str, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata = metadata


class Refused(GatewayError):
    """The request cannot be granted as it stands; asking again changes nothing."""


class Unanswerable(GatewayError):
    """The gateway cannot answer now."""


def invalid_argument(field: str, rule: str, message: str) -> Refused:
    """Return the error for a missing or malformed field."""
    return Refused("ARGUMENT_INVALID", message, field=field, rule=rule)


def invalid_identifier(error: IdentifierError) -> Refused:
    """Return the error for a text that cannot be an identifier."""
    return Refused("IDENTIFIER_INVALID", str(error), rule=error.rule)


def not_found(message: str) -> Refused:
    """Return the error for what does not exist or is not the caller's: the two read alike (Art. 40)."""
    return Refused("NOT_FOUND", message)
