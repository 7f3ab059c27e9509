"""The little of DNS that an agent reads and writes (RFC 1035, RFC 6891): a question, and answers of three types. Pure.

Messages of others are passed on as they are; only their ends are looked for, never past the end of what was sent.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

SMALLEST: Final = 512
"""Bytes that everybody takes over UDP."""
LARGEST: Final = 65535
HEADER: Final = struct.Struct("!6H")
_FIXED: Final = struct.Struct("!HHIH")
_QUESTION: Final = struct.Struct("!HH")
_RESPONSE, _AUTHORITATIVE, _TRUNCATED = 0x8000, 0x0400, 0x0200
_RECURSION_DESIRED, _RECURSION_AVAILABLE, _CHECKING_DISABLED = 0x0100, 0x0080, 0x0010
_OPCODE: Final = 0x7800
_INTERNET: Final = 1
_OPT: Final = 41
_LONGEST_NAME: Final = 255
_LONGEST_LABEL: Final = 63
_POINTER: Final = 0xC000
_QUESTION_AT: Final = HEADER.size


class MessageError(ValueError):
    """Not a query that can be answered."""


class Type(IntEnum):
    """Records that are made here."""

    A = 1
    CNAME = 5
    AAAA = 28


class Code(IntEnum):
    """What became of a query."""

    NO_ERROR = 0
    FORMAT_ERROR = 1
    SERVER_FAILURE = 2
    NOT_IMPLEMENTED = 4


@dataclass(frozen=True, slots=True)
class Query:
    """A query with one question."""

    id: int
    flags: int
    question: bytes
    """As it was sent: clients compare the case of letters, too."""
    name: str
    """In lower case, with the dot at the end."""
    type: int
    class_: int
    size: int
    """Bytes of the largest answer over UDP."""
    extended: bool
    """It speaks EDNS."""

    @property
    def is_internet(self) -> bool:
        """Of the class in which names have addresses."""
        return self.class_ == _INTERNET


def _name(data: bytes, at: int) -> tuple[str, int]:
    """A name that is not compressed, and where it ends. A dot within a label cannot be said, and matches nothing."""
    labels = []
    begin = at
    while True:
        if at >= len(data):
            raise MessageError("the name has no end")
        length = data[at]
        at += 1
        if length == 0:
            break
        if length > _LONGEST_LABEL:
            raise MessageError("a question's name is not compressed")
        if at + length > len(data) or at + length - begin > _LONGEST_NAME:
            raise MessageError("the name is too long")
        labels.append(data[at : at + length].decode("latin-1").replace(".", "\\."))
        at += length
    return f"{'.'.join(labels)}.".lower(), at


def _past_name(data: bytes, at: int) -> int:
    while at < len(data):
        length = data[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if length == 0:
            return at
    raise MessageError("the name has no end")


def _extended(data: bytes, at: int, records: int) -> tuple[int, bool]:
    """The size that the OPT record states, if there is one."""
    for _ in range(records):
        at = _past_name(data, at)
        if at + _FIXED.size > len(data):
            raise MessageError("a record has no end")
        kind, size, _, length = _FIXED.unpack_from(data, at)
        if kind == _OPT:
            return max(size, SMALLEST), True
        at += _FIXED.size + length
    return SMALLEST, False


def read_query(data: bytes) -> Query:
    """A query as a client sent it.

    Raises:
        MessageError: it is none, or has not one question.
    """
    if len(data) < HEADER.size:
        raise MessageError("shorter than a header")
    number, flags, questions, *records = HEADER.unpack_from(data)
    if flags & _RESPONSE:
        raise MessageError("an answer, not a query")
    if questions != 1:
        raise MessageError("not one question")
    name, end = _name(data, _QUESTION_AT)
    if end + _QUESTION.size > len(data):
        raise MessageError("the question has no end")
    kind, class_ = _QUESTION.unpack_from(data, end)
    end += _QUESTION.size
    size, extended = _extended(data, end, sum(records))
    return Query(number, flags, data[_QUESTION_AT:end], name, kind, class_, size, extended)


def answers_to(data: bytes, number: int, question: bytes) -> bool:
    """True for an answer with that id to that question, whatever the case of its letters."""
    if len(data) < HEADER.size + len(question):
        return False
    found, flags, questions, *_ = HEADER.unpack_from(data)
    echoed = data[_QUESTION_AT : _QUESTION_AT + len(question)]
    return bool(found == number and flags & _RESPONSE and questions == 1 and echoed.lower() == question.lower())


def with_id(data: bytes, number: int) -> bytes:
    """The same message with another id."""
    return number.to_bytes(2, "big") + data[2:]


def _encoded(name: str) -> bytes:
    labels = [label.encode("latin-1", "replace") for label in name.rstrip(".").split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _flags(query: Query, code: Code) -> int:
    kept = query.flags & (_OPCODE | _RECURSION_DESIRED | _CHECKING_DISABLED)
    return _RESPONSE | kept | _RECURSION_AVAILABLE | code


def _options(query: Query) -> bytes:
    return b"\0" + _FIXED.pack(_OPT, SMALLEST, 0, 0) if query.extended else b""


def failure(query: Query, code: Code = Code.SERVER_FAILURE) -> bytes:
    """An answer that says only what went wrong."""
    options = _options(query)
    return HEADER.pack(query.id, _flags(query, code), 1, 0, 0, len(options) > 0) + query.question + options


def refusal(data: bytes, code: Code = Code.FORMAT_ERROR) -> bytes:
    """An answer to what cannot be read; empty for what must not be answered."""
    if len(data) < HEADER.size or data[2] & 0x80:
        return b""
    number, flags, *_ = HEADER.unpack_from(data)
    return HEADER.pack(number, _RESPONSE | flags & (_OPCODE | _RECURSION_DESIRED) | code, 0, 0, 0, 0)


def answer(
    query: Query,
    addresses: Iterable[IPv4Address | IPv6Address],
    *,
    ttl: int,
    size: int,
    canonical: str = "",
) -> bytes:
    """The addresses of a name that is known here.

    Args:
        query: What was asked.
        addresses: In the order in which they are told; of the type that was asked for.
        ttl: Seconds for which it may be kept.
        size: Bytes that the client takes; what does not fit is left out, and the answer says so.
        canonical: The name that has these addresses, if it is not the one that was asked for.
    """
    options = _options(query)
    body = bytearray(query.question)
    owner = _POINTER | _QUESTION_AT
    told, cut = 0, False
    records: list[tuple[int, bytes]] = [(Type.CNAME, _encoded(canonical))] if canonical else []
    records += [(Type.A if a.version == 4 else Type.AAAA, a.packed) for a in addresses]
    for kind, value in records:
        record = owner.to_bytes(2, "big") + _FIXED.pack(kind, _INTERNET, ttl, len(value)) + value
        if HEADER.size + len(body) + len(record) + len(options) > size:
            cut = True
            break
        if kind == Type.CNAME:
            owner = _POINTER | (HEADER.size + len(body) + 2 + _FIXED.size)
        body += record
        told += 1
    flags = _flags(query, Code.NO_ERROR) | _AUTHORITATIVE | (_TRUNCATED if cut else 0)
    return HEADER.pack(query.id, flags, 1, told, 0, len(options) > 0) + bytes(body) + options


def shortened(data: bytes, query: Query, size: int) -> bytes:
    """An answer of somebody else that fits: too large a one is only said to be."""
    if len(data) <= size:
        return data
    _, flags, *_ = HEADER.unpack_from(data)
    return HEADER.pack(query.id, flags | _TRUNCATED, 1, 0, 0, 0) + query.question
