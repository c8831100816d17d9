"""Mail over TLS, from the beginning and by STARTTLS, with a login, to a server of this test: bounded, and otherwise as before."""

import asyncio
import ssl
from email.message import EmailMessage

import pytest

from hcp_pipelines.alerts.mail import connect
from hcp_pipelines.wire.certificates import issue, make_authority

REPLIES = {
    "EHLO": "250-test\r\n250-STARTTLS\r\n250 AUTH PLAIN",
    "STARTTLS": "220 go on",
    "AUTH": "235 ok",
    "QUIT": "221 bye",
}


class MailServer:
    """Takes one mail; `said` are the verbs that it heard."""

    def __init__(self, tls):
        self.tls, self.said, self.mail = tls, [], b""

    async def serve(self, reader, writer):
        writer.write(b"220-good morning\r\n220 test\r\n")
        while line := (await reader.readline()).decode().strip():
            self.said.append(line.split()[0].upper())
            if self.said[-1] == "DATA":
                writer.write(b"354 go on\r\n")
                self.mail = await reader.readuntil(b"\r\n.\r\n")
            writer.write(f"{REPLIES.get(self.said[-1], '250 ok')}\r\n".encode())
            await writer.drain()
            if self.said[-1] == "STARTTLS":
                await writer.start_tls(self.tls)
            if self.said[-1] == "QUIT":
                break
        writer.close()


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_a_large_mail_goes_through_after_a_login(tmp_path, scheme):
    make_authority(tmp_path)
    issue(tmp_path, "gateway", hosts=["127.0.0.1"])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "gateway.crt", tmp_path / "gateway.key")
    trusting, message = ssl.create_default_context(cafile=tmp_path / "ca.crt"), EmailMessage()
    message["From"], message["To"] = "hcp@example.org", "ops@example.org"
    message.set_content("x" * 200_000)
    taken = MailServer(tls)
    server = await asyncio.start_server(
        taken.serve, "127.0.0.1", 0, ssl=tls if scheme == "smtps" else None, limit=1_000_000
    )

    def send():
        with connect(scheme, "127.0.0.1", server.sockets[0].getsockname()[1], 30.0, trusting) as client:
            if scheme == "smtp":
                client.starttls(context=trusting)
            client.login("hcp", "secret")
            client.send_message(message)

    async with server:
        await asyncio.to_thread(send)
    assert len(taken.mail) > 200_000
    assert ("STARTTLS" in taken.said, taken.said[-1]) == (scheme == "smtp", "QUIT")
