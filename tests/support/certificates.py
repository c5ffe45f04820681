"""Authorities and certificates for tests: made in milliseconds, of hosts and departments that do not exist."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

import lanjie

FROM = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
UNTIL = datetime.datetime(2049, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Leaf:
    """A certificate and its key, PEM."""

    cert: bytes
    key: bytes

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Write them as `NAME.pem` and `NAME.key`, whatever is there; return the paths."""
        paths = directory / f"{name}.pem", directory / f"{name}.key"
        for path, content in zip(paths, (self.cert, self.key), strict=True):
            replace(path, content)
        return paths


def replace(path: Path, content: bytes) -> None:
    """Replace a file as who renews certificates does: whole, under another name first."""
    aside = path.with_name(f"{path.name}.new")
    aside.write_bytes(content)
    aside.replace(path)


class Authority:
    """An authority that signs whatever it is asked to."""

    def __init__(self, name: str = "authority of tests", until: datetime.datetime = UNTIL) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = (
            _begun(self._name, self._name, self._key, FROM, until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, SHA256())
        )
        self.pem = made.public_bytes(Encoding.PEM)

    def issue(
        self,
        *sans: str,
        common_name: str = "leaf",
        since: datetime.datetime = FROM,
        until: datetime.datetime = UNTIL,
    ) -> Leaf:
        """Return a certificate with names such as ``URI:spiffe://x/y``, ``DNS:counter.example``, ``IP:127.0.0.1``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = _begun(subject, self._name, key, since, until)
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName([_name(each) for each in sans]), critical=False)
        return Leaf(
            builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )

    def gateway(self, *sans: str, until: datetime.datetime = UNTIL) -> Leaf:
        """Return the certificate of a gateway on this machine."""
        return self.issue(*(sans or ("DNS:localhost", "IP:127.0.0.1")), until=until)


class Desk:
    """Certificate files of a gateway, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.authority = Authority()
        self.cert, self.key = self.authority.gateway().write(directory, "gateway")
        self.client_ca = directory / "clients.pem"
        self.ca = directory / "ca.pem"
        self.trust(self.authority)
        replace(self.ca, self.authority.pem)

    @property
    def settings(self) -> dict[str, Path]:
        """The settings of `serve`."""
        return {"tls_cert": self.cert, "tls_key": self.key, "tls_client_ca": self.client_ca}

    def trust(self, *authorities: Authority) -> None:
        """Take clients of these authorities."""
        replace(self.client_ca, b"".join(each.pem for each in authorities))

    def renew(self, leaf: Leaf) -> None:
        """Give the gateway another certificate."""
        leaf.write(self.directory, "gateway")

    def tls(self, leaf: Leaf, name: str = "client") -> lanjie.Tls:
        """Return what a client uses, in files."""
        cert, key = leaf.write(self.directory, name)
        return lanjie.Tls.from_files(ca=self.ca, cert=cert, key=key)


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    since: datetime.datetime,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )


def _name(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    match kind:
        case "URI":
            return x509.UniformResourceIdentifier(value)
        case "DNS":
            return x509.DNSName(value)
        case "IP":
            return x509.IPAddress(ipaddress.ip_address(value))
        case "EMAIL":
            return x509.RFC822Name(value)
    raise ValueError(kind)
