"""A small certificate authority for machines that know each other by names of their own.

The authority may sign for the names that it was made for and no others (name constraints), so that trusting it in a
browser trusts it with nothing else. Keys stay when a certificate is renewed: a server that starts in the middle never
finds a pair that does not match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE, SERVER_LIFE = timedelta(days=3650), timedelta(days=397)
RENEWED_BEFORE = timedelta(days=30)
SLOW_CLOCKS = timedelta(hours=1)  # a certificate holds from a little before it was made
NAME = "Hospitals' network"


@dataclass(frozen=True)
class Authority:
    """An authority's key and certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def of(cls, key: ec.EllipticCurvePrivateKey, names: Sequence[str], *, now: datetime | None = None) -> Authority:
        """A new certificate for `key`, good for `names` alone."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
        limits = x509.NameConstraints(permitted_subtrees=[x509.DNSName(each) for each in names], excluded_subtrees=None)
        builder = _builder(name, name, key.public_key(), AUTHORITY_LIFE, now or datetime.now(UTC))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        return cls(key, builder.add_extension(limits, critical=True).sign(key, hashes.SHA256()))

    def is_for(self, names: Sequence[str], *, now: datetime | None = None) -> bool:
        """Whether it holds for some time yet and for exactly `names`."""
        try:
            limits = self.certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            return False
        permitted = {each.value for each in limits.permitted_subtrees or ()}
        matches = self.certificate.public_key() == self.key.public_key()
        return matches and permitted == set(names) and _holds(self.certificate, now or datetime.now(UTC))

    def certify(
        self, key: ec.EllipticCurvePrivateKey, names: Sequence[str], *, now: datetime | None = None
    ) -> x509.Certificate:
        """A server's certificate for `key` under `names`."""
        now = now or datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        builder = _builder(subject, self.certificate.subject, key.public_key(), SERVER_LIFE, now)
        own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        return builder.add_extension(authority, critical=False).sign(self.key, hashes.SHA256())

    def vouches_for(
        self,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        names: Sequence[str],
        *,
        now: datetime | None = None,
    ) -> bool:
        """Whether `certificate` is ours, for this key and exactly these names, and holds for some time yet."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
            shown = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        same = certificate.public_key() == key.public_key()
        return (
            same
            and set(shown.get_values_for_type(x509.DNSName)) == set(names)
            and _holds(certificate, now or datetime.now(UTC))
        )


def new_key() -> ec.EllipticCurvePrivateKey:
    """A private key on P-256, which every browser, nginx and OpenSSL take."""
    return ec.generate_private_key(ec.SECP256R1())


def key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM, not encrypted: what holds it is the file's mode."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_key(content: bytes) -> ec.EllipticCurvePrivateKey:
    """The key that `key_bytes` wrote. Raises `ValueError` where it is another kind of key, or none."""
    key = serialization.load_pem_private_key(content, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{type(key).__name__} is not a key on an elliptic curve")
    return key


def certificate_bytes(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta, now: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - SLOW_CLOCKS).not_valid_after(now + life)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _holds(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEWED_BEFORE
