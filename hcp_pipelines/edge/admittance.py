"""Who may do what at a gateway's socket, and how the socket is opened.

A unix socket is in a closed folder: whoever reaches it may do all. Anywhere else a client shows a certificate of the CA that the
gateway's file names, and its role, a URI in the certificate, says what it may do.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc
import structlog

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.config import EdgeConfig, TlsConfig
from hcp_pipelines.wire.certificates import ROLE_URI, ROLES, check_certificate

HEAR_OUT_S = 2.0
_ENCRYPTED = b"ssl"

Context = grpc.aio.ServicerContext


def bind(server: grpc.aio.Server, config: EdgeConfig) -> int:
    """Open the port that the gateway's file names; its number (1 for a unix socket).

    Raises:
        ConfigError: it can't be bound, or has no TLS though it is no unix socket.
    """
    try:
        if config.listen.startswith("unix:"):
            return server.add_insecure_port(config.listen)
        assert config.tls is not None  # config.py asks for it
        return server.add_secure_port(config.listen, _credentials(config.tls))
    except RuntimeError as error:
        raise ConfigError(
            f"listen: {config.listen} can't be bound ({error}); a socket's path has 107 bytes at most, a port is free or 0"
        ) from None


def roles_of(context: "Context[Any, Any]") -> frozenset[str] | None:
    """The roles in a client's certificate; None on a unix socket."""
    shown = context.auth_context()
    if _ENCRYPTED not in shown.get("transport_security_type", ()):
        return None
    names: Iterable[bytes] = shown.get("peer_uri", ())  # a DNS name or an address that looks like one is no role
    uris = [name.decode("utf-8", "replace") for name in names]
    return frozenset(uri.removeprefix(ROLE_URI) for uri in uris if uri.startswith(ROLE_URI)) & frozenset(ROLES)


def may(context: "Context[Any, Any]", *allowed: str) -> bool:
    """Whether a call's client has one of the roles."""
    roles = roles_of(context)
    return roles is None or bool(roles & frozenset(allowed))


async def require(context: "Context[Any, Any]", *allowed: str) -> None:
    """End a call whose client has none of the roles, with a message that says so."""
    if may(context, *allowed):
        return
    has = ", ".join(sorted(roles_of(context) or ())) or "no role of ours"
    detail = f"this needs a certificate with the role {' or '.join(allowed)}; this one has {has}"
    metrics.REFUSED.labels("wrong_role").inc()
    structlog.get_logger("edge").warning("a client was turned away", peer=context.peer(), detail=detail)
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, detail)


async def require_of_stream(context: "Context[Any, Any]", requests: AsyncIterator[Any], *allowed: str) -> None:
    """As `require`, of a stream: it takes what the client is about to say first.

    A stream that ends while its client writes is an internal error to that client.
    """
    if not may(context, *allowed):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEAR_OUT_S):
                await anext(requests, None)
    await require(context, *allowed)


def _credentials(tls: TlsConfig) -> grpc.ServerCredentials:
    check_certificate(tls.certificate, tls.own_ca or tls.clients_ca)
    pair = (_read(tls.key), _read(tls.certificate))
    return grpc.ssl_server_credentials([pair], root_certificates=_read(tls.clients_ca), require_client_auth=True)


def _read(path: Path) -> bytes:
    try:
        if path.suffix == ".key" and path.stat().st_mode & 0o077:
            raise ConfigError(f"{path}: others may read this key; chmod 600")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"tls: {path}: {error.strerror}; `hcp tls init` makes certificates") from None
