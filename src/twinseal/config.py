"""Settings files: each is parsed once into a frozen value; an unknown key is an error that names the nearest known key.

An experimenter may change `params.yaml`, but not `policy/`. The settings classes are defined beside the code that uses
them and derive from `Settings`. Only this module imports pydantic and YAML.

    >>> class Optimiser(Settings):
    ...     epochs: int = 20
    >>> parse(Optimiser, {"epoch": 3}, "params.yaml")
    Traceback (most recent call last):
    twinseal.errors.ConfigError: params.yaml: epoch: unknown key; did you mean 'epochs'?
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinseal.errors import ConfigError, suggest
from twinseal.reading import read_regular

__all__ = ["MARKS", "Field", "PartialSettings", "PolicyEntry", "Settings", "load", "parse", "parse_yaml", "read_yaml"]

MAX_BYTES = 1 << 20


class Settings(BaseModel):
    """A frozen value from a settings file: no unknown keys, no NaN or infinity, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True, hide_input_in_errors=True)


class PartialSettings(Settings):
    """Some keys of a section whose other keys another class reads and checks: these are skipped here."""

    model_config = ConfigDict(extra="ignore")


class PolicyEntry(Settings):
    """An entry of policy that a program may propose, and that counts only once a person has accepted it.

    Attributes:
        proposed: What proposed it, and from what; "" if nothing did, or it is accepted.
        accepted: Who accepted it, and when; "" if it was never only proposed.

    Raises:
        ValueError: It is both.
    """

    proposed: str = ""
    accepted: str = ""

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse an entry that is both proposed and accepted."""
        if self.proposed and self.accepted:
            raise ValueError("expected proposed or accepted, got both")


MARKS = frozenset(("proposed", "accepted"))
"""Keys of an entry that say where it comes from, and nothing about what is measured."""

S = TypeVar("S", bound=Settings)


def read_yaml(path: Path) -> Any:
    """The value of a YAML file: plain data only, no tags that build objects, no duplicate keys, no aliases.

    Raises:
        ConfigError: The file is missing, too long, not UTF-8, or not YAML.
    """
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a settings file, got none ({error.strerror})",
            remedy=f"Run it in the project's folder, which has this file; if it is lost there: git checkout {path}",
        ) from error
    with suggest(_what_changed(path)):
        return parse_yaml(data, str(path))


def parse_yaml(data: bytes, where: str) -> Any:
    """The value of YAML in memory; see `read_yaml`.

    Raises:
        ConfigError: It is too long, not UTF-8, or not YAML.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{where}: expected at most {MAX_BYTES} bytes, got more")
    try:
        data.decode()  # YAML may be UTF-16 as well; who changes a file as text must have read the same
        return yaml.load(data, _StrictLoader)  # noqa: S506 - a SafeLoader underneath
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: expected YAML, got something else ({_one_line(error)})") from error


def parse(kind: type[S], value: Any, where: str) -> S:
    """The settings of the class `kind` that plain data describes.

    Args:
        kind: The class to build.
        value: Plain data, from `read_yaml` or `parse_json`.
        where: The file and the place in it, for the message.

    Raises:
        ConfigError: A key is unknown or missing, or a value is not allowed; the message names the first five.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected keys and values, got {type(value).__name__}")
    try:
        # Lists become tuples and whole numbers floats, which YAML cannot express. All else is strict.
        return kind.model_validate_json(_as_json(value))
    except ValidationError as error:
        items = sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
        complaints = [
            _error_message(kind, item) for item in items[:5]
        ]  # the search for the nearest key takes milliseconds
        raise ConfigError(f"{where}: " + "; ".join(complaints)) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{where}: {_one_line(error)}") from error


def load(kind: type[S], path: Path, *, section: str = "") -> S:
    """The settings of `kind` in the YAML file at `path`, or in one top-level section of it.

    Raises:
        ConfigError: As `read_yaml` and `parse`; or the section is missing.
    """
    value = read_yaml(path)
    if section:
        if not isinstance(value, dict) or section not in value:
            raise ConfigError(f"{path}: expected a section '{section}', got none", remedy=_what_changed(path))
        value = value[section]
    with suggest(_what_changed(path)):
        return parse(kind, value, f"{path}: {section}" if section else str(path))


def _what_changed(path: Path) -> str:
    return f"Correct the file, and run the same command again. What was changed in it: git diff {path}"


def _as_json(value: Any) -> str:
    return json.dumps(value, default=str, allow_nan=True)


def _error_message(kind: type[Settings], item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] in ("union_tag_not_found", "union_tag_invalid"):
        context = item["ctx"]  # of a section that says by one of its keys what else is in it
        key = context["discriminator"].strip("'")
        return f"{place}.{key}: expected {context.get('expected_tags', 'one')}, got {context.get('tag', 'none')!r}"
    if item["type"] != "extra_forbidden":
        message = item["msg"].removeprefix("Value error, ")
        message = f"{message[:1].lower()}{message[1:]}"
        return f"{place}: {message}" if place else message
    near = difflib.get_close_matches(str(item["loc"][-1]), sorted(_known_keys(kind)), n=1)
    return f"{place}: unknown key" + (f"; did you mean '{near[0]}'?" if near else "")


def _known_keys(kind: type[Settings]) -> set[str]:
    """Every key in the schema of `kind`, at any depth."""
    schema = kind.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return {key for part in parts for key in part.get("properties", {})}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


class _StrictLoader(yaml.SafeLoader):
    """YAML as plain data with unique keys: in YAML 1.1 a duplicate key replaces the first, and aliases can explode."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"key given twice: {', '.join(sorted(twice))}")
        return super().construct_mapping(node, deep)


# What a plain word is, by YAML 1.2 (core schema, 10.3.2), by which DVC reads params.yaml too. PyYAML has 1.1: a column
# called No is false there, 6e-05 is text, 010 is 8, and 1:30 is 90. A number with zeros before it is text here.
_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _form, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+)\Z", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z", list("-+.0123456789")),
    ("float", r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z", list("-+.")),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_form), _first)
