"""Amazon's signatures, version 4: what every call of its query APIs carries in place of a token. No key leaves this module.

Source: AWS documentation, Signature Version 4 (canonical request, string to sign, signing key).
"""

import hashlib
import hmac
from collections.abc import Generator
from datetime import UTC
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from hcp_pipelines.domain.clock import Clock

ALGORITHM = "AWS4-HMAC-SHA256"
SIGNED = ("content-type", "host", "x-amz-date", "x-amz-target")


class AwsAuth(httpx.Auth):
    """Signs each request for one service and region, at the clock's instant."""

    requires_request_body = True

    def __init__(self, key_id: str, secret_key: SecretStr, region: str, service: str, clock: Clock) -> None:
        self._key_id = key_id
        self._secret_key = secret_key
        self._region = region
        self._service = service
        self._clock = clock

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the signature into the headers."""
        stamp = self._clock.now().astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        request.headers["x-amz-date"] = stamp
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        names, canonical = _canonical(request)
        said = "\n".join((ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
        signature = hmac.new(self._signing_key(stamp[:8]), said.encode(), hashlib.sha256).hexdigest()
        told = f"Credential={self._key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
        request.headers["authorization"] = f"{ALGORITHM} {told}"
        yield request

    def _signing_key(self, day: str) -> bytes:
        key = f"AWS4{self._secret_key.get_secret_value()}".encode()
        for part in (day, self._region, self._service, "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key


def _canonical(request: httpx.Request) -> tuple[str, str]:
    """The names of the headers that are signed, and the canonical request."""
    headers = {name: request.headers[name] for name in SIGNED if name in request.headers}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))
    pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in request.url.params.multi_items())
    query = "&".join(f"{key}={value}" for key, value in pairs)
    path = quote(request.url.path or "/", safe="/-_.~")
    payload = hashlib.sha256(request.content).hexdigest()
    return names, "\n".join((request.method, path, query, lines, names, payload))
