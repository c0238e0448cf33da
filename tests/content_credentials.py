"""How does a test sign an image as a camera would? With a chain of its own: authority and claim certificate."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@dataclass(frozen=True, slots=True)
class Signer:
    """A camera's certificate chain and key, with the authority that stands behind it. All PEM."""

    chain: bytes
    key: bytes
    authority: bytes


def signed(image: bytes, source: str, by: Signer | None = None, *, manifest_at: str | None = None) -> bytes:
    """A JPEG with a manifest that says how it was made: `digitalCapture`, `trainedAlgorithmicMedia`, ...

    With `manifest_at` the manifest is left out, and the file only says at which address it lies.
    """
    signer = by or a_signer()
    action = {"action": "c2pa.created", "digitalSourceType": f"{SOURCES}{source}"}
    manifest: dict[str, Any] = {
        "claim_generator_info": [{"name": "Test camera", "version": "1"}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
    }
    info = c2pa.C2paSignerInfo(alg=b"es256", sign_cert=signer.chain, private_key=signer.key, ta_url=None)
    target = BytesIO()
    with c2pa.Builder(manifest) as builder:
        if manifest_at is not None:
            builder.set_no_embed()
            builder.set_remote_url(manifest_at)
        builder.sign(c2pa.Signer.from_info(info), "image/jpeg", BytesIO(image), target)
    return target.getvalue()


def a_signer() -> Signer:
    """A chain of its own."""
    authority, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("Test authority")
    root = _certificate(issuer, issuer, authority, authority, ca=True)
    own = _certificate(_name("Test camera"), issuer, leaf, authority, ca=False)
    pem = serialization.Encoding.PEM
    private = leaf.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Signer(own.public_bytes(pem) + root.public_bytes(pem), private, root.public_bytes(pem))


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test")]
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, *, ca: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(by, hashes.SHA256())
