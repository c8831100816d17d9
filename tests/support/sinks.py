"""What alerts are sent to in tests: a small HTTP receiver and a small mail server on loopback; each keeps what it got."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message


@dataclass
class Receiver:
    """One listener and what came in; `status` is what the HTTP one answers."""

    url: str = ""
    status: int = 200
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    mails: list[Message] = field(default_factory=list)


@asynccontextmanager
async def http_receiver() -> AsyncIterator[Receiver]:
    """Takes POSTs."""
    got = Receiver()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head.split("\r\n")[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        got.requests.append((headers, body))
        writer.write(f"HTTP/1.1 {got.status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with _listening(answer) as port:
        got.url = f"http://127.0.0.1:{port}/hook"
        yield got


@asynccontextmanager
async def mail_server() -> AsyncIterator[Receiver]:
    """Takes mails as an SMTP server without authentication does."""
    got = Receiver()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(text: str) -> None:
            writer.write(f"{text}\r\n".encode())
            await writer.drain()

        await say("220 test")
        while line := (await reader.readline()).decode().strip():
            verb = line.split()[0].upper()
            if verb == "DATA":
                await say("354 go on")
                got.mails.append(message_from_bytes((await reader.readuntil(b"\r\n.\r\n"))[:-5]))
            await say("221 bye" if verb == "QUIT" else "250 ok")
            if verb == "QUIT":
                break
        writer.close()

    async with _listening(serve) as port:
        got.url = f"smtp://127.0.0.1:{port}"
        yield got


@asynccontextmanager
async def endless(part: bytes, begin: bytes = b"", pause_s: float = 0.0) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """Says the same for ever to whoever connects: the port, and that somebody has hung up."""
    is_over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(begin)
            while True:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause_s)
        except OSError:
            is_over.set()
        finally:
            writer.close()

    async with _listening(serve) as port:
        yield port, is_over


@asynccontextmanager
async def _listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
