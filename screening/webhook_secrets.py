"""How are webhook secrets made, kept and rotated? Random, encrypted with the operator's keys, two at a time.

A secret must be readable to sign with, so it cannot be hashed. It is encrypted with Fernet under keys derived from
ASSAY_SECRET_KEYS: the first encrypts, every one decrypts, so that rotating them interrupts nothing.
"""

import base64
import hmac
import secrets
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from screening.errors import ConfigurationError

PREFIX = "whsec_"
BYTES = 32  # Standard Webhooks asks for 24 to 64


def generate() -> str:
    """A new secret in the form that receivers' libraries take: `whsec_` and base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(BYTES)).decode()


class SecretBox:
    """Encrypts and decrypts secrets. Raises ConfigurationError without keys."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ConfigurationError("ASSAY_SECRET_KEYS is empty: webhook secrets cannot be encrypted without a key.")
        # A key of its own: the same secrets sign cursors and sessions.
        derived = (hmac.digest(key.encode(), b"assay webhook secret 1", "sha256") for key in keys)
        self._fernet = MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in derived])

    def seal(self, secret: str) -> bytes:
        """The secret as it is stored."""
        return self._fernet.encrypt(secret.encode())

    def open(self, sealed: bytes) -> str:
        """The secret behind what is stored. Raises ConfigurationError where no key fits."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise ConfigurationError(
                "ASSAY_SECRET_KEYS holds no key that decrypts this webhook secret: put the earlier key back behind the "
                "new one."
            ) from error

    def reseal(self, sealed: bytes) -> bytes:
        """The same secret under the first key, after which the others may be dropped."""
        return self._fernet.rotate(sealed)
