"""What the pages of a Parquet file come to. The end of a file says it too, but what is unpacked is what the pages say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Thrift's compact protocol, in which the headers of pages are written: numbers of its types, and of the fields.
_BOOLS, _BYTE, _INTS, _DOUBLE, _BINARY, _LISTS, _STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 12
_UNPACKED, _PACKED, _DATA_PAGES, _VALUES = 2, 3, (5, 8), 1
# No header of a page nests so deeply, or has so long a list.
_DEEPEST, _LONGEST = 10, 100


@dataclass(frozen=True, slots=True)
class Page:
    """What a header says of its page."""

    unpacked: int
    values: int


def pages_of(data: bytes, start: int, length: int) -> Iterator[Page]:
    """The pages of a column chunk; raises ValueError where there is none."""
    at, end = start, min(start + length, len(data))
    while at < end:
        try:
            header, at = _struct(data, at, 0)
        except (ValueError, IndexError):
            raise ValueError(f"there is no page at byte {at}") from None
        unpacked, packed = header.get(_UNPACKED), header.get(_PACKED)
        if not isinstance(unpacked, int) or not isinstance(packed, int) or min(unpacked, packed) < 0:
            raise ValueError(f"the header of a page before byte {at} does not say how long it is")
        at += packed
        told = [inner for field in _DATA_PAGES if isinstance(inner := header.get(field), dict)]
        yield Page(unpacked, sum(values for inner in told if isinstance(values := inner.get(_VALUES), int)))


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """The numbers and structs of a struct, by field, and where it ends."""
    found: dict[int, Any] = {}
    field = 0
    while (head := data[at]) != 0:
        at += 1
        if head >> 4:
            field += head >> 4
        else:
            field, at = _number(data, at)
        found[field], at = _value(data, at, head & 15, depth)
    return found, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise ValueError
    if kind in _BOOLS:
        return None, at
    if kind == _BYTE:
        return None, at + 1
    if kind in _INTS:
        return _number(data, at)
    if kind == _DOUBLE:
        return None, at + 8
    if kind == _BINARY:
        length, at = _varint(data, at)
        return None, at + length
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind not in _LISTS:
        raise ValueError
    count, of = data[at] >> 4, data[at] & 15
    at += 1
    if count == 15:
        count, at = _varint(data, at)
    if count > _LONGEST:
        raise ValueError
    for _ in range(count):
        _, at = _value(data, at, _BYTE if of in _BOOLS else of, depth + 1)
    return None, at


def _number(data: bytes, at: int) -> tuple[int, int]:
    coded, at = _varint(data, at)
    return (coded >> 1) ^ -(coded & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise ValueError
