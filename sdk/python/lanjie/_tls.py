"""Mutual TLS of a client: what it shows and trusts, files that are read again, and what a failed handshake means."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lanjie.errors import InvalidArgument

LOOK_SECONDS: Final = 1.0
"""How often files are looked at, at most."""
_log = logging.getLogger("lanjie")
_Signature = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Tls:
    """Mutual TLS. All parts are PEM; `from_files` follows files that are renewed.

    Attributes:
        ca: certificates of the authority that vouches for the gateway.
        cert: own certificate with its chain; the department stands in its subject alternative name.
        key: own private key.
        files: where the parts were read: authority, certificate, key.
    """

    ca: bytes
    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    files: tuple[Path, ...] = ()

    @classmethod
    def from_files(
        cls, *, ca: str | os.PathLike[str], cert: str | os.PathLike[str], key: str | os.PathLike[str]
    ) -> "Tls":
        """Read the parts from files. A client looks at them again: one that is renewed is used from then on.

        Raises:
            InvalidArgument: they cannot be read, or do not belong together.
        """
        import ssl  # noqa: PLC0415  whoever speaks to this machine alone does not need it

        files = tuple(map(Path, (ca, cert, key)))
        try:
            authority, own, private = (path.read_bytes() for path in files)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cafile=files[0])
            # A password would be asked for on the terminal.
            context.load_cert_chain(files[1], files[2], password="")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            raise InvalidArgument(
                f"certificate, key or authority cannot be used: {why}", metadata={"field": "tls", "rule": "files"}
            ) from None
        return cls(authority, own, private, files)


class Renewal:
    """The newest parts of a `Tls`, which is read again after its files have changed. Thread-safe.

    Args:
        tls: what is used first.
        monotonic: seconds.
    """

    def __init__(self, tls: Tls | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = tls
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._look_at = float("-inf")
        self._taken = self._seen = _signature(tls.files) if tls is not None else ()

    def now(self) -> Tls | None:
        """Return what a new connection uses; the same object until it has changed."""
        if self._now is not None and self._now.files and self._monotonic() >= self._look_at:
            with self._lock:
                self._look_at = self._monotonic() + LOOK_SECONDS
                self._look(self._now)
        return self._now

    def _look(self, now: Tls) -> None:
        signature = _signature(now.files)
        if signature == self._taken:
            return
        if signature != self._seen:
            # Still being written, perhaps: it is taken when it is the same at the next look.
            self._seen = signature
            return
        self._taken = signature
        ca, cert, key = now.files
        try:
            self._now = Tls.from_files(ca=ca, cert=cert, key=key)
        except InvalidArgument as error:
            _log.error("renewed certificate files are not used, the old go on: %s", error)


def explain(details: str) -> str:
    """Return what to look at, from what gRPC says of a connection with TLS that failed; empty when it says nothing."""
    if "CERTIFICATE_VERIFY_FAILED" in details or "BAD_SIGNATURE" in details:
        for sign, what in (("expired", "has expired"), ("not yet valid", "is not valid yet")):
            if sign in details:
                return f"the gateway's certificate {what}: see to its renewal, or to the clock of this machine"
        return (
            "the gateway's certificate is of an authority that is not trusted here: look at `ca` of the TLS settings, "
            "and whether the address is the gateway's"
        )
    if "Hostname Verification" in details or "is not in peer certificate" in details:
        return "the gateway's certificate is made out to another name: address it by a name that stands in it"
    if "WRONG_VERSION_NUMBER" in details:
        return "no TLS is spoken at this address: look at the address"
    if "security handshaker" in details:
        return "own certificate, key or authority cannot be used: look at the files of the TLS settings"
    # Of no connection at all: one that breaks later says so without a "last error".
    if "last error" in details and any(sign in details for sign in ("Socket closed", "reset", "TCP stream")):
        return (
            "the connection was closed at the handshake: look whether the own certificate has expired, and whether the "
            "gateway knows the authority that issued it"
        )
    return ""


def _signature(files: tuple[Path, ...]) -> _Signature:
    return tuple(map(_signature_of, files))


def _signature_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
