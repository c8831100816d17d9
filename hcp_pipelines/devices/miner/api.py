"""pyasic's protocol objects on our own transport: the only module that imports pyasic, which costs seconds and 50 MB.

pyasic brings what took owners years to find out: WhatsMiner's token and envelope, LuxOS's session, replies that are no JSON yet.
Replaced is what is dangerous in it: its sockets wait up to 100 s and read a refused connection as `{}`. Each object's bytes go
through `transport` or `web` instead, so a call ends by its deadline and every failure is one of our three errors.
"""

import asyncio
import warnings
from collections.abc import Awaitable
from typing import Any

from hcp_pipelines.devices.miner.telemetry import FACTORY_PASSWORDS, Dialect, MinerOptions
from hcp_pipelines.devices.miner.transport import Framing, excerpt, exchange
from hcp_pipelines.devices.miner.web import AntminerPages
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError, HcpError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pyasic 0.79 declares its models in pydantic's old way
    from pyasic.errors import APIError
    from pyasic.rpc.antminer import AntminerRPCAPI
    from pyasic.rpc.base import BaseMinerRPCAPI
    from pyasic.rpc.btminer import BTMinerRPCAPI, BTMinerV3RPCAPI
    from pyasic.rpc.luxminer import LUXMinerRPCAPI
    from pyasic.web.antminer import AntminerModernWebAPI

Json = dict[str, Any]
_UNREADABLE = "Decode Error"
_LISTED_LIKE_A_DICT = b'"error_code":["'  # WhatsMiner API 2.0.4


class _Bounded:
    """Bytes under a deadline, and the last reply kept for error messages."""

    ip: Any
    port: int
    exchange_deadline_s: float
    last_reply: bytes = b""
    framing = Framing.CLOSE

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.ip}"

    @staticmethod
    def _load_api_data(data: bytes) -> Json:
        """The repairs of pyasic, but for one: its pattern takes a minute over a hostile megabyte, and nothing interrupts it."""
        text = data.replace(b"\n", b"")
        at = text.find(_LISTED_LIKE_A_DICT)
        if at >= 0:
            if text.find(b'"]', at) < 0:
                raise APIError(f"{_UNREADABLE}: error_code is a list that does not end")
            text = text.replace(b"[", b"{").replace(b"]", b"}")
        loaded: Json = BaseMinerRPCAPI._load_api_data(text)
        return loaded

    async def _send_bytes(self, data: bytes, *, port: int | None = None, timeout: float = 100) -> bytes:  # noqa: ASYNC109, ARG002
        self.last_reply = b""
        self.last_reply = await exchange(str(self.ip), port or self.port, data, self.exchange_deadline_s, self.framing)
        return self.last_reply


class LuxosApi(_Bounded, LUXMinerRPCAPI):  # type: ignore[misc]
    """LuxOS on port 4028."""


class WhatsminerApi(_Bounded, BTMinerRPCAPI):  # type: ignore[misc]
    """WhatsMiner API 2 on port 4028."""


class WhatsminerV3Api(_Bounded, BTMinerV3RPCAPI):  # type: ignore[misc]
    """WhatsMiner API 3 on port 4433."""

    framing = Framing.LENGTH

    async def _read_bytes(self, *_: object, **__: object) -> bytes:
        raise AssertionError("its bytes come from _send_bytes")


class AntminerApi(_Bounded, AntminerRPCAPI):  # type: ignore[misc]
    """Stock Antminer on port 4028: figures, no control."""


class AntminerWeb(AntminerModernWebAPI):  # type: ignore[misc]
    """Stock Antminer's pages: identity, configuration, control."""

    def __init__(self, pages: AntminerPages, address: str) -> None:
        super().__init__(address)
        self._pages = pages

    async def send_command(self, command: str, *_: object, **parameters: object) -> Json:
        """A page's JSON; with parameters they are posted."""
        return await self._pages.fetch(command, dict(parameters) or None)


def luxos(address: str, options: MinerOptions) -> LuxosApi:
    """The API of one LuxOS machine."""
    made = LuxosApi(address, port=options.api_port)
    made.exchange_deadline_s = options.deadline_s
    return made


def whatsminer(address: str, options: MinerOptions, api_version: str) -> WhatsminerApi:
    """The API of one WhatsMiner, version 2 or older."""
    made = WhatsminerApi(address, port=options.api_port, api_ver=_three(api_version))
    made.exchange_deadline_s = options.deadline_s
    made.pwd = password(options, Dialect.WHATSMINER_V2)
    return made


def whatsminer_v3(address: str, options: MinerOptions) -> WhatsminerV3Api:
    """The API of one WhatsMiner, version 3."""
    made = WhatsminerV3Api(address, port=options.v3_port)
    made.exchange_deadline_s = options.deadline_s
    made.pwd = password(options, Dialect.WHATSMINER_V3)
    return made


def antminer(address: str, options: MinerOptions) -> AntminerApi:
    """The figures of one stock Antminer."""
    made = AntminerApi(address, port=options.api_port)
    made.exchange_deadline_s = options.deadline_s
    return made


def password(options: MinerOptions, dialect: Dialect) -> str:
    """The configured password of a dialect, or the factory's."""
    return options.passwords.get(dialect.value, FACTORY_PASSWORDS[dialect])


async def call(work: Awaitable[Any], api: Any, what: str, deadline_s: float) -> Json:
    """The reply of one call of pyasic's, whatever becomes of it within.

    Raises:
        DeviceUnreachableError: it did not come in time.
        DeviceRefusedError: the device said no.
        DeviceReplyError: what came makes no sense; the message shows the bytes.
    """
    where = f"{api.ip} {what}"
    try:
        async with asyncio.timeout(deadline_s):
            reply = await work
    except TimeoutError:
        raise DeviceUnreachableError(f"{where}: not done within {deadline_s:g} s") from None
    except HcpError:
        raise
    except APIError as error:
        raise _judged(where, str(error), getattr(api, "last_reply", b"")) from None
    except Exception as error:  # noqa: BLE001 - pyasic trips over unexpected replies in as many ways as there are
        raise DeviceReplyError(f"{where}: {error!r} on {excerpt(getattr(api, 'last_reply', b''))}") from None
    if not isinstance(reply, dict) or not reply:
        raise DeviceReplyError(f"{where}: an empty reply, {excerpt(getattr(api, 'last_reply', b''))}")
    return reply


def _judged(where: str, text: str, reply: bytes) -> HcpError:
    if _UNREADABLE in text:
        return DeviceReplyError(f"{where}: not JSON: {excerpt(reply)}")
    return DeviceRefusedError(f"{where}: {text}")


def _three(version: str) -> str:
    """A version as pyasic compares it: three numbers; 0.0.0 is unknown."""
    numbers = [part for part in version.split(".") if part.isdigit()][:3]
    return ".".join(numbers + ["0"] * (3 - len(numbers)))


__all__ = ["APIError", "AntminerApi", "AntminerWeb", "LuxosApi", "WhatsminerApi", "WhatsminerV3Api", "call", "password"]
