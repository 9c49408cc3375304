r"""Entries put into YAML files that people keep: every byte that is not part of the entry stays as it is.

`edited_yaml` says where things stand, and writes the text of what is new; here it is put in its place. A file need not
be laid out in any way, as long as its entries stand on lines of their own.

    >>> print(with_item("models: [pump-rul] # ours\n", "models", "trafo-rul"), end="")
    models: [pump-rul, trafo-rul] # ours
    >>> print(with_entry("assets:\n  a:\n    x: 1 # one\n", "assets", "b", "x: 2\n"), end="")
    assets:
      a:
        x: 1 # one
    <BLANKLINE>
      b:
        x: 2
    >>> print(with_values("data:\n  path: a    # where\n", ("data",), {"path": "b c.csv"}), end="")
    data:
      path: b c.csv # where
    >>> print(with_key("pump: {at_most: 1_0, proposed: x} # y\n", ("pump",), "proposed", "accepted", "gerda"), end="")
    pump: {at_most: 1_0, accepted: "gerda"} # y
    >>> print(with_key('pump: {accepted: "", proposed: x}\n', ("pump",), "proposed", "accepted", "gerda"), end="")
    pump: {accepted: "gerda", proposed: ''}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinseal.config import parse_yaml
from twinseal.edited_yaml import MappingNode, Node, ScalarNode, SequenceNode, node_of, quoted, text_of
from twinseal.errors import ConfigError, suggest

Place = tuple[str | int, ...]
"""Keys, and numbers in lists, from the top of a file."""


def with_entry(text: str, section: str, key: str, entry: str) -> str:
    """The text with an entry `key` in the mapping `section`, in place of one of that name or after all others.

    Args:
        text: A YAML file.
        section: A key at its top, whose value is a mapping.
        key: Of the entry.
        entry: Its value, as block text that begins in the first column.

    Raises:
        ConfigError: The file is no YAML, or has no such mapping.
    """
    node = _mapping(text, (section,))
    if node.flow_style and node.value:
        raise ConfigError(f"{section}: expected each entry on lines of its own, got all of them in braces")
    if not node.value:  # `assets: {}`
        block = _block("  ", key, entry)
        return text[: node.start_mark.index].rstrip(" ") + "\n" + block + text[node.end_mark.index :].lstrip("\n")
    block = _block(" " * node.value[0][0].start_mark.column, key, entry)
    for name, value in node.value:
        if name.value == key:
            start = text.rfind("\n", 0, name.start_mark.index) + 1
            return text[:start] + block + text[_next_line(text, _end_of(text, value, name)) :]
    end = _next_line(text, _end_of(text, node))
    before = text[:end]
    blocks = any(isinstance(value, MappingNode) and not value.flow_style for _, value in node.value)
    return f"{before}{'' if before.endswith(chr(10)) else chr(10)}{chr(10) if blocks else ''}{block}{text[end:]}"


def with_item(text: str, section: str, item: str) -> str:
    """The text with one more name in the list `section`; unchanged if it is there.

    Raises:
        ConfigError: The file is no YAML, or has no such list.
    """
    node = _node_at(text, (section,))
    if not isinstance(node, SequenceNode) or not node.value:
        raise ConfigError(f"{section}: expected a list of names, got something else")
    if item in [part.value for part in node.value]:
        return text
    at = _end_of(text, node.value[-1])
    if node.flow_style:
        return f"{text[:at]}, {item}{text[at:]}"
    end = _end_of_line(text, at)
    return f"{text[:end]}\n{' ' * node.start_mark.column}- {item}{text[end:]}"


def with_values(text: str, place: Place, values: Mapping[str, Any]) -> str:
    """The text with these values in the mapping at `place`; keys that it does not have come last.

    Raises:
        ConfigError: The file is no YAML, or has no such mapping.
    """
    for key, value in values.items():
        text = _with_value(text, place, key, value)
    return text


def with_key(text: str, place: Place, old: str, new: str, value: str) -> str:
    """The text with `new: "value"` where the key `old` of the mapping at `place` was, with its value.

    Where the mapping has both keys, each keeps its place, and `old` becomes empty.

    Raises:
        ConfigError: The file is no YAML, or has no such mapping or key.
    """
    known = [name.value for name, _ in _mapping(text, place).value]
    if old in known and new in known:
        return with_values(text, place, {old: "", new: quoted(value)})
    for name, item in _mapping(text, place).value:
        if name.value == old:
            entry = text_of({new: quoted(value)}, {}).strip()
            return f"{text[: name.start_mark.index]}{entry}{text[_end_of(text, item, name) :]}"
    raise ConfigError(f"{_in_words(place)}: expected a key '{old}', got none")


def with_line(text: str, place: Place, key: str, value: Mapping[str, Any], comment: str, before: str) -> str:
    """The text with one line `key: {…}  # comment`, in place of the one of that key or after the last.

    Args:
        text: A YAML file.
        place: Of the mapping; its last key may be absent or have no value yet.
        key: Of the line.
        value: Numbers and texts.
        comment: In place of a comment that the line had. Where all is in braces, there is no place for one.
        before: The key beside the mapping before which it comes, if it is absent.

    Raises:
        ConfigError: The file is no YAML, or has no such place.
    """
    holder, section = _mapping(text, place[:-1]), str(place[-1])
    plain = {name: quoted(item) if isinstance(item, str) else item for name, item in value.items()}
    entry = text_of({key: plain}, {}, on_one_line_from=1).strip()
    column = " " * holder.value[0][0].start_mark.column if holder.value else ""
    line = f"{column}  {entry}  # {comment}"
    known = {name.value: (name, node) for name, node in holder.value}
    if section not in known:
        if before not in known:
            raise ConfigError(f"{_in_words(place[:-1])}: expected a key '{before}', got none")
        at = known[before][0].start_mark.index
        new = f"{section}: {{{entry}}}, " if holder.flow_style else f"{section}:\n{line}\n{column}"
        return text[:at] + new + text[at:]
    name, node = known[section]
    if not (isinstance(node, MappingNode) and node.value):
        return _filled(text, name, node, entry, "" if holder.flow_style else line)
    for name, item in node.value:
        if name.value == key:
            return _replaced(text, name, item, entry, comment)
    end = _end_of(text, node.value[-1][1], node.value[-1][0])
    if node.flow_style:
        return f"{text[:end]}, {entry}{text[end:]}"
    end = _end_of_line(text, end)
    return f"{text[:end]}\n{' ' * node.value[0][0].start_mark.column}{entry}  # {comment}{text[end:]}"


def require_value(text: str, expected: Any, where: str) -> None:
    """Refuse a text that does not say what was meant: then the file is laid out in a way that nobody foresaw.

    Raises:
        ConfigError: It says something else; nothing may be written.
    """
    with suggest(f"The file is laid out in an unknown way; nothing was written. Compare: git show HEAD:policy/{where}"):
        if parse_yaml(text.encode(), where) != expected:
            raise ConfigError(f"{where}: expected nothing but the entry to change, got other changes")


def _filled(text: str, name: Node, item: Node, entry: str, line: str) -> str:
    """The text with a first entry where a key has no value, or an empty one: a line, or "" where all is in braces."""
    start, end = text.index(":", name.end_mark.index) + 1, _end_of(text, item, name)
    if not line:
        return f"{text[:start]} {{{entry}}}{text[end:]}"
    stop = _end_of_line(text, end)
    return f"{text[:start]}{text[end:stop]}\n{line}{text[stop:]}"


def _replaced(text: str, name: Node, item: Node, entry: str, comment: str) -> str:
    start, end = name.start_mark.index, _end_of(text, item, name)
    stop = _end_of_line(text, end)
    rest = text[end:stop]
    last = "\r" if rest.endswith("\r") else ""
    if not rest.strip():
        rest = f"  # {comment}{last}"
    elif rest.lstrip().startswith("#"):
        rest = f"{rest[: rest.index('#')]}# {comment}{last}"
    return f"{text[:start]}{entry}{rest}{text[stop:]}"


def _with_value(text: str, place: Place, key: str, value: Any) -> str:
    node = _mapping(text, place)
    indent = " " * (node.value[0][0].start_mark.column if node.value else 2 * len(place))
    new = _value_text(value, indent)
    for name, old in node.value:
        if name.value == key:
            start = text.index(":", name.end_mark.index) + 1
            end = _end_of(text, old, name)
            if " " + text[start:end].strip() == new:
                return text
            rest = text[end:]
            spaces = len(rest) - len(rest.lstrip(" "))
            if "\n" not in new and rest[spaces : spaces + 1] == "#":  # the comment stays in its column, where it can
                rest = " " * max(1, spaces + (end - start) - len(new)) + rest[spaces:]
            return f"{text[:start]}{new}{rest}"
    end = _end_of_line(text, _end_of(text, node))
    return f"{text[:end]}\n{indent}{key}:{new}{text[end:]}"


def _value_text(value: Any, indent: str) -> str:
    """The text after the colon of a key that stands at `indent`."""
    if isinstance(value, Mapping):
        body = text_of(value, {}).rstrip("\n")
        return "".join(f"\n{indent}  {line}" for line in body.split("\n"))
    return " " + text_of({"k": value}, {}).removeprefix("k:").strip()


def _block(indent: str, key: str, entry: str) -> str:
    lines = entry.rstrip("\n").split("\n")
    return f"{indent}{key}:\n" + "".join(f"{indent}  {line}".rstrip() + "\n" for line in lines)


def _mapping(text: str, place: Place) -> MappingNode:
    node = _node_at(text, place)
    if not isinstance(node, MappingNode):
        raise ConfigError(f"{_in_words(place)}: expected keys and values, got something else")
    return node


def _node_at(text: str, place: Place) -> Node:
    node = node_of(text)
    for depth, key in enumerate(place, 1):
        below: list[Node] = []
        if isinstance(key, int):
            below = node.value[key : key + 1] if isinstance(node, SequenceNode) else []
        elif isinstance(node, MappingNode):
            below = [value for name, value in node.value if name.value == key]
        if not below:
            raise ConfigError(f"expected a key '{_in_words(place[:depth])}', got none")
        node = below[0]
    return node


def _in_words(place: Place) -> str:
    return ".".join(map(str, place))


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _next_line(text: str, at: int) -> int:
    return min(_end_of_line(text, at) + 1, len(text))


def _end_of(text: str, node: Node, key: Node | None = None) -> int:
    """Where the text of a node ends: that of its last part, without the comments and blank lines after it.

    Args:
        text: The file.
        node: A part of it.
        key: Whose value it is, if it is one: a value that is left out stands nowhere.
    """
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end_of(text, last[1], last[0]) if isinstance(last, tuple) else _end_of(text, last)
    start, end = int(node.start_mark.index), int(node.end_mark.index)
    if start == end and key is not None:
        return text.index(":", key.end_mark.index) + 1
    return start + len(text[start:end].rstrip("\r\n ")) if isinstance(node, ScalarNode) else end
