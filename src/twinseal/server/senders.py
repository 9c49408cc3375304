"""Senders: one notice to one receiver, once. What goes wrong is a SendError; whether to try again, others decide.

A webhook is a POST of JSON by the Standard Webhooks specification (`twinseal.webhooks`).
No redirect is followed, no proxy used, no answer's body read; after five seconds it has failed. Mail is plain text; the
server's certificate is verified.
"""

from __future__ import annotations

import asyncio
import json
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any, TypeAlias

import httpx
import structlog

from twinseal.escaping import visible
from twinseal.server.notice_settings import NoticeSettings, Smtp, Webhook
from twinseal.webhooks import place_of, signature

log = structlog.get_logger(__name__)

LIMIT_S = 5.0
MAIL_LIMIT_S = 20.0  # all of a mail's conversation
MAX_SUBJECT = 150

Channel: TypeAlias = Webhook | Smtp


class SendError(Exception):
    """A receiver did not take a notice."""


def send(channel: Channel, notice: dict[str, Any], settings: NoticeSettings) -> None:
    """Send a notice.

    Raises:
        SendError: It was not taken.
        ConfigError: Its secret or certificates cannot be read.
    """
    if isinstance(channel, Webhook):
        asyncio.run(_post(channel, notice, settings.tls()))
    else:
        _mail(channel, notice, settings.tls())


async def _post(hook: Webhook, notice: dict[str, Any], tls: ssl.SSLContext) -> None:
    body = json.dumps(notice, sort_keys=True).encode()  # ASCII: every other letter is escaped
    moment = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "twinseal",
        "webhook-id": notice["id"],
        "webhook-timestamp": moment,
        "webhook-signature": signature(hook.secret(), notice["id"], moment, body),
    }
    try:
        async with (
            asyncio.timeout(LIMIT_S),  # of all of it: httpx would count each part anew
            httpx.AsyncClient(verify=tls, trust_env=False, follow_redirects=False, timeout=LIMIT_S) as client,
            client.stream("POST", hook.url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        raise SendError(f"{place_of(hook.url)}: expected an answer, got {type(error).__name__}") from error
    if not 200 <= status < 300:
        note = "; redirects are not followed" if 300 <= status < 400 else ""
        raise SendError(f"{place_of(hook.url)}: expected 2xx, got {status}{note}")


def _mail(smtp: Smtp, notice: dict[str, Any], tls: ssl.SSLContext) -> None:
    message = mail_of(smtp, notice)
    own = smtp.sender.rpartition("@")[2]  # else smtplib would ask the network for this machine's name
    client: smtplib.SMTP
    if smtp.security == "tls":
        client = smtplib.SMTP_SSL(local_hostname=own, timeout=LIMIT_S, context=tls)
    else:
        client = smtplib.SMTP(local_hostname=own, timeout=LIMIT_S)
    client._host = smtp.host  # type: ignore[attr-defined]  # smtplib checks a certificate for this name
    end = threading.Timer(MAIL_LIMIT_S, _cut_off, (client,))
    end.start()
    try:
        client.connect(smtp.host, smtp.usual_port)
        if smtp.security == "starttls":
            client.starttls(context=tls)
        if smtp.username:
            client.login(smtp.username, smtp.password())
        refused = client.send_message(message)
        if refused:
            log.warning("notice.mail_partly_refused", refused=len(refused), id=notice["id"])
        with suppress(smtplib.SMTPException, OSError):
            client.quit()
    except (smtplib.SMTPException, OSError, ValueError) as error:
        code = f" {error.smtp_code}" if isinstance(error, smtplib.SMTPResponseException) else ""
        raise SendError(f"{smtp.host}: expected the mail to be taken, got {type(error).__name__}{code}") from error
    finally:
        end.cancel()
        client.close()


def _cut_off(client: smtplib.SMTP) -> None:
    """End a conversation that a server draws out."""
    with suppress(OSError, AttributeError):
        client.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]


def mail_of(smtp: Smtp, notice: dict[str, Any]) -> EmailMessage:
    """The mail that says a notice: plain text, one line as its subject."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = _line(f"[twinseal] {_said(notice)}", MAX_SUBJECT)
    message["From"], message["To"] = smtp.sender, ", ".join(smtp.to)
    message["Date"] = format_datetime(datetime.fromisoformat(notice["time"]))
    message["Message-ID"] = f"<{notice['id']}@{smtp.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n".join(_lines(notice)) + "\n", charset="utf-8", cte="base64")
    return message


def _lines(notice: dict[str, Any]) -> list[str]:
    lines, missing, ends = [_line(_said(notice), 500) + ".", ""], notice["missing"], notice["expires"]
    if notice["comment"]:
        words = visible(notice["comment"].replace("\r\n", "\n").replace("\r", "\n"))
        lines += [f"> {line}" for line in words.split("\n")] + [""]
    if missing["signatures"]:
        lines.append(f"Signatures that are missing: {missing['signatures']}")
    lines += [_line(want, 500) for want in missing["wanting"]]
    lines += [f"Rejected by {_line(', '.join(missing['rejected_by']), 500)}"] if missing["rejected_by"] else []
    lines += [f"Ends {ends['time']}", _line(ends["remedy"], 500)] if ends else []
    return [*lines, notice["url"], "", f"{notice['time']}  {notice['id']}"]


def _said(notice: dict[str, Any]) -> str:
    ends, by = notice["expires"], f" by {notice['actor']}" if notice["actor"] else ""
    if ends is not None:
        days = ends["within_days"]
        left = f"ends within {days} {'day' if days == 1 else 'days'}" if days else "has ended"
        return f"{ends['what']}: what is signed {left}"
    words: dict[str, Callable[[], str]] = {
        "waits": lambda: "waits for review" + (f", submitted{by}" if by else ""),
        "published": lambda: "published",
        "commented": lambda: f"commented on{by}",
    }
    what = words.get(notice["event"], lambda: f"{notice['event']}{by}")()
    return f"{notice['model']} release {notice['release']}: {what}"


def _line(text: str, most: int) -> str:
    """One line, whatever the text has in it."""
    found = " ".join(visible(text).split())
    return found if len(found) <= most else found[: most - 1] + "…"
