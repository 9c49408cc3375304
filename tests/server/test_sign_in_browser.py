"""Sign-in in Chromium: the provider is another site to it, so cookies, redirects and policies are a browser's own."""

from __future__ import annotations

from tests.server.browser import chromium
from tests.server.oidc_scene import SESSION, OidcScene


def test_person_signs_in_and_out(oidc: OidcScene) -> None:
    with chromium() as browser:
        context = browser.new_context()
        page, said = context.new_page(), list[str]()
        page.on("console", lambda message: said.append(f"{message.text} {message.location['url']}"))
        page.goto(f"{oidc.server.url}/twinseal/review")
        page.get_by_label("name").fill("erik")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{oidc.server.url}/twinseal/review")
        assert "erik (engineer, reader)" in page.locator(".who").inner_text()
        cookie = next(item for item in context.cookies(oidc.server.url) if item["name"] == SESSION)
        assert (True, "Lax", "/") == (cookie["httpOnly"], cookie["sameSite"], cookie["path"])
        assert "" == page.evaluate("document.cookie")
        assert [SESSION] == [item["name"] for item in context.cookies(oidc.server.url)]  # the sign-in's own is gone
        page.get_by_role("link", name="Sign out").click()
        page.get_by_role("button", name="Sign out").click()
        assert "Signed out" == page.locator("h1").inner_text()
        assert [] == context.cookies(oidc.server.url)
        assert 401 == oidc.cookie(cookie["value"]).status
        page.get_by_role("link", name="Sign in again").click()
        page.get_by_label("name").fill("nobody")
        page.get_by_role("button", name="Sign in").click()
        assert "expected membership in a group" in page.get_by_role("alert").inner_text()
        assert [] == [line for line in said if oidc.server.url in line and "403" not in line]
        context.close()


def test_mlflow_page_of_a_session_is_that_persons(oidc: OidcScene) -> None:
    with chromium() as browser:
        context = browser.new_context()
        page = context.new_page()
        page.goto(oidc.server.url)
        page.get_by_label("name").fill("rita")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{oidc.server.url}/**")
        asked = "fetch('/ajax-api/2.0/mlflow/users/current').then((answer) => answer.json())"
        assert "rita" == page.evaluate(asked)["user"]["username"]
        change = (
            "fetch('/ajax-api/2.0/mlflow/experiments/create', {method: 'POST', body: '{\"name\": \"x\"}',"
            " headers: {'Content-Type': 'application/json'}}).then((answer) => answer.status)"
        )
        assert 403 == page.evaluate(change)  # a reader
        context.close()
