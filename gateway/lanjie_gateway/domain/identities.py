"""The names by which a certificate says who calls (Art. 39, 43): URIs and DNS names among its alternative names.

1. Only ``URI:`` and ``DNS:`` name a caller. A common name, an address or a mail box never does.
2. A name is compared whole: a URI letter by letter, a DNS name without regard to case. There are no patterns.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

MAX_LENGTH: Final = 512
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[!-~]+")
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?"
_DNS: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")


def parse_identity(text: str) -> str:
    """Return the one form of a name that somebody wrote down, such as ``URI:spiffe://x/y`` or ``DNS:counter.example``.

    Raises:
        ValueError: it is none; the message does not repeat it.
    """
    kind, colon, name = text.partition(":")
    if colon and kind == "URI" and len(name) <= MAX_LENGTH and _URI.fullmatch(name) and "*" not in name:
        return text
    if colon and kind == "DNS" and _DNS.fullmatch(name.lower()):
        return f"DNS:{name.lower()}"
    raise ValueError('an identity is a name of a certificate, as in "URI:spiffe://x/y" or "DNS:counter.example"')


def presented(uris: Iterable[bytes], names: Iterable[bytes]) -> Iterator[str]:
    """Yield the names of a verified certificate in that form; what can be nobody's name is left out.

    Args:
        uris: its URIs.
        names: its DNS names.
    """
    for kind, values in (("URI", uris), ("DNS", names)):
        for value in values:
            try:
                yield parse_identity(f"{kind}:{value.decode('ascii')}")
            except ValueError:
                continue
