from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twinseal import config
from twinseal.errors import ConfigError


class Robust(config.Settings):
    epsilon_sigma: float = 0.1


class Train(config.Settings):
    epochs: int
    layers: tuple[int, ...] = (64, 64)
    robust: Robust = Robust()


def test_a_settings_file_becomes_a_frozen_value(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("train: {epochs: 3, layers: [8], robust: {epsilon_sigma: 0.5}}")
    settings = config.load(Train, tmp_path / "p.yaml", section="train")
    assert Train(epochs=3, layers=(8,), robust=Robust(epsilon_sigma=0.5)) == settings
    with pytest.raises(ValueError, match="frozen"):
        settings.epochs = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("train: {epoch: 3}", "train: epoch: unknown key; did you mean 'epochs'"),
        ("train: {epochs: 3, robust: {epsilon: 1}}", "robust.epsilon: unknown key; did you mean 'epsilon_sigma'"),
        ("train: {}", "epochs: field required"),
        ("train: {epochs: '3'}", "epochs: input should be a valid integer"),
        ("train: {epochs: true}", "epochs: input should be a valid integer"),
        ("train: {epochs: 3, robust: {epsilon_sigma: .nan}}", "epsilon_sigma: input should be a finite number"),
        ("train: {epochs: 3, robust: {epsilon_sigma: .inf}}", "epsilon_sigma: input should be a finite number"),
        ("train: [1]", "expected keys and values, got list"),
        ("other: {}", "expected a section 'train', got none"),
        ("train: {epochs: 3, epochs: 4}", "key given twice: epochs"),
        ("a: &a {epochs: 3}\ntrain: *a", "aliases are not allowed"),
        ("train: !!python/object/apply:os.system [id]", "expected YAML"),
        ("train: {", "expected YAML"),
        ("", "expected a section 'train'"),
        ("[" * 5000, "expected YAML"),
        ("train: {epochs: 2020-01-01}", "epochs: input should be a valid integer"),
    ],
)
def test_a_settings_file_that_says_what_cannot_be_is_refused_by_name(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"params\.yaml") as refusal:
        config.load(Train, path, section="train")
    assert why in str(refusal.value)
    assert f"git diff {path}" in refusal.value.remedy


def test_an_absent_file_is_a_refusal_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a settings file, got none") as refusal:
        config.read_yaml(tmp_path / "none.yaml")
    assert "Run it in the project's folder" in refusal.value.remedy


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ConfigError, match="expected YAML"):
        config.read_yaml(tmp_path / "p.yaml")


def test_a_file_too_long_to_be_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"#" * (config.MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="expected at most"):
        config.read_yaml(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("No", "No"), ("on", "on"), ("y", "y"), ("true", True), ("False", False), ("~", None), ("", None),
        ("null", None), ("6e-05", 6e-05), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-0.25", -0.25),
        ("+3", 3), ("0", 0), ("0x1F", 31), ("007", "007"), ("010", "010"), ("1_000", "1_000"), ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("'7'", "7"), ("1.2.3", "1.2.3"), ("=", "="), ("<<", "<<"), ("-", [None]),
    ],
)  # fmt: skip
def test_a_plain_word_is_what_people_mean(tmp_path: Path, text: str, value: Any) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"key: {text}\n" if text != "-" else "key:\n  -\n")
    (found,) = config.read_yaml(path).values()
    assert (value, type(value)) == (found, type(found))
    if text not in ("-", "", "<<", "0x1F"):
        path.write_text(f"{text}: 1\n")
        assert [value] == list(config.read_yaml(path))
