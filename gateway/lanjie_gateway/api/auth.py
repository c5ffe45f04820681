"""Who is calling: the certificate of the connection, else a bearer token, on loopback and unix sockets only.

1. Art. 39, 43: a certificate decides, whatever token comes with it. Its URIs and DNS names say who calls; its common
   name never does. Names of nobody, or of several persons, are refused as no credentials are, in the same words.
2. Art. 43: a token counts only from this machine itself, never over a network.

The embedded default has one department, `local`, with one token file for each role, and second persons of the listing
authority and of the agency, `reviewer` and `controller`; others come from the departments file. Tokens are kept as
keyed hashes and compared so; the files are 0600.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from lanjie_gateway.adapters.keys import KeysLostError, keep
from lanjie_gateway.adapters.signing_keys import SigningKey, SigningKeyError
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.departments import LOCAL, Department
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.identities import presented

PERSONS: Final[Mapping[str, Role]] = {
    "inquirer": Role.INQUIRER,
    "authority": Role.AUTHORITY,
    "reviewer": Role.AUTHORITY,
    "agency": Role.AGENCY,
    "controller": Role.AGENCY,
    "manager": Role.MANAGER,
}
"""Persons of department `local` and their roles. `reviewer` and `controller` are the second persons who confirm."""

_LOCAL_PEERS: Final = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
_caller: ContextVar[Principal] = ContextVar("caller")


class Tokens:
    """The bearer tokens of a state directory.

    Args:
        directory: ``DIR/tokens``; missing files are made.
        key: key of the token hashes.
        region: region of department `local`.
        departments: the others; their files are ``DIR/tokens/DEPARTMENT/PERSON.token``.

    Attributes:
        files: token files of department `local`, by person.
        signing_key: file of the private key that its manager signs with.

    Raises:
        KeysLostError: a key cannot be read, or two persons have one token.
    """

    def __init__(self, directory: Path, key: bytes, region: str, departments: Iterable[Department] = ()) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._key = key
        self.files = {person: directory / f"{person}.token" for person in PERSONS}
        self.signing_key = directory / "manager.key"
        self._principals: dict[bytes, Principal] = {}
        with _alone(directory):
            for person, path in self.files.items():
                role = PERSONS[person]
                keys = (_open_key(self.signing_key).public,) if role is Role.MANAGER else ()
                self._add(
                    Principal(
                        department=LOCAL, person=person, roles=frozenset({role}), region=region, signing_keys=keys
                    ),
                    path,
                )
            for department in departments:
                (directory / department.code).mkdir(mode=0o700, exist_ok=True)
                for principal in department.principals(region):
                    self._add(principal, directory / department.code / f"{principal.person}.token")

    def principal(self, metadata: Iterable[tuple[str, Any]], peer: str) -> Principal:
        """Return the caller that the `authorization` metadata names.

        Raises:
            Refused: CREDENTIALS_INVALID; the same text for none, unknown and wrong place.
        """
        for name, value in metadata:
            if name == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
                found = self._principals.get(self._hash(value.removeprefix("Bearer ").strip()))
                if found is not None and peer.startswith(_LOCAL_PEERS):
                    return found
        raise _unknown()

    def _add(self, principal: Principal, path: Path) -> None:
        known = self._principals.setdefault(self._hash(_open_token(path)), principal)
        if known is not principal:
            # Whoever was read last would act for the other, with other roles.
            raise KeysLostError(f"{path} holds the token of {known.actor}: remove it, and another is made")

    def _hash(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode(), key=self._key, digest_size=32).digest()


class Callers:
    """Finds out who calls.

    Args:
        tokens: for those of this machine.
        departments: whose persons have identities.
        region: region of department `local`.
        granted: returns who a name of a certificate stands for by a grant, in the form of `parse_identity`; `None` for
            nobody.
    """

    def __init__(
        self,
        tokens: Tokens,
        departments: Iterable[Department],
        region: str,
        granted: Callable[[str], Principal | None] = lambda _: None,
    ) -> None:
        self._tokens = tokens
        self._granted = granted
        self._known = {
            identity: principal
            for department in departments
            for person, principal in zip(department.persons, department.principals(region), strict=True)
            for identity in person.identities
        }

    def identify(self, context: Any) -> Principal:
        """Return the caller of a call.

        Args:
            context: gRPC's, of a connection whose certificate was verified, if it has one.

        Raises:
            Refused: CREDENTIALS_INVALID; the same text whatever is wrong.
        """
        connection = context.auth_context()
        if "x509_pem_cert" not in connection:
            return self._tokens.principal(context.invocation_metadata(), context.peer())  # (2)
        found: dict[str, Principal] = {}
        for identity in presented(connection.get("peer_uri", ()), connection.get("peer_dns", ())):  # (1)
            for principal in (self._known.get(identity), self._granted(identity)):
                if principal is not None:
                    found.setdefault(principal.actor, principal)
        if len(found) != 1:
            raise _unknown()
        return next(iter(found.values()))


def came_by(context: Any) -> str:
    """Return how a call came: ``tls``, ``socket`` or ``plain``."""
    if b"ssl" in context.auth_context().get("transport_security_type", ()):
        return "tls"
    return "socket" if context.peer().startswith("unix:") else "plain"


def _unknown() -> Refused:
    return Refused("CREDENTIALS_INVALID", "no credentials, or none that are known here")


def caller(context: object) -> Principal:
    """Return the authenticated caller of the call being handled. `context` is the gRPC context, for the reader."""
    del context
    return _caller.get()


def set_caller(principal: Principal) -> None:
    """Bind the caller to the task that handles a call; the interceptor does it."""
    _caller.set(principal)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let no other process make files meanwhile: of two tokens for one person, only one would be on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open_key(path: Path) -> SigningKey:
    try:
        return SigningKey.read(path) if path.exists() else SigningKey.make(path)
    except SigningKeyError as error:
        raise KeysLostError(str(error)) from None


def _open_token(path: Path) -> str:
    token = path.read_text().strip() if path.exists() else ""
    # An empty file would be a token that everybody knows.
    if not token:
        token = secrets.token_urlsafe(32)
        keep(path, token.encode())
    return token
