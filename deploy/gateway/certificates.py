"""The certificate that clients see: the one given, checked, or a self-signed one for development."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from .errors import CertificateError

SELF_SIGNED_DAYS = 365
_OPENSSL_TIMEOUT_S = 60


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, which belong together.

    Attributes:
        chain: PEM, the server's certificate first.
        private_key: PEM.
        expires_s: when the first certificate ends, in seconds since 1970.
    """

    chain: bytes
    private_key: bytes = field(repr=False)
    expires_s: float = field(init=False)

    def __post_init__(self) -> None:
        with _folder() as folder:
            chain, key = folder / "chain.pem", folder / "key.pem"
            write_private(chain, self.chain)
            write_private(key, self.private_key)
            try:
                # An encrypted key would make OpenSSL ask on the terminal: an empty password is a wrong one.
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, password="")
            except (ssl.SSLError, OSError, ValueError) as exc:
                raise CertificateError(
                    f"certificate and private key cannot be used: {exc}; give a PEM certificate and its unencrypted key"
                ) from exc
            object.__setattr__(self, "expires_s", _expires_s(chain))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of both files, in hexadecimal."""
        return sha256(sha256(self.chain).digest() + self.private_key).hexdigest()


def read(certificate: Path, private_key: Path) -> tuple[bytes, bytes]:
    """The content of the two files.

    Raises:
        CertificateError: one cannot be read.
    """
    return _read("GATEWAY_CERTIFICATE", certificate), _read("GATEWAY_PRIVATE_KEY", private_key)


def _read(variable: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise CertificateError(f"{variable} {str(path)!r} cannot be read: {exc.strerror}") from exc


def make_self_signed(names: Sequence[str]) -> Certificate:
    """A new key and a certificate that it signs itself, for these host names and addresses.

    Raises:
        CertificateError: openssl is missing or failed.
    """
    with _folder() as folder:
        chain, key = folder / "chain.pem", folder / "key.pem"
        alternatives = ",".join(f"{_kind(name)}:{name}" for name in names)
        command = (
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days {SELF_SIGNED_DAYS} "
            f"-subj /CN={names[0]} -addext subjectAltName={alternatives} -keyout {key} -out {chain}"
        )
        try:
            subprocess.run(command.split(), check=True, capture_output=True, timeout=_OPENSSL_TIMEOUT_S)
        except FileNotFoundError as exc:
            raise CertificateError("openssl is missing; install it, or give GATEWAY_CERTIFICATE") from exc
        except subprocess.SubprocessError as exc:
            said = getattr(exc, "stderr", None) or b""
            raise CertificateError(f"openssl made no certificate for {alternatives}: {said.decode()[-200:]}") from exc
        return Certificate(chain.read_bytes(), key.read_bytes())


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only this user can read, all of it or nothing."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


def _kind(name: str) -> str:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "DNS"
    return "IP"


def _expires_s(chain: Path) -> float:
    # The only decoder of certificates in the standard library; what `ssl` offers in public wants a live connection.
    decoded = ssl._ssl._test_decode_cert(str(chain))  # type: ignore[attr-defined]
    return ssl.cert_time_to_seconds(decoded["notAfter"])


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gateway_certificate_") as folder:
        yield Path(folder)
