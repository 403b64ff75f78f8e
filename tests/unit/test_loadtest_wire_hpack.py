"""Header compression against the examples of RFC 7541, appendix C, and against blocks that are broken."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_triton_client.errors import UnexpectedAnswerError
from loadtest.wire import hpack

Pairs = list[tuple[str, str]]

REQUEST_1: Pairs = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
REQUEST_2: Pairs = [*REQUEST_1, ("cache-control", "no-cache")]
REQUEST_3: Pairs = [
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
]
DATE_1, DATE_2 = "Mon, 21 Oct 2013 20:13:21 GMT", "Mon, 21 Oct 2013 20:13:22 GMT"
LOCATION = ("location", "https://www.example.com")
RESPONSE_1: Pairs = [(":status", "302"), ("cache-control", "private"), ("date", DATE_1), LOCATION]
RESPONSE_2: Pairs = [(":status", "307"), ("cache-control", "private"), ("date", DATE_1), LOCATION]
RESPONSE_3: Pairs = [
    (":status", "200"),
    ("cache-control", "private"),
    ("date", DATE_2),
    LOCATION,
    ("content-encoding", "gzip"),
    ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
]

# section: (table size, blocks of one connection with what they say)
EXAMPLES: dict[str, tuple[int, list[tuple[str, Pairs]]]] = {
    "C.2.1": (4096, [("400a637573746f6d2d6b65790d637573746f6d2d686561646572", [("custom-key", "custom-header")])]),
    "C.2.2": (4096, [("040c2f73616d706c652f70617468", [(":path", "/sample/path")])]),
    "C.2.3": (4096, [("100870617373776f726406736563726574", [("password", "secret")])]),
    "C.2.4": (4096, [("82", [(":method", "GET")])]),
    "C.3": (
        4096,
        [
            ("828684410f7777772e6578616d706c652e636f6d", REQUEST_1),
            ("828684be58086e6f2d6361636865", REQUEST_2),
            ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", REQUEST_3),
        ],
    ),
    "C.4": (
        4096,
        [
            ("828684418cf1e3c2e5f23a6ba0ab90f4ff", REQUEST_1),
            ("828684be5886a8eb10649cbf", REQUEST_2),
            ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", REQUEST_3),
        ],
    ),
    "C.5": (
        256,
        [
            (
                "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
                "6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
                RESPONSE_1,
            ),
            ("4803333037c1c0bf", RESPONSE_2),
            (
                "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d41534"
                "44a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
                RESPONSE_3,
            ),
        ],
    ),
    "C.6": (
        256,
        [
            (
                "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
                RESPONSE_1,
            ),
            ("4883640effc1c0bf", RESPONSE_2),
            (
                "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960"
                "d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                RESPONSE_3,
            ),
        ],
    ),
}

# All 256 bytes in order, in the code of appendix B.
ALL_BYTES = base64.b64decode(
    "/8f//Y///+L///4////k///+X///5v///n///+j//+r////z///6f///q////9///+v///7P///t///+7///7////w////H///8v////v///"
    "z////T///9f///2////f///+P///5////r///+1P4/n/r/yr8f6/r+/n/f0suwAImWm3HXn7n3//IP+/8/9Q3b1/BhxY8mXNn0adWvZt3b+H"
    "Hl+c/3/3//w/+f/kX/9HGSQss05unWimo9faxCbe/jz69//7/n/7/9////z//m//9L//n//6P//T//9T//1f//s//+t//9r//7f//3P//u//"
    "/e///r//+////Z///b//6///4P//7v//w///i///H//+T//uf/+x//+X//2f//zf//n///v//9r//u//9P//t//+5//+j//9P//e///V//7v"
    "//vf//4f/9///3///1///s//8H//h//+D//xf//t//+H//93//7//+r//4v//j//+T//+H//y///N///H///g///4f/+v//j//8///8v//o/"
    "//2f//8X///H///yf//97///v///8v//+P//+3//l//4///+b///wf//+H///n///8X//+X//k//8v///R///0////7///4////J///5f/+z"
    "///P//t//83//0//+f//0f//z//+r//6///93//+////T///X///q///p///1///+b///s///7f///P///6P///T///6v///X////3///s//"
    "/9v///u///9////w///7vw=="
)


def pairs(headers: hpack.Headers) -> Pairs:
    return [(name.decode(), value.decode()) for name, value in headers]


@pytest.mark.parametrize("section", EXAMPLES)
def test_the_examples_of_the_standard(section: str) -> None:
    table_size, blocks = EXAMPLES[section]
    decoder = hpack.Decoder()
    decoder.decode(hpack.table_size_update(table_size))
    for encoded, headers in blocks:
        assert pairs(decoder.decode(bytes.fromhex(encoded))) == headers


def test_every_byte_has_its_code() -> None:
    assert hpack.decode_huffman(ALL_BYTES) == bytes(range(256))


@given(
    st.lists(st.tuples(st.text("abc-:", min_size=1), st.text(st.characters(codec="ascii"), max_size=400))),
    st.booleans(),
)
def test_what_is_encoded_can_be_decoded_at_any_time(headers: Pairs, secret: bool) -> None:
    decoder = hpack.Decoder()
    decoder.decode(hpack.table_size_update(0))
    for _ in range(2):
        assert pairs(decoder.decode(hpack.encode(headers, secret=secret))) == headers


def test_common_fields_are_short_and_secrets_stay_out_of_tables() -> None:
    assert hpack.encode([(":method", "POST"), (":scheme", "https")]) == bytes((0x83, 0x87))
    assert hpack.encode([("authorization", "x")], secret=True) == b"\x1f\x08\x01x"


def test_a_block_that_depends_on_the_table_is_read_anew_every_time() -> None:
    decoder = hpack.Decoder()
    for value in (b"first", b"other"):
        decoder.decode(b"\x40\x01a" + bytes((len(value),)) + value)
        assert decoder.decode(b"\xbe") == ((b"a", value),)


def test_a_block_that_fills_the_table_does_so_every_time() -> None:
    decoder = hpack.Decoder()
    first, other = b"\x40\x01a\x01b", b"\x40\x01c\x01d"
    for block in (first, other, first):
        decoder.decode(block)
    assert decoder.decode(b"\xbe\xbf") == ((b"a", b"b"), (b"c", b"d"))


def test_a_block_read_without_a_table_counts_once_there_is_one() -> None:
    decoder = hpack.Decoder()
    block = b"\x40\x01a\x01b"  # "put it into the table", which has no room
    decoder.decode(hpack.table_size_update(0))
    for _ in range(2):
        assert decoder.decode(block) == ((b"a", b"b"),)
    with pytest.raises(UnexpectedAnswerError, match="index 62"):
        decoder.decode(b"\xbe")
    decoder.decode(hpack.table_size_update(4096) + block)
    decoder.decode(block)
    assert decoder.decode(b"\xbf") == ((b"a", b"b"),)


BROKEN = {
    "index 0": b"\x80",
    "an index behind the table": b"\xbe",
    "a string that is cut off": b"\x00\x05abc",
    "no value": b"\x00\x01a",
    "a name of an unfinished length": b"\x00\x7f",
    "an endless integer": b"\x00\x7f" + b"\x80" * 10 + b"\x01",
    "a huge integer": b"\x00\x7f\xff\xff\xff\xff\x7f",
    "the end of a string inside it": b"\x00\x01a\x84\xff\xff\xff\xff",
    "filled with zeros": b"\x00\x01a\x81\x18",
    "filled with a whole byte": b"\x00\x01a\x82\x1f\xff",
    "a table larger than offered": hpack.table_size_update(4097),
    "a table size behind a header": b"\x82" + hpack.table_size_update(0),
}


@pytest.mark.parametrize("block", BROKEN.values(), ids=BROKEN)
def test_a_broken_block_is_a_typed_error(block: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError, match="header block of the answer is broken"):
        hpack.Decoder().decode(block)


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_random_blocks_are_read_or_refused(blocks: list[bytes]) -> None:
    decoder = hpack.Decoder()
    try:
        for block in blocks:
            decoder.decode(block)
    except UnexpectedAnswerError:
        pass
