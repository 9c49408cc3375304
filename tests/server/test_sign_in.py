"""Sign-in of browsers at a real identity provider: the way in, and everything that must not be one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.server.oidc_scene import PEOPLE, SESSION, Browser, OidcScene, Provider, nonce_of, oidc_scene, state_of
from tests.server.scene import API, PASSWORD
from twinseal.server.people import Person
from twinseal.server.sessions import Cookie, Marks, Sessions
from twinseal.server.settings import ServerSettings
from twinseal.server.ways import local_path

ME = f"{API}users/current"
TAG = {"experiment_id": "0", "key": "k", "value": "v"}


def sessions(oidc: OidcScene, **changes: Any) -> Sessions:
    """As the server's own workers make sessions; or as another server does."""
    home = oidc.made.home
    secret = json.loads((home.path / "mlflow/secrets.json").read_text())["sessions"]
    settings = ServerSettings.read(home, None).oidc
    assert settings is not None
    given = {"secret": secret, "settings": settings, "origin": oidc.server.url, "folder": home.path / "mlflow/ended"}
    return Sessions(**{**given, **changes})


def erik(oidc: OidcScene) -> Person:
    return Person("erik", frozenset({"engineer", "registrar"}), "session", True, f"{oidc.provider.issuer} id-erik")


@pytest.mark.parametrize(
    ("name", "roles", "admin"),
    [("rita", "(reader)", False), ("erik", "(engineer, reader)", False), ("petra", "(registrar)", True)],
)
def test_groups_give_roles_and_mlflow_sees_who_it_is(oidc: OidcScene, name: str, roles: str, admin: bool) -> None:
    browser = Browser()
    page = browser.sign_in(oidc.server, name)
    assert (200, True) == (page.status, f'<bdi>{name}</bdi> <span class="muted">{roles}</span>' in page.body.decode())
    user = oidc.cookie(browser.session(oidc.server)).json()["user"]
    assert (name, admin) == (user["username"], user["is_admin"])
    change = oidc.cookie(
        browser.session(oidc.server), f"{API}experiments/set-experiment-tag", "POST", body=TAG,
        headers={"Origin": oidc.server.url},
    )  # fmt: skip
    assert (200 if name == "erik" else 403) == change.status, change
    assert oidc.has_logged(name, "session")


def test_page_leads_to_sign_in_and_back_and_a_program_gets_401(oidc: OidcScene) -> None:
    browser = Browser()
    answer, to = browser.ask("GET", f"{oidc.server.url}/?workflowType=machine_learning")
    assert (303, "/twinseal/login?next=%2F%3FworkflowType%3Dmachine_learning") == (
        answer.status, to.removeprefix(oidc.server.url)
    )  # fmt: skip
    back = browser.sign_in(oidc.server, "rita", "/?workflowType=machine_learning")
    assert (200, f"{oidc.server.url}/?workflowType=machine_learning") == (back.status, browser.visited[-1])
    for path, headers in (
        (ME, {}),
        ("/", {"Accept": "*/*"}),
        ("/", {"Accept": "text/html", "Sec-Fetch-Mode": "cors"}),
        ("/", {"Accept": "text/html", "Sec-Fetch-Dest": "iframe"}),
    ):
        api = oidc.server.ask("GET", path, who=None, headers=headers)
        assert (401, 'Bearer realm="twinseal"') == (api.status, api.headers["www-authenticate"])
    asks = oidc.server.ask("GET", "/?with=password", who=None, headers={"Accept": "text/html"})
    assert (401, True) == (asks.status, asks.headers["www-authenticate"].startswith("Basic "))
    assert 200 == oidc.server.ask("GET", "/?with=password", who="reader").status


def test_browser_at_another_name_of_this_machine_is_sent_to_the_one_that_cookies_are_for(oidc: OidcScene) -> None:
    near = oidc.server.url.replace("localhost", "127.0.0.1")
    _, to = Browser().ask("GET", f"{near}/twinseal/login?next=/twinseal/review")
    assert f"{oidc.server.url}/twinseal/login?next=%2Ftwinseal%2Freview" == to


def test_accounts_with_a_password_work_beside_it(oidc: OidcScene) -> None:
    assert "engineer" == oidc.server.ask("GET", ME).json()["user"]["username"]
    assert 200 == oidc.server.post("experiments/set-experiment-tag", TAG).status
    assert oidc.has_logged("engineer", "password")
    assert 401 == oidc.server.ask("GET", ME, password="wrong").status


def refused(oidc: OidcScene, browser: Browser, address: str, message: str, status: int = 403) -> None:
    answer, to = browser.ask("GET", address)
    assert (status, "", True) == (answer.status, to, message in answer.body.decode()), answer.body.decode()[-900:]
    assert "" == browser.session(oidc.server)


@pytest.mark.attack("S")
def test_person_without_a_group_is_refused(oidc: OidcScene) -> None:
    """Somebody whom the provider knows, but who is in no group that has a role, signs in."""
    browser = Browser()
    refused(oidc, browser, browser.begin(oidc.server, "nobody"), "expected membership in a group that has a role")
    named = oidc.server.ask("GET", f"{API}users/get?username=nobody", who="engineer")
    assert 200 != named.status


@pytest.mark.attack("S")
def test_answer_to_a_sign_in_that_this_browser_did_not_begin(oidc: OidcScene) -> None:
    """The victim's browser is led to a callback with the attacker's code; the state is left out, changed, another's."""
    attacker, victim = Browser(), Browser()
    stolen, own = attacker.begin(oidc.server, "petra"), victim.begin(oidc.server, "rita")
    message = "expected the answer to one that this browser began here"
    refused(oidc, victim, stolen, message, 400)
    refused(oidc, victim, own.replace(state_of(own), state_of(stolen)), message, 400)
    refused(oidc, victim, own.replace(state_of(own), "A" * 43), message, 400)
    refused(oidc, victim, own.split("&state=")[0], message, 400)
    code = parse_qs(urlsplit(stolen).query)["code"][0]
    swapped = own.replace(parse_qs(urlsplit(own).query)["code"][0], code)  # PKCE: the verifier is the victim's
    refused(oidc, victim, swapped, "expected a code that the provider takes")
    assert "S256" == parse_qs(urlsplit(attacker.visited[1]).query)["code_challenge_method"][0]


@pytest.mark.attack("S")
def test_answer_is_used_twice(oidc: OidcScene) -> None:
    """A callback's address and the browser's cookies of then are sent again; its code in another sign-in too."""
    browser = Browser()
    address = browser.begin(oidc.server, "petra")
    kept = dict(browser.cookies[urlsplit(oidc.server.url).netloc])
    assert 303 == browser.ask("GET", address)[0].status
    thief = Browser({urlsplit(oidc.server.url).netloc: kept})
    refused(oidc, thief, address, "expected the answer to one that this browser began here", 400)
    other = Browser()
    own = other.begin(oidc.server, "rita")
    code, used = (parse_qs(urlsplit(url).query)["code"][0] for url in (own, address))
    refused(oidc, other, own.replace(code, used), "expected a code that the provider takes")


@pytest.mark.attack("S")
def test_answer_of_another_issuer_or_an_error(oidc: OidcScene) -> None:
    """The answer names another issuer, or none; or is an error whose words are markup."""
    for wrong in ("&iss=https%3A%2F%2Fevil.test", "", "&iss="):
        browser = Browser()
        address = browser.begin(oidc.server, "petra")
        refused(oidc, browser, address.split("&iss=")[0] + wrong, "expected an answer of", 400)
    browser = Browser()
    answer, to = browser.ask("GET", browser.begin(oidc.server, "cancel"))
    assert (403, "", True) == (answer.status, to, b"&lt;b&gt;no&lt;/b&gt;" in answer.body)
    assert b"<b>no" not in answer.body


def hs256(claims: dict[str, Any], key: RSAKey) -> str:
    """A token "signed" with the provider's public key as if that were a shared secret."""
    head = {"alg": "HS256", "typ": "JWT", "kid": key.kid}
    text = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (head, claims)
    )
    mac = hmac.new(key.as_pem(private=False), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def unsigned(claims: dict[str, Any], alg: str = "none") -> str:
    parts = ({"alg": alg, "typ": "JWT"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nonce": "another"}, "expected the nonce of this sign-in"),
        ({"nonce": None}, "expected the nonce of this sign-in"),
        ({"aud": "another"}, "expected the audience twinseal"),
        ({"aud": ["twinseal", "another"]}, "expected the audience twinseal"),
        ({"azp": "another"}, "expected one issued to twinseal"),
        ({"exp": 1_000_000_000}, "expired"),
        ({"exp": None}, "exp"),
        ({"iat": 4_000_000_000}, "issued in the future"),
        ({"iss": "https://evil.test"}, "iss"),
        ({"sub": None}, "sub"),
        ({"preferred_username": None}, "preferred_username: expected 1 to 128"),
        ({"preferred_username": "pétra"}, "preferred_username: expected 1 to 128"),
        ({"preferred_username": "petra\n"}, "preferred_username: expected 1 to 128"),
        ({"alg": "none"}, "not allowed"),
        ({"alg": "NoNe"}, "not supported"),
        ({"alg": "HS256"}, "not allowed"),
        ({"alg": "another key"}, "got: bad_signature"),
        ({"alg": "unknown key"}, "No key for kid"),
        ({"alg": "at+jwt"}, "expected the type JWT"),
    ],
)
def test_id_token_that_is_not_of_this_sign_in(oidc: OidcScene, changes: dict[str, Any], message: str) -> None:
    """The token endpoint gives an ID token that is forged, old, or was issued for another client or sign-in."""
    browser = Browser()
    address = browser.begin(oidc.server, "rita")
    wrong = dict(changes)
    alg, key = wrong.pop("alg", "RS256"), oidc.provider.key()
    claims = oidc.provider.claims("petra", **{"aud": "twinseal", "nonce": nonce_of(browser), **wrong})
    if alg == "HS256":
        token = hs256(claims, key)
    elif alg.lower() == "none":
        token = unsigned(claims, alg)
    else:
        used = key if alg in ("RS256", "at+jwt") else RSAKey.generate_key(2048)
        head = {"alg": "RS256", "kid": "x" if alg == "unknown key" else key.kid}
        kind = "at+jwt" if alg == "at+jwt" else "JWT"
        token = jwt.encode(head, claims, used, algorithms=["RS256"], default_type=kind)
    oidc.provider.control(id_token=token)
    refused(oidc, browser, address, message)


def test_id_token_that_is_made_likewise_but_right(oidc: OidcScene) -> None:
    """The forgeries above are refused for what is wrong with them."""
    browser = Browser()
    address = browser.begin(oidc.server, "rita")
    claims = oidc.provider.claims("petra", aud="twinseal", nonce=nonce_of(browser))
    oidc.provider.control(
        id_token=jwt.encode({"alg": "RS256", "kid": oidc.provider.key().kid}, claims, oidc.provider.key())
    )
    assert 303 == browser.ask("GET", address)[0].status
    assert "petra" == oidc.cookie(browser.session(oidc.server)).json()["user"]["username"]


@pytest.mark.attack("S")
def test_cookie_that_this_server_did_not_make(oidc: OidcScene, tmp_path: Path) -> None:
    """A session's cookie is changed, of another server, of another purpose or settings, without encryption, or old."""
    own, now = sessions(oidc), time.time()
    good = own.begin(erik(oidc), now)
    assert 200 == oidc.cookie(good).status
    value = {"id": "x", "name": "erik", "subject": erik(oidc).subject, "roles": ["registrar"], "has_mfa": True}
    secret = json.loads((oidc.made.home.path / "mlflow/secrets.json").read_text())["sessions"]
    settings = ServerSettings.read(oidc.made.home, None).oidc
    assert settings is not None
    fewer = settings.model_copy(update={"require_mfa": True})
    wrong = [
        sessions(oidc, secret="another").begin(erik(oidc), now),
        sessions(oidc, origin="http://localhost:1").begin(erik(oidc), now),
        sessions(oidc, settings=fewer).begin(erik(oidc), now),
        Cookie.of(secret, "login", oidc.server.url, settings).seal(value, now + 99),
        own.begin(erik(oidc), now - 8 * 3600 - 1),
        unsigned({**value, "expires": now + 99}),
        "x" * 5000,
        "",
        "é",
    ]
    parts = good.split(".")
    for at in (0, 2, 3, 4):
        flipped = ("B" if parts[at][3] == "A" else "A").join((parts[at][:3], parts[at][4:]))
        wrong.append(".".join((*parts[:at], flipped, *parts[at + 1 :])))
    for cookie in wrong:
        assert 401 == oidc.cookie(cookie).status, cookie
    assert 200 == oidc.cookie(good).status


@pytest.mark.attack("S")
def test_answers_are_remembered_at_a_bounded_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger begins sign-ins without end, so that each further one looks at all marks of those before."""
    looked, listed = 0, Path.iterdir

    def counted(path: Path) -> Any:
        nonlocal looked
        looked += 1
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", counted)
    marks = Marks(tmp_path / "marks", 600)
    assert [True] * 50 == [marks.set(f"state {number}") for number in range(50)]
    assert (1, False, True) == (looked, marks.set("state 7"), marks.has("state 7"))
    old = next(listed(tmp_path / "marks"))
    os.utime(old, (1, 1))
    assert Marks(tmp_path / "marks", 600).set("another")
    assert not old.exists()


@pytest.mark.attack("S")
def test_sign_in_as_a_way_to_another_site(oidc: OidcScene) -> None:
    """A link to the sign-in here leads on to the attacker's site, by some spelling of `next`."""
    evil = [
        "https://evil.test/", "//evil.test", "///evil.test", "/\\evil.test", "\\\\evil.test", "/\t/evil.test",
        "/\n/evil.test", " //evil.test", "http:evil.test", "javascript:alert(1)", "/%2fevil.test", "/%5cevil.test",
        "/a/..//evil.test", "/a/../../x", "/./x", "/.%2e/x", "@evil.test", "evil.test", "/a\r\nSet-Cookie: x=y", "",
        "/\u2044evil.test", "/%00", "/%0d%0ax", "/#//evil.test", "//localhost@evil.test", "/twinseal/logout",
        "/twinseal/login?next=/x", "/;//evil.test", "/a b",
    ]  # fmt: skip
    for text in evil:
        assert "/" == local_path(text), text
    for text in evil[:6]:
        browser = Browser()
        browser.sign_in(oidc.server, "rita", text)
        assert f"{oidc.server.url}/" == browser.visited[-1], text
    crafted = Browser()
    _, to = crafted.ask("GET", f"{oidc.server.url}/twinseal/review?{quote('//evil.test', safe='/')}")
    assert to.startswith(f"{oidc.server.url}/twinseal/login?next=%2Ftwinseal%2Freview")


@pytest.mark.attack("S")
def test_role_that_was_taken_away_ends_with_the_session(oidc: OidcScene) -> None:
    """Somebody who has left the group goes on with the old session, and signs in anew."""
    browser = oidc.browser("erik")
    oidc.provider.control(people={**PEOPLE, "erik": {"groups": ["plant"]}})
    change = {"path": f"{API}experiments/set-experiment-tag", "method": "POST", "body": TAG}
    origin = {"Origin": oidc.server.url}
    assert 200 == oidc.cookie(browser.session(oidc.server), **change, headers=origin).status  # at most session_hours
    old = sessions(oidc).begin(erik(oidc), time.time() - 8 * 3600 - 1)
    assert 401 == oidc.cookie(old, **change, headers=origin).status
    browser.sign_in(oidc.server, "erik")
    assert 403 == oidc.cookie(browser.session(oidc.server), **change, headers=origin).status


@pytest.mark.attack("S")
def test_session_that_has_ended(oidc: OidcScene) -> None:
    """A copy of a session's cookie is used after its owner has signed out."""
    browser = oidc.browser("rita")
    copy, page = browser.session(oidc.server), f"{oidc.server.url}/twinseal/logout"
    assert b"Sign out</button>" in browser.get(page).body
    for headers in ({"Origin": "https://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert 403 == browser.ask("POST", page, b"", headers)[0].status
    assert 200 == oidc.cookie(copy).status
    done, _ = browser.ask("POST", page, b"")
    assert (200, True, "") == (done.status, b"Signed out" in done.body, browser.session(oidc.server))
    assert b"again=1" in done.body
    assert f"{oidc.provider.issuer}/session/end?client_id=twinseal".encode() in done.body
    assert 401 == oidc.cookie(copy).status
    _, to = browser.ask("GET", f"{oidc.server.url}/twinseal/login?again=1")
    assert ["login"] == parse_qs(urlsplit(to).query)["prompt"]


@pytest.mark.attack("S")
def test_page_of_another_site_uses_the_session(oidc: OidcScene) -> None:
    """Another site's page, or one in an old browser that does not say where it comes from, sends a change."""
    cookie, path = oidc.browser("erik").session(oidc.server), f"{API}experiments/set-experiment-tag"
    for headers in ({}, {"Origin": "https://evil.test"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}):
        answer = oidc.cookie(cookie, path, "POST", body=TAG, headers=headers)
        assert (403, True) == (answer.status, answer.message.startswith("Origin: expected ")), headers
    assert 200 == oidc.cookie(cookie, path, "POST", body=TAG, headers={"Sec-Fetch-Site": "same-origin"}).status


@pytest.mark.attack("S")
def test_name_that_is_somebody_elses(oidc: OidcScene) -> None:
    """The provider lets somebody choose the name of an account with a password, or of another of its people."""
    browser = Browser()
    refused(oidc, browser, browser.begin(oidc.server, "engineer"), "got that of an account with a password")
    oidc.browser("rita")
    taken = {**PEOPLE, "rita": {"groups": ["platform"], "id": "mallory"}, "RITA": {"groups": ["plant"]}}
    oidc.provider.control(people=taken)
    for name in ("rita", "RITA"):
        browser = Browser()
        refused(oidc, browser, browser.begin(oidc.server, name), "got that of another person of the provider")
    for password in ("", PASSWORD, "no password: openid"):
        assert 401 == oidc.server.ask("GET", ME, who="rita", password=password).status


def test_cookies_and_tokens_are_in_no_log(oidc: OidcScene) -> None:
    oidc.browser("rita")
    text = (oidc.made.home.path / "mlflow/access.log").read_text() + (
        oidc.made.home.path.parent / "server.err"
    ).read_text()
    for secret in ("code=", "state=", "eyJ", oidc.provider.secret, "Bearer ey"):
        assert secret not in text


@pytest.mark.proof
def test_workers_share_sessions_and_an_old_file_of_secrets_gets_one_more(provider: Provider, tmp_path: Path) -> None:
    folder = tmp_path / "home/mlflow"
    with oidc_scene(tmp_path, provider) as before:
        place = before.made.home.path / "mlflow/secrets.json"
        assert folder == place.parent or place.exists()
    known = json.loads(place.read_text())
    del known["sessions"]
    place.write_text(json.dumps(known))
    from tests.server.scene import serving

    with serving(before.made.home.path, "--workers", "2", people=False) as server:
        provider.control(redirect=f"{server.url}/twinseal/callback")
        again = OidcScene(before.made, server, provider)
        now = json.loads(place.read_text())
        assert (known, 0o600) == ({name: now[name] for name in known}, place.stat().st_mode & 0o777)
        browser = again.browser("rita")
        copy = browser.session(server)
        assert {200} == {again.cookie(copy).status for _ in range(12)}
        browser.ask("POST", f"{server.url}/twinseal/logout", b"")
        assert {401} == {again.cookie(copy).status for _ in range(12)}
    assert SESSION == "twinseal-session"
