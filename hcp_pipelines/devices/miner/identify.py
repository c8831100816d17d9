"""Asking a device who it is: dialect first, in one to three exchanges; MAC and serial number in one more. No pyasic here."""

import asyncio
import json
from dataclasses import replace

import httpx

from hcp_pipelines.devices.miner import identity_codec as codec
from hcp_pipelines.devices.miner.fields import Json
from hcp_pipelines.devices.miner.identity_codec import Identity
from hcp_pipelines.devices.miner.telemetry import FACTORY_PASSWORDS, Dialect, MinerOptions
from hcp_pipelines.devices.miner.transport import Framing, excerpt, exchange
from hcp_pipelines.devices.miner.web import AntminerPages
from hcp_pipelines.domain.errors import DeviceReplyError, DeviceUnreachableError

VERSION = b'{"command": "version"}'
_DEVICE_INFO = b'{"cmd": "get.device.info", "param": null}'
V3_DEVICE_INFO = len(_DEVICE_INFO).to_bytes(4, "little") + _DEVICE_INFO


async def ask_dialect(address: str, options: MinerOptions) -> Identity:
    """Dialect, firmware and, where it comes with them, the model.

    Raises:
        DeviceUnreachableError: nothing answers, on 4028 nor on 4433.
        DeviceReplyError: something answers that is no miner's reply.
    """
    try:
        data = await exchange(address, options.api_port, VERSION, options.deadline_s)
    except DeviceUnreachableError as error:
        return await _ask_v3(address, options, error)
    return await identify_by_version(address, data, options)


async def identify_by_version(address: str, data: bytes, options: MinerOptions) -> Identity:
    """The same where the reply to `version` is there already."""
    dialect, reply = codec.dialect_of(data), codec.parse(data)
    if reply is None:
        raise DeviceReplyError(f"{address}: version answered with no JSON: {excerpt(data)}")
    if dialect is not None and dialect is not Dialect.WHATSMINER_V2:
        return codec.decode_version(reply, dialect)
    found = codec.decode_get_version(await _ask(address, options, "get_version"))
    if found is None:
        return Identity(Dialect.OTHER, firmware=excerpt(data))
    return await _ask_v3(address, options, None) if found.dialect is Dialect.WHATSMINER_V3 else found


def identify_by_device_info(address: str, data: bytes) -> Identity:
    """The same from API 3's `get.device.info`, which has everything."""
    found = codec.decode_device_info(codec.parse(data) or {})
    if found is None:
        raise DeviceReplyError(f"{address}: get.device.info answered {excerpt(data)}")
    return found


async def ask_everything(
    address: str, known: Identity, options: MinerOptions, client: httpx.AsyncClient | None
) -> Identity:
    """Model, MAC and serial number in addition; stock has them on its web pages, for which `client` is.

    Raises:
        DeviceUnreachableError, DeviceReplyError, DeviceRefusedError: as far as it got is known already.
    """
    match known.dialect:
        case Dialect.LUXOS:
            return _with_mac(known, await _ask(address, options, "config"))
        case Dialect.WHATSMINER_V2:
            info = await _ask(address, options, "get_miner_info")
            details = await _ask(address, options, "devdetails")  # refused by API 1 while it is off
            return _with_mac(replace(known, model=codec.decode_devdetails_model(details)), info)
        case Dialect.ANTMINER if client is not None:
            password = options.passwords.get(known.dialect, FACTORY_PASSWORDS[Dialect.ANTMINER])
            pages = AntminerPages(client, address, options.web_port, password)
            return _with_mac(known, await _fetch_system_info(address, pages, options))
        case _:
            return known


async def _ask(address: str, options: MinerOptions, command: str) -> Json:
    request = json.dumps({"command": command}).encode()
    reply = codec.parse(data := await exchange(address, options.api_port, request, options.deadline_s))
    if reply is None:
        raise DeviceReplyError(f"{address}: {command} answered with no JSON: {excerpt(data)}")
    return reply


async def _ask_v3(address: str, options: MinerOptions, otherwise: DeviceUnreachableError | None) -> Identity:
    """API 3 on its own port; where nobody answers there either, the first error."""
    try:
        data = await exchange(address, options.v3_port, V3_DEVICE_INFO, options.deadline_s, Framing.LENGTH)
    except DeviceUnreachableError as error:
        raise otherwise or error from None
    return identify_by_device_info(address, data)


async def _fetch_system_info(address: str, pages: AntminerPages, options: MinerOptions) -> Json:
    try:
        async with asyncio.timeout(options.deadline_s):
            return await pages.fetch("get_system_info")
    except TimeoutError:
        raise DeviceUnreachableError(f"{address}: no web page within {options.deadline_s:g} s") from None


def _with_mac(known: Identity, reply: Json) -> Identity:
    mac, serial = codec.decode_mac(reply, known.dialect)
    model = known.model or (str(reply.get("minertype", "")) if known.dialect is Dialect.ANTMINER else "")
    return replace(known, mac=mac, serial=serial, model=model)
