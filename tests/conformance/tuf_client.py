"""The twin's TUF client with the command line of the TUF project's conformance suite.

As theupdateframework/tuf-conformance, CLIENT-CLI.md, asks for it:

    tuf_client.py --metadata-dir D init ROOT
    tuf_client.py --metadata-dir D --metadata-url U refresh
    tuf_client.py --metadata-dir D --metadata-url U --target-name T --target-base-url B --target-dir E download

`--target-name` may be given several times: all of them are downloaded, in that order, and one that fails is failure.

It ends with 0 or 1. Where the suite is installed it takes `--entrypoint "python tests/conformance/tuf_client.py"`; what
it asks stands in test_tuf_conformance.py as well, in our own words and over a simulator of our own.

What is under test is the class that the twin's `refresh` runs, with its limits and its way of fetching. What `refresh`
adds is not here, because TUF knows nothing of it: the model's role counted against pinned reviewers, and a cache that a
refusal leaves as it was, but for roots that were verified (which TUF keeps too, clause 5.3.8).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from twinseal.errors import RegistryError
from twinseal.trust.release.client import METADATA, TARGETS, SourceFetcher, UpdaterAtTime

TRUSTED = "trusted-root"  # no metadata file: the suite counts those by their suffix


class UrlFetch:
    """The two URLs of a repository as the one tree that the twin's client asks for."""

    def __init__(self, metadata_url: str, targets_url: str = "") -> None:
        self._bases = {METADATA: metadata_url.rstrip("/"), TARGETS: targets_url.rstrip("/")}

    def __call__(self, path: str, limit: int, /) -> Iterator[bytes]:
        kind = METADATA if path.startswith(METADATA) else TARGETS
        url = f"{self._bases[kind]}/{path.removeprefix(kind)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return iter([answer.read(limit + 1)])
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (403, 404):
                raise FileNotFoundError(url) from error
            raise RegistryError(f"{url}: expected a file, got HTTP {error.code}") from error
        except OSError as error:
            raise RegistryError(f"{url}: expected an answer, got none ({error})") from error


def init(metadata_dir: Path, root: Path) -> None:
    """Keep the trusted root. Nothing is asked of the repository."""
    metadata_dir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root, metadata_dir / TRUSTED)
    shutil.copyfile(root, metadata_dir / "root.json")


def client(metadata_dir: Path, fetch: UrlFetch) -> UpdaterAtTime:
    """The twin's client, by the machine's clock: the suite fakes that."""
    return UpdaterAtTime((metadata_dir / TRUSTED).read_bytes(), metadata_dir, SourceFetcher(fetch), datetime.now(UTC))


def download(updater: UpdaterAtTime, name: str, directory: Path) -> None:
    """Fetch the artifact `name`, unless it is there already.

    Raises:
        RegistryError: No role that may speak for it lists it.
    """
    info = updater.get_targetinfo(name)
    if info is None:
        raise RegistryError(f"{name}: expected a target, got none")
    updater.target_dir = str(directory)
    if updater.find_cached_target(info) is None:
        updater.download_target(info)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when all of it went well, else 1 and the reason on the standard error."""
    parser = argparse.ArgumentParser(description="The twin's TUF client, for the conformance suite")
    for name in ("--metadata-url", "--target-base-url"):
        parser.add_argument(name, default="")
    parser.add_argument("--target-name", action="append", default=[])  # the suite repeats it
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    args = parser.parse_args(arguments)
    try:
        if args.command == "init":
            init(args.metadata_dir, args.root)
            return 0
        updater = client(args.metadata_dir, UrlFetch(args.metadata_url, args.target_base_url))
        if args.command == "refresh":
            updater.refresh()
        elif not args.target_name:
            parser.error("download: expected --target-name, got none")
        else:
            for name in args.target_name:
                download(updater, name, args.target_dir)
    except Exception as error:  # the protocol knows success and failure, no more
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
