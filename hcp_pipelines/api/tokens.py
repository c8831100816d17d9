"""A log-in's token: a JWT, HS256, short-lived. Its key is generated once in `secrets/api_signing_keys`, one a line.

The first line signs, all of them are believed: to change the key put another line before, and drop the old one once its tokens
have ended.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.secrets import own_secret, secrets_dir

ISSUER = "hcp"
SHORTEST = 32  # characters of a key
_OPTIONS: Any = {"require": ["exp", "sub", "iss"], "verify_exp": False, "verify_iat": False}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says: whose it is, and of which session version."""

    account: str
    version: int


class SigningKeys:
    """The keys by id, the signing one first."""

    def __init__(self, keys: list[str]) -> None:
        self._keys = {hashlib.sha256(key.encode()).hexdigest()[:8]: key for key in keys}
        self._newest = next(iter(self._keys))

    @classmethod
    def load(cls, settings: Settings) -> "SigningKeys":
        """The keys of the file, which is made at first use.

        Raises:
            ConfigError: others may read the file, it is a link, or a key is too short.
        """
        keys = own_secret(settings, "api_signing_keys", secrets.token_hex(32)).split()
        if not keys or min(map(len, keys)) < SHORTEST:
            path = secrets_dir(settings) / "api_signing_keys"
            raise ConfigError(
                f"{path}: a key a line, of at least {SHORTEST} characters each; delete it for a fresh one"
            )
        return cls(keys)

    def issue(self, claims: Claims, now: datetime, life_s: float) -> str:
        """A token that is good for so long."""
        body = {
            "iss": ISSUER,
            "sub": claims.account,
            "ver": claims.version,
            "iat": int(now.timestamp()),
            "exp": int((now + timedelta(seconds=life_s)).timestamp()),
        }
        return jwt.encode(body, self._keys[self._newest], "HS256", {"kid": self._newest})

    def read(self, token: str, now: datetime) -> Claims | None:
        """What the token says; None where it is forged, past, or none of ours."""
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
            body = jwt.decode(token, key, ["HS256"], _OPTIONS, issuer=ISSUER)
            if float(body["exp"]) <= now.timestamp():
                return None
            return Claims(str(body["sub"]), int(body["ver"]))
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError):
            return None
