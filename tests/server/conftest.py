"""One identity provider and one server that trusts it, for all tests of sign-in that a worker runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.oidc_scene import PEOPLE, OidcScene, Provider, oidc_scene, providing


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    with providing() as found:
        yield found


@pytest.fixture(scope="session")
def _oidc(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcScene]:
    with oidc_scene(tmp_path_factory.mktemp("oidc"), provider) as scene:
        yield scene


@pytest.fixture
def oidc(_oidc: OidcScene) -> OidcScene:
    """The scene, with the people that are in it at first."""
    _oidc.provider.control(people=PEOPLE, redirect=f"{_oidc.server.url}/twinseal/callback", id_token=None)
    return _oidc
