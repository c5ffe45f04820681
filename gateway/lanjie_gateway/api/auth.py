"""Who is calling: bearer tokens, on loopback and unix sockets only (later issues add certificates).

The embedded default has one department, `local`, with one token file for each role and a second person, `reviewer`, of
the listing authority. Tokens are kept as keyed hashes and compared so; the files are 0600.
"""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from lanjie_gateway.adapters.keys import keep
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import Refused

PERSONS: Final[Mapping[str, Role]] = {
    "inquirer": Role.INQUIRER,
    "authority": Role.AUTHORITY,
    "reviewer": Role.AUTHORITY,
    "agency": Role.AGENCY,
    "manager": Role.MANAGER,
}
"""Persons of department `local` and their roles. `reviewer` is the second person who confirms."""

_LOCAL_PEERS: Final = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
_caller: ContextVar[Principal] = ContextVar("caller")


class Tokens:
    """The bearer tokens of a state directory.

    Args:
        directory: ``DIR/tokens``; missing files are made.
        key: key of the token hashes.
        region: region of department `local`.
    """

    def __init__(self, directory: Path, key: bytes, region: str) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._key = key
        self.files = {person: directory / f"{person}.token" for person in PERSONS}
        self._principals: dict[bytes, Principal] = {}
        for person, path in self.files.items():
            principal = Principal(department="local", person=person, roles=frozenset({PERSONS[person]}), region=region)
            self._principals[self._hash(_open_token(path))] = principal

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
        raise Refused("CREDENTIALS_INVALID", "no credentials, or none that are known here")

    def _hash(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode(), key=self._key, digest_size=32).digest()


def caller(context: object) -> Principal:
    """Return the authenticated caller of the call being handled. `context` is the gRPC context, for the reader."""
    del context
    return _caller.get()


def set_caller(principal: Principal) -> None:
    """Bind the caller to the task that handles a call; the interceptor does it."""
    _caller.set(principal)


def _open_token(path: Path) -> str:
    token = path.read_text().strip() if path.exists() else ""
    # An empty file would be a token that everybody knows.
    if not token:
        token = secrets.token_urlsafe(32)
        keep(path, token.encode())
    return token
