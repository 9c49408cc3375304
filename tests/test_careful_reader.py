"""Every file is opened by `twinseal.reading`: any other way of reading needs a line, with its reason, below."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from twinseal.config import read_yaml
from twinseal.digests import sha256_file
from twinseal.errors import ConfigError, TwinsealError
from twinseal.files import inventory
from twinseal.reading import open_beneath, open_regular, read_regular, require_folder
from twinseal.trust.keys.key import read_public_key
from twinseal.trust.release.request import Request
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.signing.attestation import read_attestation
from twinseal.twin import telemetry_reader

ROOT = Path(__file__).parents[1]
# Names that read a file when they are called, whatever object they are called on.
READERS = {
    "open", "fdopen", "read_bytes", "read_text", "read_csv", "read_parquet", "read_table", "read_schema",
    "read_metadata", "read_json", "read_feather", "read_pickle", "ParquetFile", "ParquetDataset", "copy", "copy2",
    "copyfile", "copytree", "load_file", "safe_open", "fromfile", "loadtxt", "genfromtxt", "memmap", "read_excel",
    "FileLoader", "load_cert_chain",
}  # fmt: skip
# (module, name of the call): why it may.
ALLOWED = {
    ("twinseal/reading.py", "fdopen"): "the careful reader",
    ("twinseal/reading.py", "open"): "the careful reader",
    ("twinseal/files.py", "open"): "a folder, to flush the names in it",
    ("twinseal/files.py", "fdopen"): "a temporary file that it made, for writing",
    ("twinseal/registry/locations.py", "open"): "folders by descriptor, without links; files for writing, made anew",
    ("twinseal/registry/locations.py", "fdopen"): "a file that it made, for writing",
    ("twinseal/trust/keys/key_files.py", "open"): "private keys: the same flags; the folder is checked too",
    ("twinseal/trust/keys/key_files.py", "fdopen"): "private keys: the same flags, and the folder is checked",
    ("twinseal/trust/keys/tokens.py", "open"): "a session with a token, no file",
    ("twinseal/trust/audit/disk.py", "open"): "to append, to cut off, to lock: the same flags",
    ("twinseal/trust/audit/disk.py", "fdopen"): "to append: the same flags",
    ("twinseal/trust/root/home_lock.py", "open"): "the lock, in the home",
    ("twinseal/server/rounds.py", "open"): "the locks of the rounds, in the home",
    ("twinseal/server/archive.py", "fdopen"): "files that it made, for writing",
    ("twinseal/server/archive.py", "open"): "a new file of its own, for writing",
    ("twinseal/server/backup.py", "fdopen"): "files that it made, for writing",
    ("twinseal/server/backup.py", "open"): "a new file of its own, for writing",
    ("twinseal/cli/gateway.py", "open"): "a new file of its own, for writing",
    ("twinseal/twin/locks.py", "open"): "the locks, in the twin's own folder",
    ("twinseal/twin/mirror.py", "open"): "a source of bytes; and new files of its own, for writing",
    ("twinseal/twin/export.py", "open"): "new files of its own, for writing",
    ("twinseal/twin/row_journal.py", "open"): "to append, in the twin's own folder: the same flags",
    ("twinseal/twin/service/service.py", "open"): "outputs, no file",
    ("twinseal/twin/outputs/fan_out.py", "open"): "an output, no file",
    ("twinseal/twin/outputs/lines.py", "open"): "to append: the same flags",
    ("twinseal/twin/outputs/settings.py", "load_cert_chain"): "the files that the operator named",
    ("twinseal/twin/fetch.py", "open"): "a source of bytes; and a file for writing that must not exist",
    ("twinseal/twin/inputs/broker.py", "load_cert_chain"): "the files that the settings name",
    ("twinseal/twin/byte_sources.py", "fdopen"): "a descriptor of the careful reader",
    ("twinseal/sources/table.py", "open"): "a source of telemetry",
    ("twinseal/sources/sql.py", "open"): "a source of telemetry",
    ("twinseal/telemetry/spark_scan.py", "open"): "the log of Spark, a file of its own, for writing",
    ("twinseal/telemetry/delimited.py", "read_csv"): "bytes in memory, after check_csv",
    ("twinseal/assets/proposal.py", "open"): "a source of telemetry",
    ("twinseal/assets/page.py", "read_text"): "a resource of this package",
    ("twinseal/sources/data_params.py", "open"): "a source of telemetry",
    ("twinseal/sources/cmapss.py", "open"): "a source of telemetry; a member of a zip in memory",
    ("twinseal/sources/cmapss.py", "read_csv"): "bytes in memory, after check_csv",
    ("twinseal/telemetry/tables.py", "ParquetFile"): "the stream that it is given, once size and footer are checked",
    ("twinseal/assurance/report/page.py", "read_text"): "a resource of this package",
    ("twinseal/server/api.py", "open"): "a review, no file",
    ("twinseal/server/pages.py", "read_bytes"): "a resource of this package",
    ("twinseal/server/serving.py", "load_cert_chain"): "the files that the administrator named",
    ("twinseal/server/oidc.py", "open"): "a cookie, no file",
    ("twinseal/server/provider_accounts.py", "open"): "the lock, in the home",
    ("twinseal/server/sessions.py", "open"): "a cookie, no file",
    ("pipelines/sign.py", "copytree"): "after inventory, which refuses links and whatever is no file",
}  # fmt: skip


def calls() -> Iterator[tuple[str, str, int]]:
    """Module, name and line of every call that could read a file."""
    for folder in (ROOT / "src/twinseal", ROOT / "pipelines"):
        for path in sorted(folder.rglob("*.py")):
            where = path.relative_to(ROOT / "src" if "src" in path.parts else ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    function = node.func
                    name = getattr(function, "attr", getattr(function, "id", ""))
                    # Of an array or a table; and our own reader of Parquet, which is given a stream.
                    in_memory = name == "copy" and (not node.args or ast.unparse(function) == "copy.copy")
                    ours = name == "read_parquet" and isinstance(function, ast.Name)
                    if name in READERS and not in_memory and not ours:
                        yield where, name, node.lineno


def test_nothing_else_reads_files() -> None:
    found = list(calls())
    strangers = [f"{where}:{line}: {name}" for where, name, line in found if (where, name) not in ALLOWED]
    assert [] == strangers, "open it with twinseal.reading, or say above why not"


def test_every_exception_is_still_there() -> None:
    assert set(ALLOWED) - {(where, name) for where, name, _ in calls()} == set()


def _make(kind: str, path: Path, tmp_path: Path) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a file":
        (tmp_path / "target").write_bytes(b"{}")
        path.symlink_to(tmp_path / "target")
    else:
        path.symlink_to(kind)


KINDS = ["fifo", "folder", "link to a file", "/dev/stdin", "/dev/zero", "/dev/tty"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_regular_file_is_opened_and_nothing_waits(kind: str, tmp_path: Path) -> None:
    (tmp_path / "honest").write_bytes(b"abc")
    assert read_regular(tmp_path / "honest", 2) == b"abc"
    _make(kind, tmp_path / "x", tmp_path)
    for read in (open_regular, sha256_file, lambda path: read_regular(path, 9)):
        with pytest.raises(OSError, match="x'"):
            read(tmp_path / "x")
    with pytest.raises(OSError, match="x'"):
        open_beneath(tmp_path, "x")


def test_a_link_is_followed_only_for_a_path_that_a_person_named(tmp_path: Path) -> None:
    (tmp_path / "honest").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("honest")
    assert read_regular(tmp_path / "link", 9, follow=True) == b"abc"
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="no regular file"):
        read_regular(tmp_path / "fifo", 9, follow=True)


def test_beneath_a_folder_no_part_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_bytes(b"abc")
    (tmp_path / "above").symlink_to("a")
    with open_beneath(tmp_path / "above", "b/c") as stream:  # the start may be a link
        assert stream.read() == b"abc"
    with pytest.raises(OSError, match="above"):
        open_beneath(tmp_path, "above/b/c")
    with pytest.raises(NotADirectoryError):
        require_folder(tmp_path / "above")
    with pytest.raises(NotADirectoryError):
        inventory(tmp_path / "above")


@pytest.mark.attack("P")
@pytest.mark.parametrize("kind", ["fifo", "/dev/stdin", "/dev/zero"])
def test_a_fifo_or_a_device_where_a_file_is_read(kind: str, tmp_path: Path) -> None:
    """A fifo, a device or a link to one lies where a request, an anchor, a key, settings or telemetry is read."""
    names = (
        "release.json",
        "root.json",
        "alice.pub",
        "params.yaml",
        "train.dsse.json",
        "t.csv",
        "t.parquet",
        "t.jsonl",
    )
    for name in names:
        _make(kind, tmp_path / name, tmp_path)
    readers = {
        "request": lambda: Request.read(tmp_path),
        "anchor": lambda: Anchor.read(tmp_path),
        "key": lambda: read_public_key(tmp_path / "alice.pub"),
        "settings": lambda: read_yaml(tmp_path / "params.yaml"),
        "record": lambda: read_attestation(tmp_path / "train.dsse.json", "train", None),  # type: ignore[arg-type]
        "csv": lambda: telemetry_reader.read(tmp_path / "t.csv"),
        "parquet": lambda: telemetry_reader.read(tmp_path / "t.parquet"),
        "jsonl": lambda: list(telemetry_reader.read(tmp_path / "t.jsonl")),
    }
    for reader in readers.values():
        assert isinstance(_error_within_seconds(reader), TwinsealError)


def _error_within_seconds(reader: Callable[[], object]) -> BaseException:
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(reader).exception(10)  # raises TimeoutError if it waits
    assert found is not None
    return found


def test_settings_that_are_no_file_are_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a settings file, got none"):
        read_yaml(tmp_path)
