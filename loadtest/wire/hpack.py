"""Header compression of HTTP/2 (RFC 7541): a full decoder, and an encoder that keeps no state.

Owns header blocks. Requests are written without the dynamic table, so one block serves every call of every connection.
The decoder has all of the standard, and remembers the blocks that depend on no state: a server that obeys a table size
of 0 sends the same two blocks with every answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from bert_triton_client.errors import UnexpectedAnswerError

DEFAULT_TABLE_SIZE = 4096
_ENTRY_OVERHEAD = 32  # RFC 7541, 4.1
_MAX_REMEMBERED = 64
_MAX_INTEGER = 2**31 - 1

Headers = tuple[tuple[bytes, bytes], ...]

# RFC 7541, appendix A: "name value" or "name", from index 1.
_STATIC = tuple(
    (name, value)
    for name, _, value in (
        line.partition(b" ")
        for line in b""":authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate""".split(b"\n")
    )
)

# RFC 7541, appendix B: bits of the code of every byte, 32 bytes a line, then of the end of a string. The code is
# canonical (shorter codes first, then by symbol), so the lengths say all.
_CODE_LENGTHS = """
13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28
6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10
13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6
15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28
20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24
22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23
26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27
20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26
30
"""
_END_OF_STRING = 256


def _codes() -> dict[int, int]:
    """Symbol of each code; a code has a 1 before its bits, so that codes of different lengths differ."""
    codes, code, before = {}, 0, 0
    for length, symbol in sorted((int(length), symbol) for symbol, length in enumerate(_CODE_LENGTHS.split())):
        code <<= length - before
        codes[1 << length | code] = symbol
        code, before = code + 1, length
    return codes


_SYMBOLS = _codes()
_STATIC_INDEX = {entry: index for index, entry in reversed(list(enumerate(_STATIC, 1)))}
_STATIC_NAME = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC, 1)))}


def encode(headers: Iterable[tuple[str, str]], *, secret: bool = False) -> bytes:
    """A header block that any decoder reads at any time; ``secret`` headers are kept out of tables further on, too."""
    return b"".join([_encode(name.encode(), value.encode(), secret) for name, value in headers])


def _encode(name: bytes, value: bytes, secret: bool) -> bytes:
    if (name, value) in _STATIC_INDEX and value:
        return _integer(_STATIC_INDEX[name, value], 7, 0x80)
    index = _STATIC_NAME.get(name, 0)
    start = _integer(index, 4, 0x10 if secret else 0)
    return start + (b"" if index else _string(name)) + _string(value)


def table_size_update(size: int) -> bytes:
    """What a header block begins with to change the size of the dynamic table."""
    return _integer(size, 5, 0x20)


def _string(text: bytes) -> bytes:
    return _integer(len(text), 7, 0) + text


def _integer(value: int, prefix_bits: int, flags: int) -> bytes:
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((flags | value,))
    encoded, value = bytearray((flags | most,)), value - most
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


class Decoder:
    """The header blocks of one connection, in the order in which they came."""

    def __init__(self) -> None:
        self._entries: deque[tuple[bytes, bytes]] = deque()
        self._size = 0
        self._max_size = DEFAULT_TABLE_SIZE
        self._remembered: dict[bytes, Headers] = {}

    def decode(self, block: bytes) -> Headers:
        """Names and values.

        Raises:
            UnexpectedAnswerError: the block is broken; nothing that follows it can be read.
        """
        known = self._remembered.get(block)
        if known is not None:
            return known
        reading = _Reading(block)
        headers = self._read(reading)
        if not reading.stateful and len(self._remembered) < _MAX_REMEMBERED:
            self._remembered[block] = headers
        return headers

    def _read(self, reading: _Reading) -> Headers:
        headers = []
        while not reading.ended():
            first = reading.peek()
            if first & 0x80:
                headers.append(self._entry(reading, reading.integer(7)))
            elif first & 0x40:
                headers.append(self._literal(reading, 6))
                self._insert(reading, headers[-1])
            elif first & 0x20:
                self._resize(reading, in_place=not headers)
            else:
                headers.append(self._literal(reading, 4))
        return tuple(headers)

    def _literal(self, reading: _Reading, prefix_bits: int) -> tuple[bytes, bytes]:
        index = reading.integer(prefix_bits)
        name = self._entry(reading, index)[0] if index else reading.string()
        return name, reading.string()

    def _entry(self, reading: _Reading, index: int) -> tuple[bytes, bytes]:
        if 1 <= index <= len(_STATIC):
            return _STATIC[index - 1]
        reading.stateful = True
        if not 0 <= index - len(_STATIC) - 1 < len(self._entries):
            raise _broken(f"index {index} of a table with {len(_STATIC) + len(self._entries)} entries")
        return self._entries[index - len(_STATIC) - 1]

    def _insert(self, reading: _Reading, entry: tuple[bytes, bytes]) -> None:
        if self._max_size:  # else there is nothing to evict and nowhere to put it
            reading.stateful = True
            self._entries.appendleft(entry)
            self._size += _entry_size(entry)
            self._evict()

    def _resize(self, reading: _Reading, *, in_place: bool) -> None:
        reading.stateful = True
        size = reading.integer(5)
        if size > DEFAULT_TABLE_SIZE or not in_place:
            raise _broken(f"a change of table size to {size} {'' if in_place else 'behind a header'}")
        self._max_size = size
        self._remembered.clear()
        self._evict()

    def _evict(self) -> None:
        while self._size > self._max_size:
            self._size -= _entry_size(self._entries.pop())


def _entry_size(entry: tuple[bytes, bytes]) -> int:
    return len(entry[0]) + len(entry[1]) + _ENTRY_OVERHEAD


class _Reading:
    """A place in a block; ``stateful`` once something was read that reads or changes the table."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._at = 0
        self.stateful = False

    def ended(self) -> bool:
        return self._at >= len(self._block)

    def peek(self) -> int:
        if self.ended():
            raise _broken("it ends too early")
        return self._block[self._at]

    def integer(self, prefix_bits: int) -> int:
        most = (1 << prefix_bits) - 1
        value = self.peek() & most
        self._at += 1
        if value < most:
            return value
        shift = 0
        while True:
            byte = self.peek()
            self._at += 1
            value += (byte & 127) << shift
            shift += 7
            if value > _MAX_INTEGER or shift > 35:
                raise _broken("an integer is too large")
            if not byte & 128:
                return value

    def string(self) -> bytes:
        huffman = self.peek() & 0x80
        length = self.integer(7)
        text = self._block[self._at : self._at + length]
        self._at += length
        if len(text) != length:
            raise _broken(f"a string of {length} bytes is cut off")
        return decode_huffman(text) if huffman else text


def decode_huffman(text: bytes) -> bytes:
    """A string in the code of appendix B.

    Raises:
        UnexpectedAnswerError: it is not one.
    """
    decoded, code = bytearray(), 1
    for byte in text:
        for shift in (7, 6, 5, 4, 3, 2, 1, 0):
            code = code << 1 | byte >> shift & 1
            symbol = _SYMBOLS.get(code)
            if symbol is not None:
                if symbol == _END_OF_STRING:
                    raise _broken("a string holds its own end")
                decoded.append(symbol)
                code = 1
    if code > 0xFF or code & (code + 1):  # up to seven ones fill the last byte
        raise _broken("a string is filled up with something else than ones")
    return bytes(decoded)


def _broken(reason: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(f"a header block of the answer is broken: {reason}")
