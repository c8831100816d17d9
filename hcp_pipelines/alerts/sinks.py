"""Where alerts go: a webhook, e-mail. One class each; what is due and what becomes of a failure is in `store.py`.

A webhook's URL often is a secret itself, and so is the mail server's: neither is logged.
"""

import asyncio
import hashlib
import hmac
import json
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime, localtime, make_msgid
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import httpx

from hcp_pipelines.alerts.mail import connect
from hcp_pipelines.alerts.store import Notice
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings

SEND_WITHIN_S = 10.0
MAIL_WITHIN_S = 20.0  # mail servers greet slowly on purpose
SMTP_PORTS = {"smtp": 587, "smtps": 465}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SinkError(Exception):
    """The sink did not take it; the text is fit for a log."""


class Sink(Protocol):
    """Something that can be told."""

    name: str

    async def send(self, notice: Notice) -> None:
        """Tell it.

        Raises:
            SinkError: it did not take it.
        """


class WebhookSink:
    """POST of a JSON document, signed with HMAC-SHA256 where a secret is set; redirects are not followed."""

    name = "webhook"

    def __init__(self, url: str, secret: bytes, platform: str) -> None:
        check_url("HCP_ALERT_WEBHOOK_URL", url)
        self._url, self._secret, self._platform = url, secret, platform

    async def send(self, notice: Notice) -> None:
        """POST it; any 2xx is a yes. The idempotency key is the delivery's, so that a repetition can be told."""
        body = json.dumps(document(notice, self._platform)).encode()
        headers = {"content-type": "application/json", "idempotency-key": f"hcp-{notice.delivery_id}"}
        if self._secret:
            headers["x-hcp-signature"] = "sha256=" + hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        await post(self._url, body, headers)


class EmailSink:
    """One message an event over SMTP; STARTTLS where the server is not on this machine."""

    name = "email"

    def __init__(self, server: str, sender: str, recipients: list[str], platform: str) -> None:
        self._server = _smtp_parts(server)
        self._sender, self._recipients, self._platform = sender, recipients, platform

    async def send(self, notice: Notice) -> None:
        """Hand it to the mail server."""
        try:
            async with asyncio.timeout(MAIL_WITHIN_S):
                await asyncio.to_thread(self._send, self._message(notice))
        except (OSError, smtplib.SMTPException, ssl.SSLError, TimeoutError) as error:
            raise SinkError(f"the mail server did not take it: {type(error).__name__}: {error}") from error

    def _message(self, notice: Notice) -> EmailMessage:
        message = EmailMessage()
        word = {"opened": notice.severity, "repeated": f"{notice.severity}, still", "resolved": "resolved"}
        message["Subject"] = _one_line(f"[{self._platform} {word[notice.event]}] {notice.summary}")
        message["From"], message["To"] = self._sender, ", ".join(self._recipients)
        message["Date"], message["Message-ID"] = format_datetime(localtime()), make_msgid(domain="hcp.invalid")
        message["References"] = f"<alert-{notice.alert_id}@hcp.invalid>"
        lines = [f"{key}: {value}" for key, value in document(notice, self._platform).items() if value]
        message.set_content("\n".join(lines) + f"\n\nhcp alerts ack {notice.alert_id} --reason …\n")
        return message

    def _send(self, message: EmailMessage) -> None:
        parts, host = self._server, self._server.hostname or ""
        port = parts.port or SMTP_PORTS[parts.scheme]
        context = ssl.create_default_context()
        with connect(parts.scheme, host, port, MAIL_WITHIN_S, context) as client:
            if parts.scheme == "smtp" and host not in _LOOPBACK:
                client.starttls(context=context)
            if parts.username:
                client.login(unquote(parts.username), unquote(parts.password or ""))
            client.send_message(message)


def make_sinks(settings: Settings) -> list[Sink]:
    """The sinks that the settings name.

    Raises:
        ConfigError: one is named by halves.
    """
    sinks: list[Sink] = []
    platform = settings.alert_platform
    if settings.alert_webhook_url is not None:
        secret = _read_secret(settings)
        sinks.append(WebhookSink(settings.alert_webhook_url.get_secret_value(), secret, platform))
    recipients = [address.strip() for address in settings.alert_email_to.split(",") if address.strip()]
    if recipients:
        if settings.smtp_url is None or not settings.alert_email_from:
            raise ConfigError("HCP_ALERT_EMAIL_TO needs HCP_SMTP_URL and HCP_ALERT_EMAIL_FROM as well")
        sinks.append(EmailSink(settings.smtp_url.get_secret_value(), settings.alert_email_from, recipients, platform))
    return sinks


def document(notice: Notice, platform: str) -> dict[str, object]:
    """A notice as JSON has it; the keys are part of the interface (docs/alerts.md)."""
    return {
        "version": 1,
        "platform": platform,
        "event": notice.event,
        "alert_id": notice.alert_id,
        "key": notice.key,
        "severity": notice.severity,
        "subject": notice.subject,
        "summary": notice.summary,
        "remedy": notice.remedy,
        "opened_at": notice.opened_at.isoformat(),
        "resolved_at": notice.resolved_at.isoformat() if notice.resolved_at else None,
        "acknowledged_by": notice.acked_by,
    }


async def post(url: str, body: bytes, headers: dict[str, str]) -> None:
    """POST to an outside service.

    Raises:
        SinkError: no 2xx within the time; the text does not hold the URL.
    """
    try:
        async with (
            asyncio.timeout(SEND_WITHIN_S),
            httpx.AsyncClient(timeout=SEND_WITHIN_S, trust_env=False) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            is_taken, status = answer.is_success, answer.status_code  # its body is not read, however long
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise SinkError(f"no answer: {type(error).__name__}") from error
    if not is_taken:
        raise SinkError(f"status {status}")


def check_url(name: str, url: str) -> None:
    """Whether alerts may go there: over TLS, or to this machine.

    Raises:
        ConfigError: neither.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ConfigError(f"{name} must be an https URL (http to this machine only)")


def _smtp_parts(server: str) -> SplitResult:
    parts = urlsplit(server)
    if parts.scheme not in SMTP_PORTS or not parts.hostname:
        raise ConfigError("HCP_SMTP_URL must read like smtp://LOGIN:PASSWORD@HOST:587 (STARTTLS) or smtps://…:465")
    return parts


def _read_secret(settings: Settings) -> bytes:
    path = settings.alert_webhook_secret_file
    if path is None:
        return b""
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"HCP_ALERT_WEBHOOK_SECRET_FILE {path}: {error.strerror}") from error


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
