"""Tokens signed with Ed25519 (RFC 8037, RFC 7519): for users' calls, running jobs, inference, and known browsers.

The audience tells them apart, so that none passes for another. Routers hold only the public keys.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from control_api.access.models import SigningKey
from control_api.errors import Unauthenticated
from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.secretbox import SecretBox

ALGORITHM = "EdDSA"
USER_AUDIENCE = "muster-api"
JOB_AUDIENCE = "muster-job"
INFERENCE_AUDIENCE = "muster-inference"
DEVICE_AUDIENCE = "muster-device"


def new_signing_key(box: SecretBox) -> SigningKey:
    """Return a new pair, its private half encrypted."""
    private = Ed25519PrivateKey.generate()
    private_pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public_pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return SigningKey(kid=new_id(), public_pem=public_pem, private_encrypted=box.encrypt(private_pem))


@dataclass(frozen=True)
class Signer:
    """Signs and verifies tokens with one pair."""

    kid: str
    private_pem: str
    public_pem: str

    def sign(self, audience: str, subject: str, ttl_s: int, claims: dict[str, Any]) -> tuple[str, datetime]:
        """Return a token for a subject and when it expires."""
        now = utcnow()
        expires_at = now + timedelta(seconds=ttl_s)
        payload = {**claims, "aud": audience, "sub": subject, "jti": new_id(), "iat": now, "exp": expires_at}
        return jwt.encode(payload, self.private_pem, algorithm=ALGORITHM, headers={"kid": self.kid}), expires_at

    def verify(self, token: str, audience: list[str]) -> dict[str, Any]:
        """Return the claims of a token for one of these audiences. Raises ``Unauthenticated``."""
        try:
            required = ["exp", "sub", "jti", "aud"]
            return jwt.decode(token, self.public_pem, algorithms=[ALGORITHM], audience=audience, options={"require": required})
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The token has expired.", code="token_expired") from error
        except jwt.InvalidTokenError as error:
            raise Unauthenticated("The token is not valid.") from error
