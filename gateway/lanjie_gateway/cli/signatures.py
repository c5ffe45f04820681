"""Signatures on the command line: keys of persons who publish, signing, and verifying without a gateway (Art. 45)."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import AsJson, CommandError, Person, Target

if TYPE_CHECKING:
    from lanjie_gateway.adapters.signing_keys import SigningKey
    from lanjie_gateway.domain.signing import Signature, SignedKind

SigningKeyFile = Annotated[
    Path | None, typer.Option("--signing-key", help="File with the private key, instead of the gateway file's.")
]
SignatureFile = Annotated[
    Path | None, typer.Option("--signature", help="Signature made elsewhere by `catalogue sign`.")
]
PublishedFile = Annotated[Path, typer.Argument(help="Catalogue file or year file, YAML.")]
Kind = Annotated[Literal["catalogue", "year-file"], typer.Option(help="What the file is.")]


def signature_of(
    target: Target, kind: "SignedKind", content: bytes, *, signing_key: Path | None, signature: Path | None
) -> "Signature":
    """Return the signature that goes with a file to be published.

    Args:
        target: the gateway; its file names the key of department `local`, which goes with that department's token.
        kind: what the file is.
        content: its bytes.
        signing_key: file of a private key.
        signature: file of a signature that was made elsewhere.

    Raises:
        CommandError: nothing tells who signs, or a file cannot be read.
    """
    if signing_key is not None and signature is not None:
        raise CommandError("--signing-key makes a signature, --signature brings one: give one of them")
    if signature is not None:
        try:
            return _signature(signature)
        except ValueError as error:
            raise CommandError(f"{signature} is no signature: {error}") from None
    key = signing_key or _own_key(target)
    if key is None:
        raise CommandError("what is published is signed: give --signing-key FILE, or --signature FILE")
    return _key(key).sign(kind, content)


def fields(signature: "Signature | None") -> dict[str, Any]:
    """Return the fields of a request that carry a signature."""
    if signature is None:
        return {}
    return {
        "signature": signature.value,
        "signature_algorithm": signature.algorithm,
        "key_id": signature.key_id,
    }


def signature_text(edition: Any) -> str:
    """Return the content of a signature file for what a gateway keeps.

    Raises:
        CommandError: it bears no signature.
    """
    from lanjie_gateway.domain.signing import Signature

    if not edition.signature:
        raise CommandError("unsigned, published before signatures")
    return Signature(algorithm=edition.signature_algorithm, key_id=edition.key_id, value=edition.signature).text


def signature_line(edition: Any) -> str:
    """Return who signed an edition, in one line."""
    name = f"{edition.catalogue_id}@{edition.edition}"
    if not edition.signature:
        return f"{name}: unsigned, published before signatures"
    return f"{name}: signed by {edition.signer} with key {edition.key_id}"


def make_key(
    key_file: Annotated[Path, typer.Argument(metavar="KEYFILE", help="Where the private key is kept; 0600.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make a signing key; prints the public key for the departments file. Keep the private one to yourself."""
    from lanjie_gateway.adapters.signing_keys import SigningKey

    if key_file.exists():
        raise CommandError(f"{key_file} is there already; a key is never overwritten")
    try:
        public = SigningKey.make(key_file).public
    except OSError as error:
        raise CommandError(f"{key_file} cannot be written: {error.strerror}") from None
    if as_json:
        render.emit({"public_key": public.text, "key_id": public.key_id})
    else:
        typer.echo(public.text)


def sign(
    file: PublishedFile,
    *,
    signing_key: Annotated[Path, typer.Option("--signing-key", help="File with the private key.")],
    kind: Kind = "catalogue",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="FILE.sig when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Sign a catalogue file or a year file where the key lives; needs no gateway."""
    from lanjie_gateway.domain.signing import SignedKind

    signature = _key(signing_key).sign(SignedKind(kind), read(file))
    target = output or file.with_name(f"{file.name}.sig")
    try:
        target.write_text(signature.text + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{target} cannot be written: {error.strerror}") from None
    if as_json:
        render.emit({"file": str(target), "key_id": signature.key_id, "algorithm": signature.algorithm})
    else:
        typer.echo(f"{target}: signed with key {signature.key_id}")


def verify(
    file: PublishedFile,
    *,
    signature: Annotated[Path, typer.Option("--signature", help="Signature file; `catalogue show ID --signature`.")],
    public_key: Annotated[str, typer.Option("--public-key", metavar="KEY", help="ed25519:HEX of the signer.")],
    kind: Kind = "catalogue",
    as_json: AsJson = False,
) -> None:
    """Verify a signature without a gateway; exit 1 when the file is not the one that was signed by this key."""
    from lanjie_gateway.domain.signing import PublicKey, SignedKind
    from lanjie_gateway.domain.signing import verify as is_signed

    try:
        key = PublicKey.parse(public_key)
    except ValueError as error:
        raise CommandError(f"--public-key: {error}") from None
    digest = hashlib.sha256(read(file)).digest()
    try:
        good = is_signed(key, SignedKind(kind), digest, _signature(signature))
    except ValueError:
        good = False
    if as_json:
        render.emit({"signed": good, "key_id": key.key_id})
        raise typer.Exit(0 if good else 1)
    if not good:
        raise CommandError(f"{signature} is not a signature of key {key.key_id} over {file}", 1)
    typer.echo(f"{file}: signed with key {key.key_id}")


def read(file: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None


def _signature(file: Path) -> "Signature":
    from lanjie_gateway.domain.signing import Signature

    return Signature.from_text(read(file).decode("utf-8"))


def _key(file: Path) -> "SigningKey":
    from lanjie_gateway.adapters.signing_keys import SigningKey, SigningKeyError

    try:
        return SigningKey.read(file)
    except SigningKeyError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None


def _own_key(target: Target) -> Path | None:
    """Return the key that the gateway file names, if the token is the one that goes with it."""
    if target.gateway_file is None or target.tls is not None:
        return None
    content = target.content()
    key, tokens = content.get("signing_key"), content.get("tokens")
    if not isinstance(key, str) or not isinstance(tokens, dict):
        return None
    own = tokens.get(Person.MANAGER)
    if target.token_file is not None and (
        not isinstance(own, str) or target.token_file.resolve() != Path(own).resolve()
    ):
        return None
    return Path(key)
