"""What one load-generating process asks: a stream of distinct, encoded requests; and whether replies are right.

Puts together `texts` (with `words` and `lengths`) or `tokens` for the rows, `encoding` for the bodies and `replies` for
the checking. No I/O but the reading of a file of texts, once, when it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bert_triton_client.errors import UnexpectedAnswerError
from loadtest.cell import CellSpec
from loadtest.payloads import encoding, texts, tokens
from loadtest.payloads.replies import Rules, decoder, same
from loadtest.target import TEXT_KIND, Target, check_batch_size, roles

if TYPE_CHECKING:
    from bert_triton_client.wire import RawTensor
    from loadtest.wire import Reply, Request


class Payloads:
    """The requests of one process; not thread-safe, cheap enough for the event loop."""

    def __init__(self, spec: CellSpec, target: Target, *, process_index: int = 0) -> None:
        """Prepares the rows.

        Args:
            spec: what to ask.
            target: whom.
            process_index: of this process among those of the cell.

        Raises:
            UsageError: the batch size is more than the model takes, or the file of texts cannot be used.
        """
        check_batch_size(target, spec.batch_size)
        self._spec, self._target = spec, target
        self._inputs, self._counts = _inputs(spec, target, process_index)
        self._encode = encoding.encoder(spec, target)
        self._decode = decoder(spec.protocol)
        self._rules = Rules(target, spec.batch_size)

    def next(self) -> Request:
        """The next request, ``batch_size`` rows that were never sent before (but see `TextSource.repeat_share`)."""
        return self._encode(self._inputs())

    def check(self, reply: Reply) -> str | None:
        """What is wrong with a reply to any of these requests, in one sentence; None if nothing is."""
        try:
            return self._rules.broken(self._decode(reply))
        except UnexpectedAnswerError as exc:
            return str(exc)

    def same(self, first: Reply, second: Reply) -> bool:
        """Whether two replies say the same: equal strings and integers, floats within 1e-2."""
        try:
            return same(self._decode(first), self._decode(second))
        except UnexpectedAnswerError:
            return False

    @property
    def length_counts(self) -> dict[int, int]:
        """How many texts (rows) of each length in words (tokens) were sent; add those of several processes up."""
        return dict(self._counts)

    @property
    def lengths(self) -> str:
        """What was sent: ``words: mean 21.4, p95 47``."""
        return describe_lengths(self._spec, self._target, self._counts)


def _inputs(spec: CellSpec, target: Target, process_index: int) -> tuple[Callable[[], list[RawTensor]], dict[int, int]]:
    """What makes the next request's inputs, and the counts of lengths that it keeps."""
    size = spec.batch_size
    if target.kind == TEXT_KIND:
        source = texts.Texts(spec.texts, process_index)
        of_texts = encoding.text_tensors(target, size)
        return lambda: of_texts([source.next() for _ in range(size)]), source.counts
    ids = next(one for one in target.inputs if one.role == roles.INPUT_IDS)
    rows = tokens.Tokens(
        spec.texts,
        spec.names,
        fixed_length=target.fixed_length,
        id_bytes=encoding.INTEGER_BYTES[ids.datatype],
        process_index=process_index,
    )
    of_rows = encoding.token_tensors(target, size)
    return lambda: of_rows([rows.next() for _ in range(size)]), rows.counts


def describe_lengths(spec: CellSpec, target: Target, counts: dict[int, int]) -> str:
    """`Payloads.lengths` of the requests of any number of processes."""
    if target.kind == TEXT_KIND:
        return texts.describe(spec.texts, counts)
    return tokens.describe(spec.texts, spec.names, target.fixed_length, counts)
