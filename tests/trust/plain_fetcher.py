"""python-tuf's own kind of fetcher over a folder: what a client that knows nothing of twinseal would use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface


class DiskFetcher(FetcherInterface):
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._directory / url
        if not path.exists():
            raise DownloadHTTPError(url, 404)
        return iter([path.read_bytes()])
