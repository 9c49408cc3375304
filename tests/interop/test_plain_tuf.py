"""The repository is a TUF repository: python-tuf's own client, as it comes, gets the release from it."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.ngclient import FetcherInterface, Updater

from tests.twin.deployment import MODEL, Deployment
from twinseal.trust.release.release import Release


class FileFetcher(FetcherInterface):
    """python-tuf brings a fetcher for HTTP alone; this one knows nothing but file://."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            with urllib.request.urlopen(url) as stream:
                return iter([stream.read()])
        except urllib.error.URLError as error:
            raise DownloadHTTPError(url, 404) from error


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(deployment: Deployment) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(deployment.mirror)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def updater(base: str, deployment: Deployment, folder: Path, fetcher: FetcherInterface | None = None) -> Updater:
    """As a stranger would make one: nothing set but what must be."""
    (folder / "targets").mkdir()
    root = (deployment.home.anchor_dir / "root.json").read_bytes()
    places = (str(folder / "metadata"), f"{base}/metadata/", str(folder / "targets"), f"{base}/targets/")
    return Updater(*places, fetcher=fetcher, bootstrap=root)


def downloaded(client: Updater) -> Release:
    info = client.get_targetinfo(f"{MODEL}/release.json")
    assert info is not None
    return Release.from_bytes(Path(client.download_target(info)).read_bytes())


def test_the_release_comes_over_http(deployment: Deployment, address: str, tmp_path: Path) -> None:
    release = downloaded(updater(address, deployment, tmp_path))
    assert (MODEL, 1) == (release.model, release.version)


def test_the_release_comes_from_a_disk(deployment: Deployment, tmp_path: Path) -> None:
    release = downloaded(updater(f"file://{deployment.mirror}", deployment, tmp_path, FileFetcher()))
    assert (MODEL, 1) == (release.model, release.version)


def test_a_changed_release_is_refused_there_too(deployment: Deployment, address: str, tmp_path: Path) -> None:
    target = next((deployment.mirror / "targets").rglob("*.release.json"))
    honest = target.read_bytes()
    client = updater(address, deployment, tmp_path)
    try:
        target.write_bytes(honest.replace(b'"version":1', b'"version":2'))
        with pytest.raises(RepositoryError):
            downloaded(client)
    finally:
        target.write_bytes(honest)
    assert [] == list((tmp_path / "targets").iterdir())
