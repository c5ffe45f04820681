"""What a client is made of, checked once, and the file in which a gateway tells it."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lanjie._tls import Tls
from lanjie._transport import LONGEST, Endpoint
from lanjie.errors import InvalidArgument

if TYPE_CHECKING:
    from lanjie._runtime import SyncStatus
    from lanjie.officers import OfficerSigner

_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a client is made of; see `lanjie.Client`."""

    endpoint: Endpoint
    trusted: Mapping[str, bytes]
    state_dir: Path
    timeout: float
    upload_interval: float
    local: bool
    use_bloom: bool
    on_sync_change: "Callable[[SyncStatus], None] | None" = None
    officer_signer: "OfficerSigner | None" = None

    @classmethod
    def of(
        cls,
        target: str,
        *,
        token: str | None,
        tls: Tls | None,
        trust: Mapping[str, bytes | str] | None,
        state_dir: str | os.PathLike[str] | None,
        timeout: float,
        upload_interval: float,
        local: bool,
        filter: str,  # noqa: A002  the name users write
        on_sync_change: "Callable[[SyncStatus], None] | None",
        officer_signer: "OfficerSigner | None" = None,
    ) -> "Options":
        """Check the arguments of a client.

        Raises:
            InvalidArgument: one of them breaks a rule.
        """
        if filter not in ("bloom", "sorted"):
            raise InvalidArgument("filter is 'bloom' or 'sorted'", metadata={"field": "filter", "rule": "known"})
        for name, value in (("timeout", timeout), ("upload_interval", upload_interval)):
            if not 0 < value <= LONGEST:
                raise InvalidArgument(
                    f"{name} is a number of seconds above 0, a day at the most",
                    metadata={"field": name, "rule": "range"},
                )
        endpoint = Endpoint(target, token, tls)
        endpoint.require_safe(target)
        return cls(
            endpoint=endpoint,
            trusted=_read_trust(trust),
            # Of now: an application may change its directory.
            state_dir=(Path(state_dir) if state_dir is not None else _default_state_dir()).absolute(),
            timeout=timeout,
            upload_interval=upload_interval,
            local=local,
            use_bloom=filter == "bloom",
            on_sync_change=on_sync_change,
            officer_signer=officer_signer,
        )


def gateway_file(path: str | os.PathLike[str], role: str, tls: Tls | None = None) -> dict[str, Any]:
    """Read the ``gateway.json`` that a gateway writes: arguments `target`, `token` and `trust` of a client.

    Args:
        path: the file.
        role: whose token; none with `tls`.
        tls: how the client speaks.

    Raises:
        FileNotFoundError: there is none: no gateway runs on that state.
        InvalidArgument: it is no such file, names no token for `role`, or no listener with TLS.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        trust = dict(content["trusted_keys"])
        if tls is not None:
            return {"target": str(content["tls"]["screening"]), "trust": trust}
        target, token_file = str(content["screening"]), content["tokens"][role]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(
            f"not a gateway file, or no {'listener with TLS' if tls else f'token for {role}'}: {type(error).__name__}",
            metadata={"field": "path", "rule": "format"},
        ) from None
    token = Path(path).parent.joinpath(token_file).read_text(encoding="utf-8").strip()
    return {"target": target, "token": token, "trust": trust}


def _default_state_dir() -> Path:
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "lanjie"


def _read_trust(trust: Mapping[str, bytes | str] | None) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    for key_id, key in (trust or {}).items():
        raw = bytes.fromhex(key) if isinstance(key, str) and _KEY.fullmatch(key) else key
        if not isinstance(raw, bytes) or len(raw) != 32:
            raise InvalidArgument(
                "a trusted key is 32 bytes, or 64 hexadecimal digits", metadata={"field": "trust", "rule": "length"}
            )
        keys[key_id] = raw
    return keys
