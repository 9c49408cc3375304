"""The outbox, the settings of notices, mail over TLS, and what ends when: without a server of ours."""

from __future__ import annotations

import json
import ssl
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.server.receivers import free_port, mailbox, new_secret, receiving
from tests.server.scene import deployment, now
from tests.twin.deployment import MODEL, Deployment
from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.server.notice_settings import NoticeSettings, Smtp, Webhook
from twinseal.server.notices import Notices
from twinseal.server.outbox import DELAYS_S, Outbox, notices_folder
from twinseal.server.reviews import Desk
from twinseal.server.senders import Channel, SendError, send
from twinseal.server.settings import ServerSettings
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.audit import log as audit_log
from twinseal.trust.release import repository
from twinseal.trust.release.request import Request
from twinseal.trust.root.home import Home

NOTHING_MISSING: dict[str, Any] = {"signatures": 0, "wanting": [], "rejected_by": []}


def notice(number: int, candidate: str = "m-1", event: str = "waits") -> dict[str, Any]:
    return {
        "schema": "https://twinseal.dev/notice/v1", "id": f"msg_{number:032x}", "time": "2026-11-26T09:00:00Z",
        "event": event, "model": MODEL, "release": 1, "candidate": candidate, "actor": "alice", "comment": "",
        "url": "https://review.test/twinseal/review", "missing": NOTHING_MISSING, "expires": None,
    }  # fmt: skip


def hooked(path: Path, *urls: str) -> NoticeSettings:
    new_secret(path / "secret")
    hooks = [{"url": url, "secret_file": str(path / "secret")} for url in urls]
    return parse(NoticeSettings, {"webhooks": hooks}, "notices")


def in_folder(home: Home, name: str = "waiting") -> list[Path]:
    return sorted((notices_folder(home) / name).glob("*.json"))


def test_one_that_is_refused_holds_up_its_own_candidate_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with receiving() as hook:
        outbox = Outbox(home, hooked(tmp_path, hook.url()))
        for number, candidate in ((1, "m-1"), (2, "m-1"), (3, "m-2")):
            outbox.put(notice(number, candidate), number)
        hook.statuses[:] = [500]
        outbox.deliver(now())
        outbox.deliver(now())
        assert [notice(3, "m-2")] == hook.taken()
        outbox.deliver(now() + timedelta(seconds=DELAYS_S[0] + 1))
        assert [3, 1, 2] == [int(item["id"][4:], 16) for item in hook.taken()]
    assert [] == in_folder(home)


def test_one_that_nobody_takes_is_kept_as_failed_and_lets_the_next_pass(tmp_path: Path) -> None:
    home, time = Home(tmp_path / "home"), now()
    with receiving() as hook:
        outbox = Outbox(home, hooked(tmp_path, hook.url()))
        outbox.put(notice(1), 1)
        outbox.put(notice(2), 2)
        hook.statuses[:] = [400] * (len(DELAYS_S) + 1)
        for _ in range(len(DELAYS_S) + 1):
            outbox.deliver(time)
            time += timedelta(days=1, seconds=2)
        assert 1 == len(in_folder(home, "failed"))
        outbox.deliver(time)
        assert [notice(2)] == hook.taken()
        kept = in_folder(home, "failed")[0]
        assert "got 400" in json.loads(kept.read_text())["error"]
        kept.rename(notices_folder(home) / "waiting" / kept.name)  # the way back that the guide names
        outbox.deliver(time)
        assert [notice(2), notice(1)] == hook.taken()
    assert {"sent": 2, "failed": 1} == json.loads((notices_folder(home) / "counts.json").read_text())


def test_receiver_that_is_down_delays_no_other(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with receiving() as hook:
        outbox = Outbox(home, hooked(tmp_path, f"http://127.0.0.1:{free_port()}/", hook.url()))
        for number in range(3):
            outbox.put(notice(number, f"m-{number}"), number)
        outbox.deliver(now())
        assert 3 == len(hook.taken())
    assert 3 == len(in_folder(home))


def test_fault_of_ours_at_one_receiver_delays_no_other(tmp_path: Path) -> None:
    """A sender fails in a way that nobody expects; the notice is tried again, as at any other failure."""
    home = Home(tmp_path / "home")
    with receiving() as hook:
        outbox = Outbox(home, hooked(tmp_path, hook.url("/broken"), hook.url()), send_but_broken)
        for number in (1, 2):
            outbox.put(notice(number, f"m-{number}"), number)
        for _ in range(2):  # the second notice to the receiver is not kept back by the first
            outbox.deliver(now())
        assert [notice(1, "m-1"), notice(2, "m-2")] == hook.taken()
        kept = [json.loads(path.read_text()) for path in in_folder(home)]
        assert [(1, "KeyError: 'missing'")] * 2 == [(value["tries"], value["error"]) for value in kept]


def test_disk_that_is_damaged_at_one_receiver_delays_no_other(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with receiving() as hook:
        outbox = Outbox(home, hooked(tmp_path, hook.url("/broken"), hook.url()), send_but_broken)
        outbox.put(notice(1), 1)
        for path in in_folder(home):  # the last time: what fails now is given up
            path.write_text(json.dumps({"notice": notice(1), "tries": len(DELAYS_S), "after": "", "error": ""}))
        (notices_folder(home) / "failed").write_text("no folder")
        outbox.deliver(now())
        assert [notice(1)] == hook.taken()
        assert 1 == len(in_folder(home))


def send_but_broken(channel: Channel, value: dict[str, Any], settings: NoticeSettings) -> None:
    if isinstance(channel, Webhook) and channel.url.endswith("/broken"):
        raise KeyError("missing")
    send(channel, value, settings)


def test_receiver_that_is_named_no_more_is_given_up(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    Outbox(home, hooked(tmp_path, "https://gone.test/")).put(notice(1), 1)
    Outbox(home, NoticeSettings()).deliver(now())
    assert (0, 1) == (len(in_folder(home)), len(in_folder(home, "failed")))


@pytest.mark.attack("S")
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"notice": {"id": 3}}', b"x" * 100_000, b"[" * 60_000])
def test_what_is_no_notice_stops_no_other(tmp_path: Path, content: bytes) -> None:
    """A file in the outbox is damaged, or none of ours."""
    home = Home(tmp_path / "home")
    with receiving() as hook:
        outbox = Outbox(home, hooked(tmp_path, hook.url()))
        outbox.put(notice(1), 1)
        (notices_folder(home) / "waiting" / in_folder(home)[0].name.replace("msg_0", "msg_1")).write_bytes(content)
        (notices_folder(home) / "waiting" / "a.json").write_bytes(content)
        outbox.deliver(now())
        assert [notice(1)] == hook.taken()


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ({"url": "http://chat.test/hook"}, "expected https, or http to this machine alone, got http://chat.test"),
        ({"url": "http://127.evil.test/"}, "got http://127.evil.test"),
        ({"url": "http://127.0.0.1@evil.test/"}, "expected neither user nor fragment"),
        ({"url": "http://10.0.0.1/"}, "got http://10.0.0.1"),
        ({"url": "file:///etc/passwd"}, "expected an address"),
        ({"url": "ftp://chat.test/"}, "got ftp://chat.test"),
        ({"url": "https://chat.test/\r\nHost: evil"}, "expected an address"),
        ({"url": "https://chat.test/", "events": ["no-such"]}, "events"),
        ({"url": "https://chat.test/", "evnts": []}, "did you mean 'events'"),
    ],
)
def test_webhook_that_the_settings_refuse(hook: dict[str, Any], message: str) -> None:
    """Notices would be sent in the clear to another machine, or to another place than the address seems to name."""
    value = {"notices": {"webhooks": [{"secret_file": "/s", **hook}]}}
    with pytest.raises(ConfigError, match=message):
        parse(ServerSettings, value, "server.yaml")


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"from": "a@b.test\r\nBcc: c@d.test"}, "expected addresses"),
        ({"to": ["a@b.test, c@d.test"]}, "expected addresses"),
        ({"to": []}, "at least 1"),
        ({"username": "u"}, "got one of the two"),
        ({"username": "u", "password_file": "/p", "security": "none"}, "expected security starttls or tls"),
        ({"security": "ssl"}, "security"),
    ],
)
def test_mail_that_the_settings_refuse(change: dict[str, Any], message: str) -> None:
    """An address has a header in it, or a password would be sent in the clear."""
    smtp = {"host": "mail.test", "from": "a@b.test", "to": ["c@d.test"], **change}
    with pytest.raises(ConfigError, match=message):
        parse(ServerSettings, {"notices": {"smtp": smtp}}, "server.yaml")


def test_settings_reach_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smtp = {"host": "mail.test", "from": "a@b.test", "to": ["c@d.test"]}
    hook = {"url": "https://chat.test/", "secret_file": str(tmp_path / "s")}
    found = parse(ServerSettings, {"notices": {"smtp": smtp, "webhooks": [hook]}}, "server.yaml")
    for name, value in found.to_environment().items():
        monkeypatch.setenv(name, value)
    assert found == ServerSettings.from_environment(Home(tmp_path))


@pytest.mark.parametrize("text", ["", "short", "whsec_", "whsec_AAAA", "whsec_!!!!", "A" * 44])
def test_secret_that_is_none(tmp_path: Path, text: str) -> None:
    settings = hooked(tmp_path, "https://chat.test/")
    (tmp_path / "secret").write_text(text)
    with pytest.raises(ConfigError, match="expected whsec_ and 24 to 64 bytes in base64"):
        settings.check_files()


def certificate(path: Path, name: str) -> Path:
    pem = path / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", path / f"{name}.key", "-out", pem],
        check=True, capture_output=True,
    )  # fmt: skip
    return pem


@pytest.mark.attack("S")
def test_mail_goes_to_the_right_server_alone(tmp_path: Path) -> None:
    """A mail server shows another's certificate, or one that nobody has signed; then one takes no such password."""
    good, other = certificate(tmp_path, "localhost"), certificate(tmp_path, "other.test")
    (tmp_path / "password").write_text("right\n")
    smtp = {"host": "localhost", "from": "a@b.test", "to": ["c@d.test"], "username": "u"}
    for pem, authority, word, reason in (
        (good, good, "right", ""),
        (good, None, "right", "SSLCertVerificationError"),
        (other, other, "right", "SSLCertVerificationError"),
        (good, good, "wrong", "SMTPAuthenticationError 535"),
    ):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem, pem.with_suffix(".key"))
        with mailbox(context, word) as box:
            value = {"smtp": {**smtp, "port": box.port, "password_file": str(tmp_path / "password")}}
            settings = parse(NoticeSettings, value | {"ca_file": str(authority or "")}, "notices")
            assert isinstance(settings.smtp, Smtp)
            if not reason:
                send(settings.smtp, notice(1), settings)
                assert "[twinseal] pump-rul release 1: waits for review" in box.mails[0]["subject"]
            else:
                with pytest.raises(SendError, match=reason):
                    send(settings.smtp, notice(1), settings)
                assert [] == box.mails


@pytest.fixture
def made(tmp_path: Path) -> Deployment:
    return deployment(tmp_path)


def telling(made: Deployment, path: Path) -> Notices:
    outbox = Outbox(made.home, hooked(path, "https://chat.test/"))
    notices = Notices(Desk(made.home, ""), outbox, "https://review.test")
    notices.begin()
    return notices


def said(home: Home) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text())["notice"] for path in in_folder(home)]
    for path in in_folder(home):
        path.unlink()
    return found


def ends_said(notices: Notices, made: Deployment, time: datetime) -> list[tuple[str, int]]:
    notices.one_round(time)
    ends = [item["expires"] for item in said(made.home)]
    return sorted((item["what"], item["within_days"]) for item in ends if item["what"] in ("root", "registrar"))


def test_end_is_said_at_each_threshold_once(made: Deployment, tmp_path: Path) -> None:
    notices, end = telling(made, tmp_path), made.anchor.expires
    days = {"before": 30.5, "month": 29, "again": 28, "week": 6.5, "day": 0.9, "same day": 0.1, "over": -0.1, "old": -9}
    found = {name: ends_said(notices, made, end - timedelta(days=left)) for name, left in days.items()}
    assert {
        "before": [],
        "month": [("root", 30)],
        "again": [],
        "week": [("root", 7)],
        "day": [("registrar", 1), ("root", 1)],
        "same day": [],
        "over": [("registrar", 0), ("root", 0)],
        "old": [],
    } == {name: [item for item in value if name != "week" or item[0] == "root"] for name, value in found.items()}


def test_server_that_was_away_says_the_nearest_threshold_alone(made: Deployment, tmp_path: Path) -> None:
    notices = telling(made, tmp_path)
    assert ("root", 1) in ends_said(notices, made, made.anchor.expires - timedelta(hours=3))


def test_what_was_before_is_not_said_and_what_is_not_published_yet_is_not_said_yet(
    made: Deployment, tmp_path: Path
) -> None:
    """The log has a publication before it has happened; an interrupted one is logged again, and said once."""
    notices, audit = telling(made, tmp_path), log_of(made.home.path)
    notices.collect()
    assert [] == said(made.home)
    release = made.release(made.bundle(1), 1, now=now())
    ahead = replace(release, version=2, parent_version=1)
    for time in (now(), now() + timedelta(seconds=5)):
        audit.append(Entry.for_release(ahead, "registered", "registrar", time))
        notices.collect()
        assert [] == said(made.home)
    audit.append(Entry.for_release(release, "registered", "registrar", now()))
    notices.collect()
    notices.collect()
    assert [("published", 1, release.mlflow_model_id)] == [
        (item["event"], item["release"], item["candidate"]) for item in said(made.home)
    ]
    audit.append(Entry.for_release(release, "registered", "registrar", now() + timedelta(seconds=9)))
    notices.collect()
    again = said(made.home)
    assert 1 == len(again)


def test_decision_of_another_machine_is_said(made: Deployment, tmp_path: Path) -> None:
    notices, audit = telling(made, tmp_path), log_of(made.home.path)
    release = made.release(made.bundle(1), 1, now=now())
    details = {"holder": "chiara", "decision": "reject", "comment": "from the plant"}
    audit.append(Entry.for_release(release, "received", "registrar", now(), **details))
    notices.collect()
    assert [("rejected", "chiara", "from the plant")] == [
        (item["event"], item["actor"], item["comment"]) for item in said(made.home)
    ]


def test_log_is_read_once_in_a_round(made: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many entries about many reviews that wait, as after a night without a server."""
    notices, audit = telling(made, tmp_path), log_of(made.home.path)
    release = made.release(made.bundle(1), 1, now=now())
    for version in range(2, 6):
        ahead = replace(release, version=version, parent_version=version - 1, mlflow_model_id=f"m-{version:032x}")
        role = repository.stage(made.home, ahead, expires=now() + timedelta(days=20))
        Request(ahead, role).write(made.home.path / "reviews" / ahead.mlflow_model_id)
        for _ in range(3):
            audit.append(Entry.for_release(ahead, "commented", "alice", now()))
    readings, leaves = list[Any](), audit_log._leaves

    def counted(*about: Any) -> Any:
        readings.append(about)
        return leaves(*about)

    monkeypatch.setattr(audit_log, "_leaves", counted)
    notices.collect()
    assert 12 == len(said(made.home))
    assert 2 == len(readings)  # what is new; and all of it, for what is missing


def test_full_disk_stops_no_decision_and_is_made_good(made: Deployment, tmp_path: Path) -> None:
    """Nothing can be written where notices are: `collect` says nothing, and the next one says it all."""
    notices, audit = telling(made, tmp_path), log_of(made.home.path)
    release = made.release(made.bundle(1), 1, now=now())
    waiting = notices_folder(made.home) / "waiting"
    waiting.write_text("no folder")
    audit.append(Entry.for_release(release, "approved", "alice", now()))
    notices.collect()
    waiting.unlink()
    notices.collect()
    assert ["approved"] == [item["event"] for item in said(made.home)]
