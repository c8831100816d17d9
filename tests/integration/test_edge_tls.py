"""A gateway on TCP with mutual TLS: who is let in, who is turned away, and what both sides say of it."""

import asyncio
import contextlib
import hashlib
import re
import shutil
import socket
import ssl
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import yaml

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.edge.config import EdgeConfig
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire import telemetry_v1_pb2 as telemetry
from hcp_pipelines.wire.certificates import check_certificate, issue, make_authority
from hcp_pipelines.wire.channels import ClientTls, open_channel
from hcp_pipelines.wire.edge_v1_pb2_grpc import EdgeGatewayStub
from hcp_pipelines.wire.telemetry import METHOD, SERVICE
from tests.support.edge import GatewayProcess, World, edge_document

TOKEN = "a" * 43
ANNOUNCE = pb.OwnerMessage(
    announce=pb.Announce(facility_id="one", owner="a", epoch=1, generation=1, lease_epoch=9)
)  # fmt: skip


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="e", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def certificates(folder: Path) -> Path:
    """Ours in `tls`, another authority's in `foreign`."""
    for name in ("tls", "foreign"):
        (folder / name).mkdir(mode=0o700)
        make_authority(folder / name)
        for role in ("allocator", "operator", "reader", "collector"):
            issue(folder / name, role, role=role)
    own = folder / "tls"
    issue(own, "gateway", hosts=["127.0.0.1"])
    issue(own, "elsewhere", hosts=["10.0.0.9"])
    issue(own, "nobody", role="visitor")
    issue(own, "expired", role="allocator", days=1, now=datetime.now(UTC) - timedelta(days=3))
    return own


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class TlsGateway(GatewayProcess):
    def __init__(self, folder, certificate="gateway") -> None:
        super().__init__(folder, names=("one",))
        self.own = folder / "tls"
        self.address = f"127.0.0.1:{free_port()}"
        accounts = {"ann": ("operator", TOKEN), "eve": ("viewer", TOKEN)}
        operators = folder / "operators.yaml"
        listed = {
            n: {"role": r, "token_sha256": hashlib.sha256(t.encode()).hexdigest()} for n, (r, t) in accounts.items()
        }
        operators.write_text(yaml.safe_dump({"operators": listed}))
        operators.chmod(0o600)
        document = edge_document(folder, names=("one",)) | {
            "listen": self.address, "operators_file": str(operators),
            "tls": {
                "certificate": str(self.own / f"{certificate}.crt"), "key": str(self.own / f"{certificate}.key"),
                "clients_ca": str(self.own / "ca.crt"),
            },
        }  # fmt: skip
        (folder / "edge.yaml").write_text(yaml.safe_dump(document))

    def tls(self, name, *, authority=None) -> ClientTls:
        folder = authority or self.own
        return ClientTls(folder / f"{name}.crt", folder / f"{name}.key", folder / "ca.crt")


@contextlib.asynccontextmanager
async def gateway(folder, **options):
    certificates(folder)
    world = World(folder)
    await world.start()
    running = TlsGateway(folder, **options)
    await running.start()
    try:
        yield running
    finally:
        running.process.terminate()
        output, _ = await asyncio.to_thread(running.process.communicate, timeout=60)
        running.output = output
        await world.kill()


def order(operator="ann", token=TOKEN, issued_s_ago=0.0, **what) -> pb.DirectOrder:
    issued_at_ms = int((time.time() - issued_s_ago) * 1000)
    return pb.DirectOrder(
        facility_id="one", order_id=str(uuid.uuid4()), operator=operator, token=token, reason="drill",
        issued_at_ms=issued_at_ms, **what or {"stop": True},
    )  # fmt: skip


async def allowed(running, name) -> set[str]:
    """What a certificate lets its holder do."""
    may = set()
    async with open_channel(running.address, running.tls(name)) as channel:
        stub = EdgeGatewayStub(channel)
        calls = {
            "read": stub.Read(pb.ReadRequest(facility_id="one")),
            "direct": stub.Direct(order()),
        }  # fmt: skip
        for what, call in calls.items():
            if await call.code() is grpc.StatusCode.OK:
                may.add(what)
            else:
                assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
                assert "needs a certificate with the role" in await call.details()
        log = stub.ReadLog(pb.ReadLogRequest(facility_id="one"))
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for _ in log:
                pass
        if await log.code() is grpc.StatusCode.OK:
            may.add("log")
        session = stub.Session()
        try:
            await session.write(ANNOUNCE)
            assert (await session.read()).announce_reply.accepted
            may.add("session")
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            assert await session.code() is grpc.StatusCode.PERMISSION_DENIED
        session.cancel()
        stream = channel.stream_stream(f"/{SERVICE}/{METHOD}", telemetry.CollectorMessage.SerializeToString, None)()
        try:
            await stream.write(telemetry.CollectorMessage(ack=telemetry.Ack(seq=1)))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            assert await stream.code() is grpc.StatusCode.PERMISSION_DENIED
        if await stream.code() is grpc.StatusCode.INVALID_ARGUMENT:  # it was heard: a stream begins otherwise
            may.add("telemetry")
    return may


async def test_a_role_may_do_what_is_its_own_and_a_wrong_certificate_nothing(folder):
    async with gateway(folder) as running:
        assert await allowed(running, "allocator") == {"read", "log", "session"}
        assert await allowed(running, "operator") == {"read", "log", "direct"}
        assert await allowed(running, "reader") == {"read", "log"}
        assert await allowed(running, "collector") == {"read", "log", "telemetry"}
        assert await allowed(running, "nobody") == set()
        foreign = folder / "foreign"
        for tls, said in (
            (
                ClientTls(foreign / "allocator.crt", foreign / "allocator.key", running.own / "ca.crt"),
                "was not signed by",
            ),
            (running.tls("expired"), "hcp tls renew"),
        ):
            with pytest.raises(ConfigError, match=re.escape(said)):
                open_channel(running.address, tls)
            assert await _bare(running, tls) in {grpc.StatusCode.UNAVAILABLE}
        assert await _bare(running, running.tls("allocator", authority=foreign)) is grpc.StatusCode.UNAVAILABLE
        async with grpc.aio.insecure_channel(running.address) as plain:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await EdgeGatewayStub(plain).Read(pb.ReadRequest(facility_id="one"), timeout=60)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(ConfigError, match="hcp tls init"):
            open_channel(running.address, None)
        assert "read" in await allowed(running, "reader")  # nobody else was disturbed
    said = running.output
    for words in ("a client was turned away", "certificate has expired", "BAD_SIGNATURE", "WRONG_VERSION_NUMBER"):
        assert words in said


async def _bare(running, tls) -> grpc.StatusCode:
    """What a client gets that does not look at its own certificate first."""
    credentials = grpc.ssl_channel_credentials(*(p.read_bytes() for p in (tls.gateways_ca, tls.key, tls.certificate)))
    async with grpc.aio.secure_channel(running.address, credentials) as channel:
        try:
            await EdgeGatewayStub(channel).Read(pb.ReadRequest(facility_id="one"), timeout=60)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_a_gateway_whose_name_is_another_one_is_not_spoken_to(folder):
    async with (
        gateway(folder, certificate="elsewhere") as running,
        open_channel(running.address, running.tls("reader")) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await EdgeGatewayStub(channel).Read(pb.ReadRequest(facility_id="one"), timeout=60)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "127.0.0.1" in refused.value.details()


async def test_old_tls_and_half_closed_connections_leave_the_port_going(folder):
    async with gateway(folder) as running:
        host, port = running.address.split(":")
        for junk in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 5000):
            with socket.create_connection((host, int(port)), timeout=60) as raw:
                raw.sendall(junk)
        context = ssl.create_default_context(cafile=running.own / "ca.crt")
        with pytest.raises(
            (ssl.SSLError, ConnectionError)
        ):  # without a certificate: refused in or right after the handshake
            await asyncio.to_thread(_greet, context, host, int(port))
        assert "read" in await allowed(running, "reader")


def _greet(context, host, port):
    with (
        socket.create_connection((host, port), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname=host) as tls,
    ):
        tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        if not tls.recv(1):
            raise ConnectionError("closed")


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"operator": "eve"}, "is a viewer"),
        ({"operator": "mallory"}, "not known here, or the token is another one"),
        ({"token": TOKEN + "a"}, "not known here, or the token is another one"),
        ({"token": ""}, "not known here, or the token is another one"),
        ({"issued_s_ago": 75.0}, "issued 75 s ago"),
        ({"issued_s_ago": -90.0}, "set the clocks"),
    ],
)
async def test_who_may_not_order_is_refused_and_nothing_moves(tls_gateway, changes, detail):
    async with open_channel(tls_gateway.address, tls_gateway.tls("operator")) as channel:
        stub = EdgeGatewayStub(channel)
        reply = await stub.Direct(order(**changes))
        assert (reply.accepted, reply.refusal) == (False, "not_allowed")
        assert detail in reply.detail
        assert (await stub.Read(pb.ReadRequest(facility_id="one"))).held == b""


@pytest.fixture(scope="module")
def module_folder():
    path = Path(tempfile.mkdtemp(prefix="e", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def tls_gateway(module_folder):
    """One process for the cases that leave it as it is; its site is not there."""
    certificates(module_folder)
    (module_folder / "clock.json").write_text(
        '{"real_at": "2026-01-01T00:00:00+00:00", "simulated_at": "2025-01-01T00:00:00+00:00", "speed": 1}'
    )
    running = TlsGateway(module_folder)
    asyncio.run(running.start())
    yield running
    running.process.terminate()
    running.process.communicate(timeout=60)


def test_a_file_with_a_tcp_address_needs_certificates(tmp_path):
    document = edge_document(tmp_path)
    with pytest.raises(ValueError, match="is no unix socket and needs `tls`"):
        EdgeConfig.model_validate(document | {"listen": "0.0.0.0:9000"})
    files = {"certificate": "a.crt", "key": "a.key", "clients_ca": "ca.crt"}
    with pytest.raises(ValueError, match="a unix socket has none"):
        EdgeConfig.model_validate(document | {"tls": files})


def test_keys_and_certificates_are_closed_to_others_and_last_as_long_as_said(tmp_path):
    make_authority(tmp_path)
    issue(tmp_path, "reader", role="reader", days=2)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}
    check_certificate(tmp_path / "reader.crt", tmp_path / "ca.crt")
    issue(tmp_path, "later", role="reader", now=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(ConfigError, match="is valid from"):
        check_certificate(tmp_path / "later.crt", tmp_path / "ca.crt")
    with pytest.raises(ConfigError, match="no certificate can be read"):
        check_certificate(tmp_path / "none.crt", tmp_path / "ca.crt")
