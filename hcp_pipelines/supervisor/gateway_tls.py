"""The certificates of a platform whose gateways listen on TCP: where they are, and what a gateway's file says of them."""

import socket
from collections.abc import Sequence
from pathlib import Path

import yaml

from hcp_pipelines.settings import Settings
from hcp_pipelines.wire.certificates import LEAF_DAYS, ROLES, issue, make_authority

GATEWAY = "gateway"
LOCAL_HOSTS = ("127.0.0.1", "localhost")


def tls_folder(settings: Settings) -> Path:
    """Where certificates and keys are, closed to others."""
    folder = settings.tls_dir or settings.at("tls")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def make_all(settings: Settings, hosts: Sequence[str] = LOCAL_HOSTS, days: float = LEAF_DAYS) -> None:
    """A CA, and what it signs."""
    make_authority(tls_folder(settings))
    issue_all(settings, hosts, days)


def issue_all(settings: Settings, hosts: Sequence[str], days: float) -> None:
    """A gateway's certificate, and one for each role of its clients."""
    folder = tls_folder(settings)
    issue(folder, GATEWAY, hosts=hosts, days=days)
    for role in ROLES:
        issue(folder, role, role=role, days=days)


def gateway_tls(settings: Settings) -> dict[str, str]:
    """The `tls` of a gateway's file; certificates are made if there are none yet."""
    folder = tls_folder(settings)
    if not (folder / "ca.crt").exists():
        make_all(settings)
    for role in ROLES:  # an authority of before may have signed for fewer
        if (folder / "ca.key").exists() and not (folder / f"{role}.crt").exists():
            issue(folder, role, role=role, days=LEAF_DAYS)
    return gateway_files(settings)


def gateway_files(settings: Settings) -> dict[str, str]:
    """Where a gateway's certificate, its key, and the authority of its clients are."""
    folder = settings.tls_dir or settings.at("tls")
    named = {"certificate": f"{GATEWAY}.crt", "key": f"{GATEWAY}.key", "clients_ca": "ca.crt"}
    return {key: str(folder / name) for key, name in named.items()}


def loopback_address(gateway_file: Path) -> str:
    """The address that a gateway's file has already, or one on a port that is free now."""
    if gateway_file.exists():
        before = str(yaml.safe_load(gateway_file.read_text()).get("listen", ""))
        if before.startswith(f"{LOCAL_HOSTS[0]}:"):
            return before
    with socket.socket() as probe:
        probe.bind((LOCAL_HOSTS[0], 0))
        return f"{LOCAL_HOSTS[0]}:{probe.getsockname()[1]}"
