"""The registry changes its files: bytes, names, types of files, lists of files."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attacks.field import LATER, UNTIL, Field
from tests.attacks.forge import canonical, deceive, flip, release_of, sha256
from tests.twin.deployment import MODEL, OTHER
from twinseal.errors import (
    DigestMismatchError,
    EvidenceError,
    RegistryError,
    SignatureError,
    TwinsealError,
)
from twinseal.trust.release.client import refresh
from twinseal.twin.byte_sources import DirectorySource

STAGES = ("assess", "evade", "ingest", "poison", "prepare", "train", "validate")
FILES = (
    *(f"evidence/{name}.dsse.json" for name in (*STAGES, "policy")),
    *(f"model/{name}" for name in ("config.json", "contract.json", "guard.json", "model.safetensors")),
    "model.sig.json",
)


def test_the_honest_release_is_accepted(field: Field) -> None:
    """The honest release 2 replaces release 1, and answers."""
    before = field.answers()
    assert (True, 2) == (field.pull().changed, field.version)
    assert before != field.answers()
    assert sorted(FILES) == sorted(record.path for record in field.release.files)


@pytest.mark.attack(3)
@pytest.mark.parametrize("path", FILES)
def test_one_bit_of_a_file(field: Field, path: str) -> None:
    """The registry flips one bit of a file of the bundle."""
    assert 2 == field.accepts()
    honest = (field.candidate / path).read_bytes()
    for at in (0.0, 0.5, 1.0):
        flip(field.candidate / path, at)
        field.refuses(DigestMismatchError, rf"^{path}: expected sha256 .* as signed, got .*release 2 of {MODEL}")
        (field.candidate / path).write_bytes(honest)
    assert 2 == field.accepts()


@pytest.mark.attack(1)
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("timestamp", SignatureError),
        ("snapshot", DigestMismatchError),
        (MODEL, DigestMismatchError),
        ("release", DigestMismatchError),
    ],
)
def test_one_bit_of_metadata(field: Field, name: str, error: type[TwinsealError]) -> None:
    """The registry flips one bit of the timestamp, the snapshot, the model role or release.json."""
    assert 2 == field.accepts()
    path = {
        "timestamp": field.registry.metadata / "timestamp.json",
        "release": field.listed,
    }.get(name) or max(field.registry.metadata.glob(f"*.{name}.json"))
    honest = path.read_bytes()
    for at in (0.0, 0.5, 1.0):
        flip(path, at)
        field.refuses(error, MODEL)
        path.write_bytes(honest)
    assert 2 == field.accepts()


@pytest.mark.attack(1)
def test_one_bit_of_targets_for_a_new_twin(field: Field) -> None:
    """The registry flips one bit of targets.json, which a new twin fetches."""
    new = field.path / "new"
    path = field.registry.metadata / "1.targets.json"
    honest = path.read_bytes()
    for at in (0.0, 0.5, 1.0):
        flip(path, at)
        with pytest.raises(DigestMismatchError, match=MODEL):
            field.pull(twin=new)
        assert not (new / "current").exists()
        path.write_bytes(honest)
    assert 2 == field.pull(twin=new).model.release.version


@pytest.mark.attack(1)
def test_other_bits_of_the_timestamp_are_refused_or_harmless(field: Field) -> None:
    """The registry flips other bits of the timestamp: refused, or the content stays the same."""
    path = field.registry.metadata / "timestamp.json"
    honest, source, outcomes = path.read_bytes(), DirectorySource(field.mirror), []
    for bit in range(0, 8 * len(honest), 37):  # a step that has no factor of 8 meets every bit of a byte
        data = bytearray(honest)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        cache = Path(shutil.copytree(field.twin / "tuf", field.path / "tuf", dirs_exist_ok=True, symlinks=True))
        try:
            got = refresh(field.deployment.anchor, cache, source.open, MODEL, LATER)
            outcomes.append(got == field.release)
        except TwinsealError:
            pass
        shutil.rmtree(cache)
    assert all(outcomes)
    assert len(outcomes) < 20, "hexadecimal in capitals, at most"
    path.write_bytes(honest)
    assert 2 == field.accepts()


EXTRA = (
    "model/.git/config",
    "model/.github/workflows/run.yml",
    "model/.gitattributes",
    "model/.hidden",
    "model/MLmodel",
    "model/code/loader.py",
    "model/a/b/c/d/e/deep.bin",
    "evidence/more.dsse.json",
    "setup.py",
)


@pytest.mark.attack(3)
@pytest.mark.parametrize("path", EXTRA)
def test_a_file_added_in_the_registry_never_reaches_the_twin(field: Field, path: str) -> None:
    """The registry adds a file to the bundle, also in `.git/` or as MLmodel: the twin does not install it."""
    (field.candidate / path).parent.mkdir(parents=True, exist_ok=True)
    (field.candidate / path).write_bytes(b"evil")
    assert 2 == field.pull().model.release.version
    installed = {p.relative_to(field.twin).as_posix() for p in field.twin.rglob("*")}
    assert not any(name.endswith(path) for name in installed)


HIDDEN = (EvidenceError, "file name: expected a plain relative path, got ")
UNSIGNED = (DigestMismatchError, "expected exactly the files that the builder signed, got others: ")
OUTSIDE = (EvidenceError, "expected files under model/ and evidence/ alone, got ")
MORE = (DigestMismatchError, r"evidence/more\.dsse\.json: expected a model and its evidence, got one more file")


@pytest.mark.attack(2, 4, 5)
@pytest.mark.parametrize(
    ("path", "refusal"), list(zip(EXTRA, [*[HIDDEN] * 4, *[UNSIGNED] * 3, MORE, OUTSIDE], strict=True))
)
def test_an_added_file_that_only_the_reviewers_signed(
    field: Field, path: str, refusal: tuple[type[TwinsealError], str]
) -> None:
    """The reviewers sign a release with an added file, also in `.git/`, that the builder did not sign."""
    assert 2 == field.accepts()
    (field.bundle / path).parent.mkdir(parents=True, exist_ok=True)
    (field.bundle / path).write_bytes(b"evil")
    field.release_3()
    assert path.rsplit("/", maxsplit=1)[-1] in str(field.refuses(*refusal))


@pytest.mark.attack(3)
@pytest.mark.parametrize("path", FILES)
def test_a_file_is_removed(field: Field, path: str) -> None:
    """The registry removes a file of the bundle."""
    assert 2 == field.accepts()
    (field.candidate / path).unlink()
    field.refuses(RegistryError, f"^{path}: expected this file of release 2, got none")


@pytest.mark.attack(1)
@pytest.mark.parametrize("name", ["timestamp", "snapshot", MODEL, "release"])
def test_metadata_is_removed(field: Field, name: str) -> None:
    """The registry removes the timestamp, the snapshot, the model role or release.json."""
    assert 2 == field.accepts()
    for path in field.registry.metadata.glob(f"*{name}.json"):
        path.unlink()
    if name == "release":
        field.listed.unlink()
    field.refuses(RegistryError, "not found")


@pytest.mark.attack(3)
def test_a_file_is_renamed(field: Field) -> None:
    """The registry renames a file of the model."""
    assert 2 == field.accepts()
    (field.candidate / "model/config.json").rename(field.candidate / "model/Config.json")
    field.refuses(RegistryError, r"model/config\.json: expected this file of release 2, got none")


@pytest.mark.attack(4)
def test_a_file_is_renamed_and_the_reviewers_sign_it(field: Field) -> None:
    """The reviewers sign a release with a renamed file; the builder signed the old name."""
    assert 2 == field.accepts()
    (field.bundle / "model/config.json").rename(field.bundle / "model/settings.json")
    field.release_3()
    field.refuses(DigestMismatchError, "expected exactly the files that the builder signed, got others: config.json")


@pytest.mark.attack(3)
def test_two_files_are_swapped(field: Field) -> None:
    """The registry swaps two files of the model."""
    assert 2 == field.accepts()
    config, contract = field.candidate / "model/config.json", field.candidate / "model/contract.json"
    config.rename(field.path / "held")
    contract.rename(config)
    (field.path / "held").rename(contract)
    field.refuses(DigestMismatchError, r"model/config\.json: expected")


@pytest.mark.attack(4)
def test_two_files_are_swapped_and_the_reviewers_sign_it(field: Field) -> None:
    """The reviewers sign a release with two swapped files; the builder signed them before the swap."""
    assert 2 == field.accepts()
    config, contract = field.bundle / "model/config.json", field.bundle / "model/contract.json"
    config.rename(field.path / "held")
    contract.rename(config)
    (field.path / "held").rename(contract)
    field.release_3()
    field.refuses(DigestMismatchError, "expected exactly the files that the builder signed, got others: config.json")


@pytest.mark.attack(3)
@pytest.mark.parametrize("source", ["the release before", "another model"])
def test_the_weights_of_another_model_or_release(field: Field, source: str) -> None:
    """Mix-and-match: the registry serves the weights of another model or of the previous release."""
    assert 2 == field.accepts()
    other = field.path / f"deployment/bundle-1-{MODEL if source == 'the release before' else OTHER}"
    shutil.copy(other / "model/model.safetensors", field.candidate / "model/model.safetensors")
    field.refuses(DigestMismatchError, r"model/model\.safetensors: expected sha256")


@pytest.mark.attack(4)
def test_older_weights_under_a_newer_signature_and_the_reviewers_sign_it(field: Field) -> None:
    """Mix-and-match: the reviewers sign a release with the previous weights and the new OMS signature."""
    assert 2 == field.accepts()
    old = field.path / f"deployment/bundle-1-{MODEL}"
    shutil.copy(old / "model/model.safetensors", field.bundle / "model/model.safetensors")
    field.release_3()
    field.refuses(DigestMismatchError, "the builder signed, got others: model.safetensors")


def _link(path: Path, aside: Path) -> None:
    path.rename(aside)
    path.symlink_to(aside)


def _dangling(path: Path, aside: Path) -> None:
    path.unlink()
    path.symlink_to(aside / "nowhere")


def _device(path: Path, _: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _socket(path: Path, _: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def _linked_folder(path: Path, aside: Path) -> None:
    path.parent.rename(aside)
    path.parent.symlink_to(aside, target_is_directory=True)


@pytest.mark.attack(3)
@pytest.mark.parametrize("kind", [_link, _dangling, _device, _folder, _fifo, _socket, _linked_folder])
@pytest.mark.parametrize("path", ["model/model.safetensors", "evidence/train.dsse.json"])
def test_a_special_file_in_place_of_a_file(field: Field, path: str, kind: Callable[[Path, Path], None]) -> None:
    """The mirror contains a symlink, folder, FIFO, socket or device in place of a file, or a symlinked folder."""
    assert 2 == field.accepts()
    kind(field.candidate / path, field.path / "aside")
    if kind is _linked_folder:  # no part of the way may be a link: behind it there is nothing
        field.refuses(RegistryError, f"{path.split('/', maxsplit=1)[0]}/.*: expected this file of release 2, got none")
    else:
        field.refuses(RegistryError, f"{path}: expected a (readable|regular) file in the mirror, got")


@pytest.mark.attack(1)
@pytest.mark.parametrize("kind", [_link, _device, _folder, _fifo])
def test_a_special_file_in_place_of_the_timestamp(field: Field, kind: Callable[[Path, Path], None]) -> None:
    """The mirror contains a symlink, folder, FIFO or device in place of the timestamp."""
    assert 2 == field.accepts()
    kind(field.registry.metadata / "timestamp.json", field.path / "aside")
    field.refuses(RegistryError, r"^metadata/timestamp\.json: expected a .* in the mirror, got")


@pytest.mark.attack(3)
@pytest.mark.parametrize("kind", ["longer", "sparse", "shorter", "empty"])
def test_a_file_of_another_length(field: Field, kind: str) -> None:
    """The registry serves weights that are one byte longer, 8 GiB long, one byte shorter or empty."""
    assert 2 == field.accepts()
    path = field.candidate / "model/model.safetensors"
    length = path.stat().st_size
    os.truncate(path, {"longer": length + 1, "sparse": 8 << 30, "shorter": length - 1, "empty": 0}[kind])
    message = "expected at most|expected sha256"
    field.refuses(DigestMismatchError, rf"model/model\.safetensors: ({message}) .*{length}")


@pytest.mark.attack(3)
def test_a_hard_link_changed_after_the_pull(field: Field) -> None:
    """TOCTOU: a file is changed through a hard link after the pull; the installed copy stays the same."""
    path = field.candidate / "model/model.safetensors"
    os.link(path, field.path / "handle")
    assert 2 == field.pull().model.release.version
    before = field.answers()
    (field.path / "handle").write_bytes(b"evil")
    assert (2, before) == (field.version, field.answers())


NAMES = {
    "above": "model/../../evil",
    "above, first": "../model/evil",
    "absolute": "/etc/evil",
    "here": "model/./evil",
    "twice a slash": "model//evil",
    "slash at the end": "model/evil/",
    "backslash": "model\\..\\evil",
    "drive": "C:/evil",
    "percent": "model/%2e%2e/evil",
    "null": "model/evil\0.bin",
    "newline": "model/evil\n",
    "blank": "model/evil ",
    "Cyrillic": "model/cоnfig.json",
    "full width": "model/ｃonfig.json",
    "combining": "model/cónfig.json",
    "right to left": "model/\u202egifnoc.json",
    "zero width": "model/con\u200bfig.json",
    "ligature": "model/conﬁg.json",
    "Kelvin": "model/\u212aonfig.json",
    "dotless": "model/confıg.json",
    "too long": "model/" + "a" * 129,
    "far too long": "model/" + "/".join(["a" * 100] * 6),
    "number": 7,
    "none": None,
    "list": ["model/evil"],
    "empty": "",
}


@pytest.mark.attack(2)
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_path_traversal_in_release_json(field: Field, name: object) -> None:
    """Path traversal: the reviewers sign a path that is absolute or has `..`, look-alike or control characters."""
    assert 2 == field.accepts()
    value = release_of(field.bundle, field.listed.read_bytes(), version=3)
    record = next(record for record in value["files"] if record["path"] == "model/config.json")
    value["files"].append(record | {"path": name})
    value["files"].sort(key=lambda item: str(item["path"]))
    field.registry.release(canonical(value), MODEL, ("alice", "chiara"), UNTIL)
    field.refuses(EvidenceError, "^file name: expected a plain relative path, got")
    assert not list(field.path.rglob("evil*"))


@pytest.mark.attack(2)
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("model/CONFIG.JSON", r"model/config\.json: expected one file of this name, got model/CONFIG\.JSON too"),
        ("model/config.json", "expected one file of this name, got|expected each file once|another order"),
        ("Model/config.json", "expected one file of this name, got|under model/ and evidence/ alone"),
        ("evidence/ASSESS.dsse.json", "expected one file of this name, got"),
    ],
)
def test_one_path_twice(field: Field, path: str, message: str) -> None:
    """The reviewers sign a release with two paths that are equal or differ only in case."""
    assert 2 == field.accepts()
    value = release_of(field.bundle, field.listed.read_bytes(), version=3)
    value["files"].append({"path": path, "length": 4, "sha256": sha256(b"evil")})
    value["files"].sort(key=lambda item: (item["path"], item["length"]))
    field.registry.release(canonical(value), MODEL, ("alice", "chiara"), UNTIL)
    field.refuses(EvidenceError, message)


@pytest.mark.attack(3)
@pytest.mark.parametrize("moment", ["while it is read", "between two files"])
def test_a_mirror_that_changes_during_the_pull(field: Field, moment: str) -> None:
    """TOCTOU: the mirror changes a file while the twin reads it (refused) or afterwards (no effect)."""
    assert 2 == field.accepts()
    weights = field.candidate / "model/model.safetensors"
    honest = weights.read_bytes()

    class Moving(DirectorySource):
        def open(self, path: str, limit: int) -> Iterator[bytes]:
            chunks = super().open(path, limit)
            if path.endswith("model.safetensors"):
                if moment == "while it is read":
                    weights.write_bytes(honest[:-1] + bytes([honest[-1] ^ 1]))
                else:
                    chunks = iter([b"".join(chunks)])
                    weights.write_bytes(b"evil")
            return chunks

    if moment == "while it is read":
        field.refuses(DigestMismatchError, r"model\.safetensors: expected sha256", source=Moving(field.mirror))
    else:
        assert 2 == field.pull(source=Moving(field.mirror)).model.release.version
        assert field.answers()


@pytest.mark.attack(2)
def test_a_file_below_a_file(field: Field) -> None:
    """The reviewers sign a release that lists `config.json` and `config.json/evil`."""
    assert 2 == field.accepts()
    value = release_of(field.bundle, field.listed.read_bytes(), version=3)
    record = next(record for record in value["files"] if record["path"] == "model/config.json")
    value["files"].append(record | {"path": "model/config.json/evil"})
    value["files"].sort(key=lambda item: str(item["path"]))
    field.registry.release(canonical(value), MODEL, ("alice", "chiara"), UNTIL)
    field.refuses(EvidenceError, r"expected no file below another, got model/config\.json/evil")


@pytest.mark.attack(6)
def test_a_fifth_file_that_all_signed(field: Field) -> None:
    """Builder, assessor and reviewers sign a model with a fifth file."""
    assert 2 == field.accepts()
    (field.bundle / "model/notes.txt").write_bytes(b"harmless?")
    deceive(field.bundle, field.keys)
    field.release_3()
    field.refuses(
        EvidenceError, r"expected config\.json, contract\.json, guard\.json, model\.safetensors, got .*notes\.txt"
    )


@pytest.mark.attack(7)
@pytest.mark.parametrize(
    "place", ["", "bundle", "bundle/model", "release.json", "role.json", "bundle/model/config.json"]
)
def test_a_part_of_the_installed_model_is_a_link(field: Field, place: str) -> None:
    """The installed release, or a part of it, is replaced by a link to a copy elsewhere, which can change later."""
    before = field.answers()
    folder = field.twin / "models" / (field.twin / "current").read_text()
    path, aside = folder / place if place else folder, field.path / "aside"
    path.rename(aside)
    path.symlink_to(aside)
    with pytest.raises(TwinsealError, match=r"expected .* got"):
        field.answers()
    path.unlink()
    aside.rename(path)
    assert before == field.answers()


@pytest.mark.attack(1)
@pytest.mark.parametrize("kind", ["a link", "a fifo", "/dev/zero"])
def test_the_cache_of_metadata_has_a_file_that_is_none(field: Field, kind: str) -> None:
    """In the twin's cache of metadata lies a link, a fifo, or a device: it is not followed, and nothing waits."""
    assert 2 == field.accepts()
    cached = field.twin / "tuf/timestamp.json"
    cached.rename(field.path / "aside")
    if kind == "a fifo":
        os.mkfifo(cached)
    else:
        cached.symlink_to(field.path / "aside" if kind == "a link" else kind)
    before = field.answers()
    with pytest.raises(
        DigestMismatchError, match=r"timestamp\.json: expected metadata that this twin wrote, got none"
    ) as no:
        field.pull()
    assert "rm " in no.value.remedy
    assert before == field.answers()
    cached.unlink()
    (field.path / "aside").rename(cached)
    assert 2 == field.pull().model.release.version
