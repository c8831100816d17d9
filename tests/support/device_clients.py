"""Bare clients of simulated devices: LuxOS, both WhatsMiner APIs, stock Antminer's pages, GPU agents, Modbus.

Keys are made with passlib, envelopes with cryptography, both apart from the simulator's own.
"""

import asyncio
import base64
import hashlib
import json
import struct
import warnings

import httpx
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.support.gpus import TOKEN, plain_http
from tests.support.miners import talk

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="'crypt' is deprecated", category=DeprecationWarning)
    from passlib.hash import md5_crypt


def _crypt(text, salt):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        return md5_crypt.using(salt=salt).hash(text).split("$")[3]


async def ask(place, command, **more):
    """One command on port 4028, and its reply."""
    return json.loads((await talk(*place, json.dumps({"command": command} | more).encode())).rstrip(b"\0"))


async def luxos(place, command, *items):
    """One command within a session of its own."""
    session = (await ask(place, "logon"))["SESSION"][0]["SessionID"]
    reply = await ask(place, command, parameter=",".join([session, *items]))
    await ask(place, "logoff", parameter=session)
    return reply["STATUS"][0]["STATUS"]


async def whatsminer(place, command, **more):
    """One write with a token of its own; the code of the reply."""
    said = (await ask(place, "get_token"))["Msg"]
    key = _crypt("admin", said["salt"])
    text = json.dumps({"cmd": command, "token": _crypt(key + said["time"], said["newsalt"])} | more).encode()
    cipher = Cipher(algorithms.AES(hashlib.sha256(key.encode()).digest()), modes.ECB())
    sealed = cipher.encryptor().update(text + b"\0" * (-len(text) % 16))
    envelope = {"enc": 1, "data": base64.b64encode(sealed).decode()}
    reply = json.loads(await talk(*place, json.dumps(envelope).encode()))
    if "enc" in reply:
        reply = json.loads(cipher.decryptor().update(base64.b64decode(reply["enc"])).rstrip(b"\0"))
    return reply["Code"]


async def antminer(place, page, body=None):
    """One page of a stock Antminer, read or written."""
    async with plain_http() as http:
        url, auth = f"http://{place[0]}:{place[1]}/cgi-bin/{page}.cgi", httpx.DigestAuth("root", "root")
        reply = await (http.get(url, auth=auth) if body is None else http.post(url, auth=auth, json=body))
    return reply.json()


async def gpu_agent(place, path, body=None):
    """One request to a node's agent: the status and the document."""
    async with plain_http() as http:
        url, headers = f"http://{place[0]}:{place[1]}/v1/{path}", {"authorization": f"Bearer {TOKEN}"}
        reply = await (http.get(url) if body is None else http.post(url, headers=headers, json=body))
    return reply.status_code, reply.json()


async def whatsminer_v3(place, command, param=None):
    """One write to API 3; the code of the reply."""
    salt = (await _framed(place, {"cmd": "get.device.info", "param": "salt"}))["msg"]["salt"]
    digest = hashlib.sha256(f"{command}super{salt}7".encode()).digest()
    token = {"ts": 7, "account": "super", "token": base64.b64encode(digest).decode()[:8]}
    return (await _framed(place, {"cmd": command, "param": param} | token))["code"]


async def _framed(place, request):
    text = json.dumps(request).encode()
    reply = await talk(*place, len(text).to_bytes(4, "little") + text, close=True)
    return json.loads(reply[4:])


async def modbus(place, pdu, unit=1):
    """One request and its reply, without their headers."""
    reader, writer = await asyncio.open_connection(*place)
    writer.write(struct.pack(">HHHB", 1, 0, len(pdu) + 1, unit) + pdu)
    length = int.from_bytes((await reader.readexactly(6))[4:], "big")
    reply = (await reader.readexactly(length))[1:]
    writer.close()
    await writer.wait_closed()
    return reply
