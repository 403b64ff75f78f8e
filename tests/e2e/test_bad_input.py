"""Bad input against the served demo model, over both protocols: refused clearly, and nobody else suffers."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from server import TritonServer
from tests.e2e.wire import Refusal, Wire

GOOD_TEXT = "A warm, funny and beautifully acted film."
INVALID = {"INVALID_ARGUMENT", "400"}

BAD_TEXTS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "at least one token"),
    "spaces": ("   \t\n  ", "at least one token"),
    "only control characters": ("\x00\x01\x02", "at least one token"),
    "1 MB": ("good " * 200_000, "1000000 bytes"),
    "too many tokens": ("good " * 2_000, "2002 tokens"),
    "invalid UTF-8": (b"\xff\xfe bad", "UTF-8"),
    "half a character": ("é".encode()[:1], "UTF-8"),
    "a surrogate": (b"\xed\xa0\x80", "UTF-8"),
}

ODD_TEXTS = {
    "NUL inside": "a good\x00 film",
    "emoji": "What a film 😍😍👍🏽",
    "only emoji": "👍",
    "right to left": "فيلم رائع جدا",
    "Hebrew": "סרט נפלא",
    "Chinese": "这部电影很好看",
    "combining characters": "e\u0301le\u0301gant",
    "zero-width joiner": "good\u200dfilm",
    "one letter": "a",
    "a word of 400 letters": "a" * 400,
    "markup": "<script>alert('film')</script>",
    "special tokens in the text": "[CLS] [SEP] [PAD] [MASK] good",
}


@pytest.fixture(scope="module", params=["http", "grpc"])
def wire(request: pytest.FixtureRequest, demo_server: TritonServer) -> Iterator[Wire]:
    wire = Wire(request.param, demo_server)
    yield wire
    wire.close()


def refused_twice(call: Callable[[], object]) -> Refusal:
    """The refusal of ``call``, which must be the same the second time (a cache must not answer for it)."""
    refusals = []
    for _ in range(2):
        with pytest.raises(Refusal) as caught:
            call()
        refusals.append(caught.value)
    assert refusals[0].kind == refusals[1].kind
    assert refusals[0].message == refusals[1].message
    return refusals[0]


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_a_bad_text_is_refused_with_its_index_and_the_reason(wire: Wire, case: str) -> None:
    text, reason = BAD_TEXTS[case]
    refusal = refused_twice(lambda: wire.ask([GOOD_TEXT, text]))
    assert refusal.kind in INVALID
    assert "TEXT[1]: " in refusal.message
    assert reason in refusal.message
    assert len(refusal.message) < 500  # says the size, never the whole text
    assert wire.ask([GOOD_TEXT]).labels == ["positive"]


@pytest.mark.parametrize("case", ODD_TEXTS)
def test_an_odd_text_is_answered_like_any_other(wire: Wire, case: str) -> None:
    first, second = (wire.ask([ODD_TEXTS[case]]) for _ in range(2))
    assert first.labels == second.labels
    assert first.labels[0] in {"negative", "positive"}
    assert first.probabilities.sum() == pytest.approx(1.0, abs=1e-5)


def texts(*shape: int) -> np.ndarray:
    return np.full(shape, GOOD_TEXT.encode(), dtype=object)


BAD_REQUESTS: dict[str, tuple[Callable[[Wire], object], set[str], str]] = {
    "dtype FP32": (lambda w: w.infer("sentiment", {"TEXT": np.ones((1, 1), np.float32)}), INVALID, "FP32"),
    "shape [1]": (lambda w: w.infer("sentiment", {"TEXT": texts(1)}), INVALID, "shape"),
    "shape [1,2]": (lambda w: w.infer("sentiment", {"TEXT": texts(1, 2)}), INVALID, "shape"),
    "shape [1,1,1]": (lambda w: w.infer("sentiment", {"TEXT": texts(1, 1, 1)}), INVALID, "shape"),
    "batch over the maximum": (lambda w: w.infer("sentiment", {"TEXT": texts(65, 1)}), INVALID, "64"),
    "unknown input": (lambda w: w.infer("sentiment", {"TXT": texts(1, 1)}), INVALID, "TXT"),
    "unknown model": (lambda w: w.ask([GOOD_TEXT], "sentimint"), {"NOT_FOUND", "400", "404"}, "sentimint"),
    "unknown version": (
        lambda w: w.infer("sentiment", {"TEXT": texts(1, 1)}, version="99"),
        {"NOT_FOUND", "400", "404"},
        "99",
    ),
    "version that is no number": (  # over HTTP it is a path that Triton does not have
        lambda w: w.infer("sentiment", {"TEXT": texts(1, 1)}, version="latest"),
        {*INVALID, "404"},
        "",
    ),
    "tensor model, wrong dtype": (
        lambda w: w.infer("sentiment_int8", dict.fromkeys(TENSORS, np.ones((1, 4), np.int32))),
        INVALID,
        "INT32",
    ),
    "tensor model, a missing input": (
        lambda w: w.infer("sentiment_int8", {"input_ids": np.ones((1, 4), np.int64)}),
        INVALID,
        "input",
    ),
}
TENSORS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_is_refused_naming_the_offending_value(wire: Wire, case: str) -> None:
    call, kinds, named = BAD_REQUESTS[case]
    refusal = refused_twice(lambda: call(wire))
    assert refusal.kind in kinds
    assert named in refusal.message
    assert wire.ask([GOOD_TEXT]).labels == ["positive"]


NOT_COMPUTABLE = {
    "ids outside the vocabulary": {name: np.full((1, 4), 10**9, np.int64) for name in TENSORS},
    "longer than the position embeddings": {name: np.ones((1, 513), np.int64) for name in TENSORS},
}


@pytest.mark.parametrize("case", NOT_COMPUTABLE)
def test_tensors_that_the_graph_cannot_compute_are_an_error_not_a_crash(wire: Wire, case: str) -> None:
    refused_twice(lambda: wire.infer("sentiment_fp32", NOT_COMPUTABLE[case]))
    assert wire.ask([GOOD_TEXT]).labels == ["positive"]


@pytest.mark.parametrize("case", NOT_COMPUTABLE)
def test_openvino_answers_such_tensors_with_not_a_number(wire: Wire, case: str) -> None:
    assert np.isnan(wire.infer("sentiment_int8", NOT_COMPUTABLE[case]).as_numpy("logits")).all()
    assert wire.ask([GOOD_TEXT]).labels == ["positive"]


FUZZED_REQUESTS = 10_000
FUZZ_THREADS = 8


def fuzzed_text(rng: random.Random) -> bytes:
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 60))
    if kind == 1:
        return b" " * rng.randrange(5)
    if kind == 2:
        return "".join(
            chr(rng.choice((rng.randrange(32, 0x2FF), rng.randrange(0x400, 0xD7FF)))) for _ in range(20)
        ).encode()
    if kind == 3:
        return ("x" * rng.randrange(1, 300)).encode()
    if kind == 4:
        return b"good " * rng.randrange(510, 600)  # around and over the limit of tokens
    return b"\x00" * rng.randrange(1, 9)


def test_ten_thousand_fuzzed_requests_spoil_no_good_one(demo_server: TritonServer, demo_texts: list[str]) -> None:
    """Half of the requests are good ones whose answers are known; the other half is garbage, sent at the same time."""
    good_texts = demo_texts[:200]
    reference = Wire("grpc", demo_server)
    expected = dict(zip(good_texts, (reference.ask([text]).labels[0] for text in good_texts), strict=True))
    connections = threading.local()

    def worker(seed: int) -> tuple[int, int, list[str]]:
        rng = random.Random(seed)
        connections.wire = wire = Wire(("http", "grpc")[seed % 2], demo_server)
        answered = refused = 0
        wrong = []
        for _ in range(FUZZED_REQUESTS // FUZZ_THREADS):
            if rng.random() < 0.5:
                text = rng.choice(good_texts)
                try:
                    if wire.ask([text]).labels != [expected[text]]:
                        wrong.append(f"another answer for {text!r}")
                except Refusal as refusal:
                    wrong.append(f"{refusal} for {text!r}")
                answered += 1
                continue
            try:
                wire.ask([fuzzed_text(rng) for _ in range(rng.choice((1, 1, 1, 3)))])
            except Refusal as refusal:
                refused += 1
                if refusal.kind not in INVALID:
                    wrong.append(str(refusal))
        wire.close()
        return answered, refused, wrong

    with ThreadPoolExecutor(FUZZ_THREADS) as pool:
        results = list(pool.map(worker, range(FUZZ_THREADS)))
    assert [problem for result in results for problem in result[2]] == []
    assert sum(result[0] for result in results) > FUZZED_REQUESTS / 3
    assert sum(result[1] for result in results) > FUZZED_REQUESTS / 10
    assert reference.client.is_server_ready()
    assert reference.client.is_model_ready("sentiment")
    assert [reference.ask([text]).labels[0] for text in good_texts] == list(expected.values())
    reference.close()
