"""Releases on their way: to a twin without a network (mirror), and to another server (export)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from twinseal.cli.options import AnchorDir, AsJson, examples, read_anchor, warn_of_demo
from twinseal.console import err, out, print_json, printable, refusals_as_json
from twinseal.errors import ConfigError

if TYPE_CHECKING:
    from twinseal.trust.root.anchor import Anchor
    from twinseal.twin.byte_sources import Source
    from twinseal.twin.mirror import VerifiedMirror

MIRROR_EXAMPLES = examples(
    "twinseal mirror --from https://mlflow.example:5000 --model pump-rul --to /media/usb/mirror --anchor anchor",
    "twinseal mirror --from /media/usb/mirror --model pump-rul --to /srv/mirror --anchor anchor --json | jq .ends",
)
EXPORT_EXAMPLES = examples(
    "twinseal export https://mlflow.example:5000 /srv/models/pump --model pump-rul --anchor anchor --state twin",
    "twinseal export twinseal://mlflow.example:5000/pump-rul /mnt/models --anchor /etc/twinseal/anchor",
)
SCHEME = "twinseal"
PULLED = "root, clock, metadata, approval, files, signature, evidence, contents"
STEPS = (
    (0, "trust anchor; clock"),
    (1, "metadata: signatures, thresholds, expiry; the approval once more against the pinned reviewers"),
    (2, "release.json: of this model"),
    (3, "files: exactly those of the release, by path, length and SHA-256"),
    (4, "signature: the builder signed exactly the model's files"),
    (5, "evidence: each record signed by its role, PASSED, about exactly these files"),
    (6, "contents: safetensors, known keys, finite values"),
)


def mirror(
    source: Annotated[str, typer.Option("--from", metavar="URL|DIR", help="MLflow's address, or another mirror.")],
    model: Annotated[str, typer.Option(help="Which model, e.g. pump-rul.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A new folder, or an earlier mirror.")],
    anchor: AnchorDir = None,
    as_json: AsJson = False,
) -> None:
    """Write the current release to a disk, for a twin without a network; verified as it comes, and on the disk."""
    from twinseal.twin.mirror import write_mirror

    with refusals_as_json(as_json):
        pinned = read_anchor(anchor)
        with opened(source, model, Path("twin")) as found:
            made = write_mirror(found, pinned, model, to, datetime.now(UTC))
    if not as_json:
        out.print(f"[green]written[/]  {to}")
    _print_mirror(made, as_json=as_json)


def export(
    source: Annotated[
        str, typer.Argument(metavar="URL|DIR", help="MLflow's address, a mirror, or twinseal://HOST[:PORT]/MODEL.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where to: an empty folder, or an earlier export.")],
    model: Annotated[str | None, typer.Option(help="Which model; of twinseal://…, the one that it names.")] = None,
    anchor: AnchorDir = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="A twin's folder, which remembers. Default: none, only this time."),
    ] = None,
    at_least: Annotated[
        int, typer.Option("--at-least", min=0, metavar="N", help="Refuse a release older than this.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Verify the current release, as pull does, and lay it out read-only for another server.

    The folder then has bundle/ and, written last, verified.json. Without --state, an older release is only noticed
    where a newer one lies, or by --at-least.
    """
    from twinseal.twin.export import fetch_and_export

    with refusals_as_json(as_json):
        address, name = _named(source, model)
        pinned, now = read_anchor(anchor), datetime.now(UTC)
        with opened(address, name, state or Path("twin")) as found:
            done = fetch_and_export(found, pinned, name, folder, now, state_dir=state, at_least=at_least)
    release = done.release
    if as_json:
        names = {"model": release.model, "release": release.version, "release_sha256": release.sha256}
        result = "exported" if done.changed else "current"
        print_json({"result": result, **names, "files": len(release.files), "demo": done.demo})
        return
    word = "exported" if done.changed else "already there"
    out.print(f"[green]{word}[/]  {release.model} release {release.version}: {len(release.files)} files in {folder}")
    out.print(f"verified: {PULLED}")
    if state is None and not at_least:
        err.print("[yellow]note[/]  without --state or --at-least, this cannot tell that an older release is offered")
    warn_of_demo(pinned)


def is_mirror(folder: Path) -> bool:
    """Whether `verify` is given a mirror."""
    from twinseal.twin import mirror as mirrors

    return mirrors.is_mirror(folder)


def verify_mirror(folder: Path, anchor: Anchor, model: str | None, *, as_json: bool) -> None:
    """Verify a mirror, and print what was verified.

    Raises:
        TwinsealError: It is refused.
    """
    from twinseal.twin import mirror as mirrors

    found = mirrors.verify_mirror(folder, anchor, model or mirrors.model_in(folder, anchor), datetime.now(UTC))
    if not as_json:
        for number, text in STEPS:
            out.print(f"  [green]{number}[/]  {text}")
        out.print(f"[green]verified[/]  {printable(found.release.model)}: {len(found.release.files)} files")
    _print_mirror(found, as_json=as_json)


@contextmanager
def opened(source: str, model: str, state: Path) -> Iterator[Source]:
    """MLflow at an address, or the folder of a mirror.

    Raises:
        ConfigError: It is neither.
    """
    from twinseal.twin.byte_sources import DirectorySource, RestSource
    from twinseal.twin.state import pull_command

    if source.startswith(("http://", "https://")):
        with RestSource(source, model) as served:
            yield served
        return
    if not Path(source).is_dir():
        raise ConfigError(
            f"--from {source}: expected http://…, https://…, or a folder, got neither",
            remedy="URL is MLflow's address, such as http://HOST:5000, or the folder of a mirror: "
            f"{pull_command(model, state)}",
        )
    yield DirectorySource(Path(source))


def _named(source: str, model: str | None) -> tuple[str, str]:
    """The address and the model that are meant: `twinseal://HOST/MODEL` is https, and names both."""
    if not source.startswith(f"{SCHEME}://"):
        if model is None:
            raise ConfigError(
                f"{source}: expected --model, got none", remedy="Add --model, or name both: twinseal://HOST:PORT/MODEL"
            )
        return source, model
    parts = urlsplit(source)
    named = parts.path.strip("/")
    if not parts.netloc or not named or "/" in named or parts.query or parts.fragment or model not in (None, named):
        raise ConfigError(
            f"{source}: expected twinseal://HOST[:PORT]/MODEL, and no other --model, got something else",
            remedy="For example: twinseal://mlflow.example:5000/pump-rul",
        )
    return f"https://{parts.netloc}", named


def _print_mirror(found: VerifiedMirror, *, as_json: bool) -> None:
    release = found.release
    if as_json:
        names = {"model": release.model, "release": release.version, "release_sha256": release.sha256}
        steps = [{"step": number, "check": text} for number, text in STEPS]
        ends = found.ends.astimezone(UTC).isoformat(timespec="seconds")
        checked = {"steps": steps, "not_checked": [7], "ends": ends, "demo": found.demo}
        print_json({"result": "verified", **names, "files": len(release.files), **checked})
        return
    out.print(
        f"{release.model} release {release.version}, sha256 {release.sha256}; install it before "
        f"{found.ends:%Y-%m-%d %H:%M} UTC: twinseal pull --from DIR"
    )
    out.print("not checked: whether the twin has seen a newer one; twinseal pull checks that")
    if found.demo:
        err.print("[yellow]demo keys: throw-away, all on one machine; what they sign proves nothing[/]")
