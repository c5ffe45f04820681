"""The gateway's certificate, its key and the authorities of clients: PEM files, read again when they change (Art. 43).

1. A change is taken when the files have been still for one look, so that no half-written file is, nor a certificate
   without its key.
2. What cannot be used is not taken: the old stays, the fault is logged once and shown until it is mended.
3. Connections stay; each new one is made with the newest.
"""

import asyncio
import contextlib
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

LOOK_SECONDS: Final = 1.0
_log = structlog.get_logger("lanjie.certificates")
_Signature = tuple[tuple[int, int, int, int] | None, ...]


class CertificateError(ValueError):
    """The certificate files cannot be used.

    Attributes:
        rule: ``unreadable``, ``certificate``, ``key``, ``key-other``, ``expired``, ``not-yet``, ``client-ca``.
    """

    def __init__(self, path: Path, rule: str, message: str) -> None:
        super().__init__(f"{path}: {message} (rule {rule})")
        self.rule = rule


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """Where the files lie: certificate with its chain, private key, authorities that vouch for clients."""

    cert: Path
    key: Path
    client_ca: Path

    def signature(self) -> _Signature:
        """Return what changes when one of them does."""
        return tuple(map(_signature, (self.cert, self.key, self.client_ca)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What the files held; instants are aware.

    Attributes:
        chain: own certificate first.
        key: its private key.
        client_ca: authorities.
        begins_at: first instant of the own certificate.
        ends_at: its last instant.
        client_ca_ends_at: the same of the authority that ends first.
    """

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    client_ca: bytes = field(repr=False)
    begins_at: datetime.datetime
    ends_at: datetime.datetime
    client_ca_ends_at: datetime.datetime


def read(files: CertificateFiles) -> Certificate:
    """Read the files and see that they belong together.

    Raises:
        CertificateError: they cannot; the message names file and rule, nothing of their content.
    """
    chain, key, authorities = (_content(path) for path in (files.cert, files.key, files.client_ca))
    own = _certificates(files.cert, chain, "certificate")[0]
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError(files.key, "key", "no private key in PEM, without a password") from None
    try:
        named = _public(own.public_key())
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(files.cert, "certificate", "its key is of a kind that is not known here") from None
    if _public(private.public_key()) != named:
        raise CertificateError(files.key, "key-other", f"it is not the key of {files.cert}")
    vouching = _certificates(files.client_ca, authorities, "client-ca")
    return Certificate(
        chain=chain,
        key=key,
        client_ca=authorities,
        begins_at=own.not_valid_before_utc,
        ends_at=own.not_valid_after_utc,
        client_ca_ends_at=min(each.not_valid_after_utc for each in vouching),
    )


class Certificates:
    """What the listeners of one process use; follows the files from `start` to `close`.

    Args:
        files: where they lie.
        clock: the instant now.
        look_seconds: between two looks.

    Attributes:
        now: what is used.
        fault: why the files as they lie are not; empty when they are.

    Raises:
        CertificateError: the files cannot be used.
    """

    def __init__(
        self, files: CertificateFiles, clock: Callable[[], datetime.datetime], look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._files = files
        self._clock = clock
        self._look_seconds = look_seconds
        self._judged = self._seen = files.signature()
        # They are not valid yet, and will be: they are looked at again.
        self._early = False
        self.now = read(files)
        self.fault = ""
        self._credentials: list[grpc.ServerCredentials] = []
        self._task: asyncio.Task[None] | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of one port: every client shows a certificate, and it is verified."""
        used = self.now

        def newer() -> grpc.ServerCertificateConfiguration | None:
            # gRPC asks at each handshake, in a thread of its own; `None` keeps what the port has.
            nonlocal used
            if self.now is used:
                return None
            used = self.now
            return _configuration(used)

        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", newer)  # its types know no `None`
        made = grpc.dynamic_ssl_server_credentials(_configuration(used), fetch, require_client_authentication=True)
        # gRPC keeps a bare pointer to it.
        self._credentials.append(made)
        return made

    def start(self) -> None:
        """Follow the files."""
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Follow them no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def look(self) -> None:
        """See whether the files have changed, and take what can be used."""
        signature = self._files.signature()
        if signature == self._judged and not self._early:
            return
        if signature != self._seen:  # (1)
            self._seen = signature
            return
        try:
            self.now = self._usable()  # (3)
        except CertificateError as error:  # (2)
            if self.fault != str(error):
                _log.error("certificate_not_taken", rule=error.rule, error=str(error))
            self.fault, self._judged, self._early = str(error), signature, error.rule == "not-yet"
        else:
            self.fault, self._judged, self._early = "", signature, False
            _log.warning("certificate_taken", ends_at=f"{self.now.ends_at}")

    def days_left(self, end: datetime.datetime) -> float:
        """Return the days until an end; negative after it."""
        return (end - self._clock()) / datetime.timedelta(days=1)

    def _usable(self) -> Certificate:
        found, now = read(self._files), self._clock()
        if found.ends_at < now:
            raise CertificateError(self._files.cert, "expired", "the certificate has expired")
        if found.begins_at > now:
            raise CertificateError(self._files.cert, "not-yet", "the certificate is not valid yet")
        return found

    async def _follow(self) -> None:
        told = False
        while True:
            await asyncio.sleep(self._look_seconds)
            # The files may lie on a slow disk.
            await asyncio.to_thread(self.look)
            ended = self.days_left(self.now.ends_at) < 0
            if ended and not told:
                _log.error("certificate_expired", ended_at=f"{self.now.ends_at}")
            told = ended


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificate.key, certificate.chain)], root_certificates=certificate.client_ca
    )


def _signature(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(path, "unreadable", f"it cannot be read: {error.strerror}") from None


def _certificates(path: Path, content: bytes, rule: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise CertificateError(path, rule, "no certificate in PEM") from None


def _public(key: Any) -> Any:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
