"""The daemon that serves the API: connections, accounts, limits, TLS, the listening socket; and what production refuses."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import uvicorn
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from hcp_pipelines.api.app import build_app, framed
from hcp_pipelines.api.connections import guarded
from hcp_pipelines.api.fanout import ACCOUNTS, WORKLOADS
from hcp_pipelines.api.idempotency import FORGET, KEPT_H
from hcp_pipelines.api.known import KnownAccounts
from hcp_pipelines.api.proxies import networks
from hcp_pipelines.api.state import Api
from hcp_pipelines.api.tokens import SigningKeys
from hcp_pipelines.domain.errors import ConfigError, ModelError, StorageError
from hcp_pipelines.operators.api_keys import pepper
from hcp_pipelines.operators.users import with_generated_password
from hcp_pipelines.runtime.process import ProcessContext, allow_files
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.notify import Listener
from hcp_pipelines.storage.postgres import dsn
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads.classifier.model import Classifier, shipped

BY_DEFAULT = ("127.0.0.1", 8080)
CONNECTIONS, BLOCKING_CONNECTIONS = 8, 4
BACKLOG = 4096
ACCEPTED_AT_ONCE = (
    32  # of those: so that thousands who come at one instant don't keep those who are in from being served
)
KEEP_ALIVE_S = 30
OTHER_FILES, LEAST_CONNECTIONS = 200, 100  # beside connections: Postgres', logs, what is loaded
FINISH_WITHIN_S = 5
HOUSEKEEPING_S = 30.0


class Server(uvicorn.Server):
    """uvicorn without hands on signals: they are the process's (`runtime.process`)."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Few are accepted at a time, while many may wait for that: both are one number for asyncio."""
        await super().startup(sockets)
        for own in sockets or []:
            own.listen(BACKLOG)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


async def run_api(context: ProcessContext, begun: Callable[[], None] = lambda: None) -> None:
    """Serve until told to stop; `begun` is told once all that stays is made.

    Raises:
        ConfigError: the address is taken or open without TLS, or the production profile refuses something.
    """
    settings = context.settings
    host, port = where(settings)
    refuse_open(settings, host)
    refuse_unread(settings)
    with listening(host, port, is_by_default=not settings.api_listen) as own:
        async with opened(context) as api:
            if settings.api_profile == "production":
                await api.blocking(refuse_generated_password)
            await _serve(context, api, own, begun)


def where(settings: Settings) -> tuple[str, int]:
    """The address to listen on."""
    if not settings.api_listen:
        return BY_DEFAULT
    host, _, port = settings.api_listen.rpartition(":")
    return host, int(port)


def refuse_open(settings: Settings, host: str) -> None:
    """Raise where tokens would go over a network in the clear.

    Raises:
        ConfigError: no TLS where the address is not loopback's or the profile is production; or half of it.
    """
    files = (settings.api_certificate_file, settings.api_certificate_key_file)
    if (files[0] is None) != (files[1] is None):
        raise ConfigError("HCP_API_CERTIFICATE_FILE and HCP_API_CERTIFICATE_KEY_FILE go together: set both or none")
    for path in files:
        if path is not None and not path.is_file():
            raise ConfigError(f"{path}: no such file; HCP_API_CERTIFICATE_FILE and …_KEY_FILE name PEM files")
    if files[0] is None and settings.api_profile == "production":
        raise ConfigError("HCP_API_PROFILE=production takes no plain HTTP: set HCP_API_CERTIFICATE_FILE and …_KEY_FILE")
    if files[0] is None and not is_loopback(host):
        raise ConfigError(
            f"HCP_API_LISTEN={settings.api_listen}: beyond loopback the API needs TLS: HCP_API_CERTIFICATE_FILE and …_KEY_FILE"
        )


def refuse_unread(settings: Settings) -> None:
    """Raise where the trusted proxies can't be read.

    Raises:
        ConfigError: one is no network.
    """
    try:
        networks(settings.api_trusted_proxies)
    except ValueError as error:
        raise ConfigError(
            f"HCP_API_TRUSTED_PROXIES: {error}; addresses or networks such as 10.1.0.0/16, with commas between"
        ) from None


def refuse_generated_password(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    """Raise where an account has the password that it was made with.

    Raises:
        ConfigError: there is one.
    """
    name = with_generated_password(connection)
    if name is not None:
        raise ConfigError(
            f"HCP_API_PROFILE=production: {name} still has a generated password, that was shown somewhere: "
            f"hcp user password {name} --password-file FILE"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("hcp.example")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def listening(host: str, port: int, *, is_by_default: bool) -> Iterator[socket.socket]:
    """The listening socket; where the default port is taken, one that is free.

    Raises:
        ConfigError: the address is taken, or not this machine's.
    """
    own = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    with own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets have it, too: else 40 ms a request
        try:
            own.bind((host.strip("[]"), port))
        except (OSError, OverflowError) as error:
            if not is_by_default:
                raise ConfigError(f"HCP_API_LISTEN={host}:{port}: {error}") from None
            own.bind((host, 0))
        own.listen(BACKLOG)
        yield own


@contextlib.asynccontextmanager
async def opened(context: ProcessContext) -> AsyncIterator[Api]:
    """What the endpoints share, with its connections open and its limits read."""
    settings, keys, under = context.settings, SigningKeys.load(context.settings), pepper(context.settings)
    # Not checked when they are handed out: that is a third of a submission. Those that are dead are let go at the first error.
    pool = AsyncConnectionPool(
        dsn(settings, Role.API), min_size=2, max_size=CONNECTIONS, kwargs={"autocommit": True}, open=False
    )
    await pool.open(wait=False)
    blocking = ConnectionPool(
        dsn(settings, Role.API),
        min_size=1,
        max_size=BLOCKING_CONNECTIONS,
        kwargs={"autocommit": True},
        check=ConnectionPool.check_connection,
        open=False,
        timeout=10.0,
    )
    await asyncio.to_thread(blocking.open)
    accounts = KnownAccounts(settings, context.clock, pool, keys, under)
    api = Api(
        settings, context.clock, context.log, pool, blocking, keys, under, accounts, _classifier(context),
        stop=context.stop,
    )  # fmt: skip
    try:
        await api.read_limits()
        yield api
    finally:
        await pool.close()
        await asyncio.to_thread(blocking.close)


def _classifier(context: ProcessContext) -> Classifier | None:
    """The classifier that comes with the package; none where it can't be used, which costs no submission."""
    try:
        return shipped()
    except ModelError as error:
        context.log.error("the classifier can't be used: rules serve", error=str(error))
        return None


async def _serve(context: ProcessContext, api: Api, own: socket.socket, begun: Callable[[], None]) -> None:
    settings = context.settings
    is_tls = settings.api_certificate_file is not None
    server = Server(
        uvicorn.Config(
            framed(build_app(api), is_tls),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            http=guarded(max(LEAST_CONNECTIONS, allow_files() - OTHER_FILES)),
            ws="none",
            backlog=ACCEPTED_AT_ONCE,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=FINISH_WITHIN_S,
            ssl_certfile=settings.api_certificate_file,
            ssl_keyfile=settings.api_certificate_key_file,
        )
    )
    try:
        server.config.load()
    except OSError as error:
        raise ConfigError(f"the API's certificate or key can't be used: {error}") from None
    host, port = own.getsockname()[:2]
    base_url = f"{'https' if is_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    async with asyncio.TaskGroup() as tasks:
        beside = [
            tasks.create_task(work)
            for work in (
                api.accounts.follow(context.stop),
                api.fanout.follow(Listener(settings, Role.API, [WORKLOADS, ACCOUNTS]), context.stop),
                _keep_house(context, api),
            )
        ]
        begun()
        serving = tasks.create_task(server.serve(sockets=[own]))
        context.ready(api=base_url)
        await asyncio.wait({serving, asyncio.ensure_future(context.stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
        for task in beside:
            task.cancel()


async def _keep_house(context: ProcessContext, api: Api) -> None:
    """Old replies go, limits are read anew; whether Postgres answers is told by /healthz."""
    while True:
        try:
            await api.read_limits()
            async with api.connection() as connection:
                await connection.execute(FORGET, (KEPT_H,))
            context.health["postgres"] = ""
        except (psycopg.Error, PoolTimeout, StorageError) as error:
            context.health["postgres"] = str(error).strip()
        await asyncio.sleep(HOUSEKEEPING_S)
