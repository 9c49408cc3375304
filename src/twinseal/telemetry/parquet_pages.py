"""The pages of a Parquet file: how much memory a column takes once it is decoded, known before anything is decoded.

The footer says how many bytes a column has, and may say anything. What a decoder allocates for a page is in the header
of that page (Apache Parquet format 2.x, `parquet.thrift`: PageHeader; Thrift's compact protocol). This module reads
these headers and nothing else, so that a file of a few kilobytes that stands for gigabytes is refused unread.

What is counted is what the decoder obeys: it goes from page to page by the same sizes, and stops after as many values.
"""

from __future__ import annotations

from typing import Any, BinaryIO

MAX_HEADER_BYTES = 64 << 10
MAX_PAGES = 100_000
_MAX_NESTING, _MAX_ITEMS = 8, 1000
_I32, _STRUCT = 5, 12
_DICTIONARY, _DATA, _DATA_V2 = 2, 0, 3  # PageType
_HEADER_OF = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}  # field of PageHeader that describes a page of this type
_ENCODING_OF = {_DATA: 2, _DICTIONARY: 2, _DATA_V2: 4}
# Each value costs bytes in the page, or is one of the dictionary's. DELTA_BYTE_ARRAY (7) is not among them: a byte can
# repeat all of the value before it; nor is DELTA_LENGTH_BYTE_ARRAY (6), which pyarrow cannot read as a dictionary.
_ENCODINGS = frozenset({0, 2, 3, 4, 5, 8, 9})


def decoded_bytes(stream: BinaryIO, column: Any, limit: int) -> int:
    """How many bytes the pages of a column have when they are decompressed.

    Args:
        stream: The file.
        column: pyarrow's ColumnChunkMetaData: where the pages begin, and how many values they hold.
        limit: The most bytes that may be.

    Raises:
        ValueError: They are more; the pages hold more values than the column, or are not as the format says.
        OSError: The file cannot be read.
    """
    at, values, total, pages = _first_page(column), 0, 0, 0
    end = at + column.total_compressed_size
    while values < column.num_values and at < end:
        header, length = _page_header(stream, at)
        kind, size, compressed = (_number(header, field) for field in (1, 2, 3))
        at, total, pages = at + length + compressed, total + size, pages + 1
        if total > limit or pages > MAX_PAGES:
            raise ValueError(f"expected a column of at most {limit} bytes in {MAX_PAGES} pages, got more")
        count = _count_values(header, kind)
        if kind == _DICTIONARY and count > size:
            raise ValueError("a dictionary has more values than bytes")
        values += 0 if kind == _DICTIONARY else count
    if values != column.num_values or at > end:
        raise ValueError(f"expected pages with {column.num_values} values, got {values}")
    return total


def _first_page(column: Any) -> int:
    start = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    if start < 0 or column.total_compressed_size < 0 or column.num_values < 0:
        raise ValueError("a column begins nowhere")
    return int(start)


def _count_values(header: dict[int, Any], kind: int) -> int:
    """The number of values of a page; 0 for an index, which is not decoded."""
    if kind not in _HEADER_OF:
        return 0
    about = header.get(_HEADER_OF[kind])
    if not isinstance(about, dict) or _number(about, _ENCODING_OF[kind]) not in _ENCODINGS:
        raise ValueError("a page has no header of its kind, or an encoding that is not read here")
    return _number(about, 1)


def _number(fields: dict[int, Any], field: int) -> int:
    value = fields.get(field)
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError("a size in the header of a page is absent, or out of range")
    return value


def _page_header(stream: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    """The fields of the header at an offset, by their number, and its length."""
    stream.seek(at)
    reader = _Compact(stream.read(MAX_HEADER_BYTES))
    try:
        return reader.struct(0), reader.at
    except IndexError as error:
        raise ValueError(f"the header of a page does not end within {MAX_HEADER_BYTES} bytes") from error


class _Compact:
    """Thrift's compact protocol: 32-bit numbers and structs are kept, all else is stepped over.

    A field that is given twice, or in another type, is refused or void: other readers could take the other one.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            if number in fields or depth > _MAX_NESTING or len(fields) > _MAX_ITEMS:
                raise ValueError("the header of a page has a field twice, or too many")
            fields[number] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int, *, in_list: bool = False) -> Any:
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (1, 2):  # a boolean: in the field's head, or one byte in a list
            self.at += in_list
        elif kind in (4, _I32, 6):
            value = self._zigzag()
            return value if kind == _I32 else None
        elif kind in (3, 7):
            self.at += 1 if kind == 3 else 8
        elif kind == 8:
            length = self._varint()
            self.at += length
        elif kind in (9, 10):
            self._skip_list(depth)
        else:  # maps: no header of a page has one
            raise ValueError("the header of a page has a field of an unknown type")
        return None

    def _skip_list(self, depth: int) -> None:
        head = self._byte()
        count = self._varint() if head >> 4 == 15 else head >> 4
        if count > _MAX_ITEMS or depth > _MAX_NESTING:
            raise ValueError("the header of a page has a list that is too long")
        for _ in range(count):
            self._value(head & 15, depth + 1, in_list=True)

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number in the header of a page is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
