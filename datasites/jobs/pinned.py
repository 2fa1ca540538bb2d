"""TLS 1.3 between a datasite and a machine of its jobs: each side has a certificate of its own, and knows the other's.

There is no authority. A side makes a key and a certificate once; its certificate, which is public, is carried to the
other as a file, and the twelve words of its key are compared by people (`policies.wire.key_words`). A side talks to
nobody but who holds the key of a certificate that it was given, byte for byte. No older protocol, no early data and no
resumed session: what was recorded on the wire opens nothing when it is sent again.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from datasites.files import write_private
from policies.errors import DatasiteError, Unavailable
from policies.text import visible
from policies.wire.key_words import fingerprint, fingerprint_in, words_of

KEY, CERTIFICATE = "own.key", "own.pem"
LARGEST_CERTIFICATE = 64 << 10
# It is known by its bytes, so nothing is gained where it ends by itself, on a day that nobody expects.
BEGIN, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def make_own(directory: Path) -> Path:
    """The file of this side's certificate; it and its key (0600) are made where there are none.

    Raises `DatasiteError` where only one of the two is there.
    """
    key, certificate = directory / KEY, directory / CERTIFICATE
    if key.exists() != certificate.exists():
        raise DatasiteError(
            f"{directory} has only one of {KEY} and {CERTIFICATE}. Put the other back from a backup, or delete both to"
            " begin anew: the other side has to be given the new certificate then."
        )
    if not key.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        private = Ed25519PrivateKey.generate()
        own = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(key, own)
        write_private(certificate, _self_signed(private).public_bytes(serialization.Encoding.PEM))
    return certificate


def _self_signed(private: Ed25519PrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "private-datasites jobs")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGIN)
        .not_valid_after(END)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)  # it vouches for itself alone
        .sign(private, None)
    )


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in a PEM file of another side. Raises `DatasiteError` where it is none of ours."""
    try:
        if path.stat().st_size > LARGEST_CERTIFICATE:
            raise ValueError
        found = x509.load_pem_x509_certificate(path.read_bytes())
        if not isinstance(found.public_key(), Ed25519PublicKey):
            raise ValueError
    except OSError as error:
        raise DatasiteError(f"The certificate {path} cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError):
        raise DatasiteError(
            f"{path} holds no certificate that `datasite jobs make` or `datasite jobs use` made. Copy {CERTIFICATE} of"
            " the other side."
        ) from None
    return found


def key_words(certificate: x509.Certificate) -> str:
    """The twelve words of a certificate's key."""
    public = certificate.public_key()
    assert isinstance(public, Ed25519PublicKey)
    return words_of(fingerprint(public.public_bytes_raw()))


def keep(certificate: Path, words: str, target: Path) -> None:
    """Copy a certificate of another side to `target`, to be believed from now on.

    Raises:
      InvalidRequest: what was typed is no words of a key.
      DatasiteError: the file is no certificate, or its key has other words than these.
    """
    read, typed = read_certificate(certificate), fingerprint_in(words)
    if key_words(read) != words_of(typed):
        raise DatasiteError(
            f"The certificate {certificate} is of another key than the one whose words were typed. Its own words are:"
            f" {visible(key_words(read))}. Read them at the machine that made it; where they differ there, somebody has"
            " changed the file on its way."
        )
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(target, read.public_bytes(serialization.Encoding.PEM))


def client_context(own: Path, theirs: bytes) -> ssl.SSLContext:
    """For whoever connects: shows the certificate in the folder `own`, takes `theirs` (DER) alone."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, own, [theirs])


def server_context(own: Path, theirs: Collection[bytes]) -> ssl.SSLContext:
    """For whoever listens: shows the certificate in the folder `own`, takes those of `theirs` (DER) alone."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, own, theirs)
    context.num_tickets = 0  # no session is resumed
    return context


def _context(protocol: int, own: Path, theirs: Collection[bytes]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate is known whole, and names no host
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_cert_chain(own / CERTIFICATE, own / KEY, password="")  # else a terminal is asked
    except (OSError, ValueError):
        raise DatasiteError(
            f"{own} holds no {CERTIFICATE} with its {KEY}. Put them back from a backup, or run the command again that"
            " made them: `datasite jobs make` or `datasite jobs use`."
        ) from None
    for certificate in theirs:
        context.load_verify_locations(cadata=certificate)
    return context


def check_other_side(connection: ssl.SSLSocket, theirs: Collection[bytes]) -> bytes:
    """The other side's certificate (DER), which is one of `theirs` to the byte. Raises `Unavailable`."""
    shown = connection.getpeercert(binary_form=True)
    if shown is None or shown not in theirs or connection.version() != "TLSv1.3":
        raise Unavailable("The other side shows a certificate that was not pinned here.")
    return shown


def der_of(certificate: x509.Certificate) -> bytes:
    """A certificate as it goes over the wire."""
    return certificate.public_bytes(serialization.Encoding.DER)
