"""ERCOT's log-in: a token of an hour for user name and password, and who may ask for reports with it.

Without `markets.ercot_login` in the world's file anybody gets a token, and nobody needs one. Tokens are signed, so that none has
to be remembered; they end by the world's clock. Source: the shape notes of docs/world.md.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response

from simulators.bodies import body_within
from simulators.clock import Clock
from simulators.market_config import ErcotLoginConfig

TOKEN_PATH: Final = "/ercotb2c.onmicrosoft.com/B2C_1_PUBAPI-ROPC-FLOW/oauth2/v2.0/token"  # noqa: S105 - a path
CLIENT_ID: Final = "fec253ea-0d06-4272-a5e6-b478baeecd70"
DEFAULT_LIFE_S: Final = 3600.0
MOST_BODY_BYTES: Final = 32 * 1024


class ErcotLogin:
    """Hands out tokens and checks them."""

    def __init__(self, config: ErcotLoginConfig | None, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._key = secrets.token_bytes(32)

    async def token(self, request: Request) -> Response:
        """The reply to a POST of the password form, in the body or, as ERCOT's own example has it, in the address."""
        posted = dict(parse_qsl((await body_within(request, MOST_BODY_BYTES)).decode("latin-1")))
        form: Mapping[str, str] = {**request.query_params, **posted}
        if form.get("grant_type") != "password":
            return _refused("unsupported_grant_type", "AADB2C90086: The supplied grant_type is not supported.")
        if form.get("client_id") != CLIENT_ID:
            return _refused("unauthorized_client", "AADB2C90058: The application is not known.")
        if self._config and (form.get("username"), form.get("password")) != (
            self._config.username,
            self._config.password,
        ):
            return _refused(
                "access_denied", "AADB2C90225: The username or password provided in the request are invalid."
            )
        life_s = self._config.token_life_s if self._config else DEFAULT_LIFE_S
        signed = self._signed(form.get("username", ""), self._clock.now_s() + life_s)
        body = {"access_token": signed, "token_type": "Bearer", "expires_in": f"{life_s:.0f}", "id_token": signed}
        return Response(orjson.dumps(body | {"refresh_token": signed[::-1]}), media_type="application/json")

    def refusal(self, request: Request) -> Response | None:
        """What the gateway says to a request without the key or a token that lasts; None: it may pass."""
        if self._config is None:
            return None
        key = request.headers.get("ocp-apim-subscription-key", request.query_params.get("subscription-key", ""))
        if not hmac.compare_digest(key.encode(), self._config.subscription_key.encode()):
            return _unauthorized("Access denied due to missing or invalid subscription key.")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._holds(token):
            return _unauthorized("Access denied: the token is missing, is not ours or has expired.")
        return None

    def _signed(self, username: str, ends_s: float) -> str:
        parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": username[:64], "exp": int(ends_s), "aud": CLIENT_ID})
        said = ".".join(_coded(orjson.dumps(part)) for part in parts)
        return f"{said}.{self._signature(said)}"

    def _signature(self, said: str) -> str:
        return _coded(hmac.digest(self._key, said.encode(), hashlib.sha256))

    def _holds(self, token: str) -> bool:
        """Whether a token is one of these and lasts."""
        said, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(said).encode()):
            return False
        claims = said.rpartition(".")[2]
        ends_s = orjson.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return bool(self._clock.now_s() < ends_s)


def _coded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _refused(error: str, description: str) -> Response:
    body = {"error": error, "error_description": description}
    return Response(orjson.dumps(body), status_code=400, media_type="application/json")


def _unauthorized(message: str) -> Response:
    body = {"error_key": "unauthorized", "error_message": message}
    return Response(orjson.dumps(body), status_code=401, media_type="application/json")
