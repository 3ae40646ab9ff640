"""Security primitives: encryption at rest, hashing of random tokens, passwords.

Tokens are 32 random bytes, so a plain SHA-256 is enough to store them; passwords go through argon2.
"""

import hashlib
import secrets

from cryptography.fernet import Fernet, InvalidToken
from pwdlib import PasswordHash

from control_api.errors import StartupError

_CHECK = b"muster"


class SecretBox:
    """Encrypts small secrets with one key (Fernet: AES-128-CBC + HMAC-SHA256)."""

    def __init__(self, key: str, *, name: str) -> None:
        try:
            self._fernet = Fernet(key)
        except ValueError as error:
            raise StartupError(
                f"The {name} key is not 32 url-safe base64 bytes.", code="bad_key", hint="Make one with `muster keys secret`."
            ) from error
        self.name = name

    @staticmethod
    def new_key() -> str:
        """Return a new random key."""
        return Fernet.generate_key().decode()

    def encrypt(self, secret: str) -> str:
        """Return the secret, encrypted, as text."""
        return self._fernet.encrypt(secret.encode()).decode()

    def decrypt(self, token: str) -> str:
        """Return the secret. Raises ``StartupError`` if it was encrypted with another key."""
        try:
            return self._fernet.decrypt(token).decode()
        except InvalidToken as error:
            hint = f"Give MUSTER_{self.name.upper()}_KEY, or keys.json in the state directory, as the store was made with it."
            raise StartupError(f"The {self.name} key does not fit this store.", code="wrong_key", hint=hint) from error

    def check_value(self) -> str:
        """Return a value that ``verify`` accepts only with the same key."""
        return self._fernet.encrypt(_CHECK).decode()

    def verify(self, check_value: str) -> None:
        """Raise ``StartupError`` unless the check value was made with this key."""
        self.decrypt(check_value)


def new_token(prefix: str) -> str:
    """Return ``prefix_`` and 32 random bytes, url-safe."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def token_hash(token: str) -> str:
    """Return the SHA-256 of a random token in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def password_hash(password: str) -> str:
    """Return the argon2id hash of a password."""
    return PasswordHash.recommended().hash(password)


def password_matches(password: str, hashed: str) -> bool:
    """Tell whether a password fits its hash; takes tens of milliseconds by design."""
    return PasswordHash.recommended().verify(password, hashed)
