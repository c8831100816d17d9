"""How every client reaches a gateway: a unix socket as it is, anything else with mutual TLS. One way for all of them.

A client's certificate says in a URI what it may do at a gateway (`hcp:role:allocator`, `operator`, `reader`, `collector`).
Certificates are made in `certificates.py`; what a gateway asks of them is in `edge.admittance`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import grpc

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings
from hcp_pipelines.wire.certificates import check_certificate

MESSAGE_MAX_BYTES = 16 * 1024 * 1024
LIMITS = (("grpc.max_receive_message_length", MESSAGE_MAX_BYTES), ("grpc.max_send_message_length", MESSAGE_MAX_BYTES))
Role = Literal["allocator", "operator", "reader", "collector"]
Options = Sequence[tuple[str, Any]]


@dataclass(frozen=True)
class ClientTls:
    """Files of a client: its certificate and key, and the CA that signed the gateways' certificates."""

    certificate: Path
    key: Path
    gateways_ca: Path


def client_tls(settings: Settings, role: Role) -> ClientTls:
    """What a role of this platform shows where it is asked for it."""
    folder = settings.tls_dir or settings.at("tls")
    return ClientTls(folder / f"{role}.crt", folder / f"{role}.key", folder / "ca.crt")


def open_channel(address: str, tls: ClientTls | None, options: Options = ()) -> grpc.aio.Channel:
    """A channel to a gateway. On a unix socket nothing is shown.

    Raises:
        ConfigError: an address that is no unix socket without certificates, or certificates that can't be used.
    """
    if address.startswith("unix:"):
        return grpc.aio.insecure_channel(address, options=(*LIMITS, *options))
    return grpc.aio.secure_channel(address, _credentials(address, tls), options=(*LIMITS, *options))


def open_blocking_channel(address: str, tls: ClientTls | None) -> grpc.Channel:
    """The same for code that does not live in a loop.

    Raises:
        ConfigError: as `open_channel`.
    """
    if address.startswith("unix:"):
        return grpc.insecure_channel(address, options=LIMITS)
    return grpc.secure_channel(address, _credentials(address, tls), options=LIMITS)


def _credentials(address: str, tls: ClientTls | None) -> grpc.ChannelCredentials:
    if tls is None:
        raise ConfigError(f"{address}: beyond a unix socket a gateway is reached with certificates; see `hcp tls init`")
    check_certificate(tls.certificate, tls.gateways_ca)
    return grpc.ssl_channel_credentials(_read(tls.gateways_ca), _read(tls.key), _read(tls.certificate))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; `hcp tls init` makes certificates") from None
