"""HTTP/2 (RFC 9113) from the client's side, with one stream at a time.

Owns settings, flow control in both directions and what a server says out of turn (PING, GOAWAY, SETTINGS). Does not own
what a stream means: that is gRPC's.

What has to be said but can wait (acknowledgements, credit) goes out with the next frames, or before the next wait for
the server, so that a call is one write and, if the answer comes in one piece, one read.
"""

from __future__ import annotations

from collections.abc import Callable

from bert_triton_client.errors import UnexpectedAnswerError
from loadtest.wire import frames, hpack
from loadtest.wire.frames import broken, frame, frame_head
from loadtest.wire.sockets import Stream

# What the server may send ahead, of a stream and of the connection.
WINDOW_BYTES = 2**24
_CREDIT_AFTER_BYTES = WINDOW_BYTES // 2
_MAX_BLOCK_BYTES = 2**18

_GREETING = (
    frames.PREFACE
    + frames.settings_frame(
        {frames.HEADER_TABLE_SIZE: 0, frames.ENABLE_PUSH: 0, frames.INITIAL_WINDOW_SIZE: WINDOW_BYTES}
    )
    + frame(frames.WINDOW_UPDATE, 0, 0, frames.WORD.pack(WINDOW_BYTES - frames.DEFAULT_WINDOW_BYTES))
)


class NotHttp2Error(ConnectionError):
    """The connection ended before the server said anything."""


class Answer:
    """What came back on a stream.

    Attributes:
        headers: the first block; None if none came.
        trailers: the block that ended the stream; None if something else did.
        chunks: the data.
        ended: nothing more will come.
        reset: the error code with which the server ended it; None if it did not.
        send_window: bytes that may still be sent on it.
        owed: bytes received on it for which the server has no credit yet.
    """

    __slots__ = ("chunks", "ended", "headers", "owed", "reset", "send_window", "trailers")

    def __init__(self, send_window: int) -> None:
        self.headers: hpack.Headers | None = None
        self.trailers: hpack.Headers | None = None
        self.chunks: list[bytes] = []
        self.ended = False
        self.reset: int | None = None
        self.send_window = send_window
        self.owed = 0


class Channel:
    """One connection; one stream under way, and perhaps the remains of cancelled ones.

    Args:
        stream: connected; it belongs to the channel from now on.
        wrong_protocol: the error for a server whose first words are not HTTP/2.
    """

    def __init__(self, stream: Stream, wrong_protocol: Callable[[], Exception]) -> None:
        self.usable = True  # for a next call
        self._stream = stream
        self._wrong_protocol = wrong_protocol
        self._greeted = False
        self._decoder = hpack.Decoder()
        self._outbox = bytearray(_GREETING)
        self._rest = b""  # the beginning of a frame
        self._stream_id = -1
        self._answer = Answer(0)
        self._answer.ended = True
        self._block: tuple[int, int, bytearray] | None = None  # stream, flags and bytes of an unfinished header block
        self._window = frames.DEFAULT_WINDOW_BYTES
        self._stream_window = frames.DEFAULT_WINDOW_BYTES
        self._max_frame = frames.SMALLEST_FRAME_BYTES
        self._owed = 0
        self._writing = False
        self._handlers = {
            frames.SETTINGS: self._on_settings,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window_update,
            frames.RST_STREAM: self._on_rst_stream,
            frames.PUSH_PROMISE: self._on_push_promise,
        }

    def exchange(self, block: bytes, message: bytes, deadline_s: float) -> Answer:
        """One request and all of its answer.

        Args:
            block: the request's headers.
            message: its data.
            deadline_s: of `time.monotonic`.

        Raises:
            OSError: the connection broke, or (`TimeoutError`) the answer did not come in time. After the latter the
                channel may still be `usable`.
            UnexpectedAnswerError: the server breaks the rules of HTTP/2.
        """
        self._stream.deadline_s = deadline_s
        self._stream_id += 2
        answer = self._answer = Answer(self._stream_window)
        if self._stream_id >= frames.LAST_STREAM_ID:
            self.usable = False
        try:
            self._request(answer, block, message)
            while not answer.ended:
                self._receive()
        except TimeoutError:
            self._cancel(answer)
            raise
        except BaseException:
            self.usable = False
            raise
        self._stream.used()
        return answer

    def refresh(self) -> None:
        """Before a call: takes notice of what the server said since the last one; `usable` says what came of it."""
        received = self._stream.unasked()
        if received is None:
            return
        try:
            self._take(received)
        except (OSError, UnexpectedAnswerError):
            self.usable = False

    def close(self) -> None:
        """Closes the connection."""
        self.usable = False
        self._stream.close()

    @property
    def greeted(self) -> bool:
        """Whether the server has spoken HTTP/2."""
        return self._greeted

    # --- Sending ---

    def _request(self, answer: Answer, block: bytes, message: bytes) -> None:
        size = len(message)
        head = self._header_frames(block)
        if size > min(self._window, answer.send_window, self._max_frame):
            self._write(head)
            self._send_data(answer, message)
            return
        self._window -= size
        answer.send_window -= size
        self._write(b"%b%b%b" % (head, frame_head(size, frames.DATA, frames.END_STREAM, self._stream_id), message))

    def _header_frames(self, block: bytes) -> bytes:
        if len(block) <= self._max_frame:
            return frame_head(len(block), frames.HEADERS, frames.END_HEADERS, self._stream_id) + block
        parts = [block[at : at + self._max_frame] for at in range(0, len(block), self._max_frame)]
        kinds = [frames.HEADERS] + [frames.CONTINUATION] * (len(parts) - 1)
        flags = [0] * (len(parts) - 1) + [frames.END_HEADERS]
        return b"".join(map(frame, kinds, flags, [self._stream_id] * len(parts), parts))

    def _send_data(self, answer: Answer, message: bytes) -> None:
        view, at = memoryview(message), 0
        while at < len(view) and not answer.ended:
            room = min(self._window, answer.send_window)
            if room <= 0:
                self._receive()
                continue
            at = self._send_frames(answer, view, at, min(len(view), at + room))
        if at < len(view):  # the server has said all it will say without reading the rest
            self._outbox += frame(frames.RST_STREAM, 0, self._stream_id, frames.WORD.pack(frames.NO_ERROR))

    def _send_frames(self, answer: Answer, view: memoryview, at: int, stop: int) -> int:
        parts: list[bytes | memoryview] = []
        self._window -= stop - at
        answer.send_window -= stop - at
        while at < stop:
            payload = view[at : min(stop, at + self._max_frame)]
            at += len(payload)
            flags = frames.END_STREAM if at == len(view) else 0
            parts += (frame_head(len(payload), frames.DATA, flags, self._stream_id), payload)
        self._write(b"".join(parts))
        return at

    def _write(self, data: bytes) -> None:
        if self._outbox:
            data = bytes(self._outbox) + data
            self._outbox.clear()
        self._writing = True  # a write that fails may have sent half a frame
        self._stream.send(data)
        self._writing = False

    def _cancel(self, answer: Answer) -> None:
        """Tells the server that nobody waits any more; what still comes of that stream is passed over."""
        answer.ended = True
        reset = frame(frames.RST_STREAM, 0, self._stream_id, frames.WORD.pack(frames.CANCEL))
        unsaid, self._outbox = bytes(self._outbox), bytearray()
        self.usable = self.usable and not self._writing and self._stream.send_at_once(unsaid + reset)

    # --- Receiving ---

    def _receive(self) -> None:
        if self._outbox:
            self._write(b"")
        self._take(self._stream.receive())

    def _take(self, received: bytes) -> None:
        """Handles all frames that are complete."""
        if not received:
            self.usable = False
            raise (ConnectionError if self._greeted else NotHttp2Error)("the server closed the connection")
        data = self._rest + received if self._rest else received
        at, end = 0, len(data)
        while end - at >= 9:
            high, low, kind, flags, stream_id = frames.FRAME_HEAD.unpack_from(data, at)
            stop = at + 9 + (high << 8 | low)
            if not self._greeted:
                self._check_greeting(kind, flags)
            if stop - at - 9 > frames.SMALLEST_FRAME_BYTES:
                raise broken(
                    f"a frame of {stop - at - 9} bytes, more than the {frames.SMALLEST_FRAME_BYTES} that it may have"
                )
            if stop > end:
                break
            self._handle(kind, flags, stream_id & frames.LAST_STREAM_ID, data[at + 9 : stop])
            at = stop
        self._rest = data[at:]

    def _check_greeting(self, kind: int, flags: int) -> None:
        if kind != frames.SETTINGS or flags & frames.ACK:
            raise self._wrong_protocol()
        self._greeted = True

    def _handle(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block[0]):
            raise broken(f"a frame of type {kind} inside a header block")
        if kind == frames.DATA:
            self._on_data(flags, stream_id, payload)
        elif kind == frames.HEADERS:
            payload = frames.unpadded(flags, payload)
            self._on_block(stream_id, flags, payload[5:] if flags & frames.WITH_PRIORITY else payload)
        elif kind == frames.CONTINUATION:
            self._on_continuation(flags, stream_id, payload)
        elif kind in self._handlers:
            self._handlers[kind](flags, stream_id, payload)
        # Else frames.PRIORITY, or an extension that this client need not know.

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        answer = self._answer_on(stream_id)
        self._owed = self._credit(0, self._owed + len(payload))
        if answer is None:
            return
        answer.owed += len(payload)
        answer.chunks.append(frames.unpadded(flags, payload))
        if flags & frames.END_STREAM:
            answer.ended = True
        else:
            answer.owed = self._credit(stream_id, answer.owed)

    def _credit(self, stream_id: int, owed: int) -> int:
        if owed < _CREDIT_AFTER_BYTES:
            return owed
        self._outbox += frame(frames.WINDOW_UPDATE, 0, stream_id, frames.WORD.pack(owed))
        return 0

    def _answer_on(self, stream_id: int) -> Answer | None:
        """The call that a frame belongs to; None for one that is over.

        Raises:
            UnexpectedAnswerError: there never was such a stream.
        """
        if stream_id == self._stream_id:
            return None if self._answer.ended else self._answer
        if not stream_id & 1 or stream_id > self._stream_id:
            raise broken(f"a frame of stream {stream_id}, which was never opened")
        return None

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None:
            raise broken("the continuation of no header block")
        _, first_flags, block = self._block
        block += payload
        if len(block) > _MAX_BLOCK_BYTES:
            raise broken(f"a header block of more than {_MAX_BLOCK_BYTES} bytes")
        if flags & frames.END_HEADERS:
            self._block = None
            self._on_block(stream_id, first_flags | frames.END_HEADERS, bytes(block))

    def _on_block(self, stream_id: int, flags: int, block: bytes) -> None:
        if not flags & frames.END_HEADERS:
            self._block = (stream_id, flags, bytearray(block))
            return
        headers = self._decoder.decode(block)  # also of cancelled streams: the table is the connection's
        answer = self._answer_on(stream_id)
        if answer is None:
            return
        if flags & frames.END_STREAM:
            answer.ended = True
        if answer.headers is None:
            informational = headers[:1] and headers[0][0] == b":status" and headers[0][1].startswith(b"1")
            answer.headers = None if informational else headers
        elif answer.ended:
            answer.trailers = headers
        else:
            raise broken("a second header block that does not end the stream")

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check(stream_id == 0 and len(payload) % 6 == 0 and not (flags & frames.ACK and payload), "SETTINGS", payload)
        if flags & frames.ACK:
            return
        for key, value in frames.SETTING.iter_unpack(payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                _check(value <= frames.LARGEST_WINDOW_BYTES, "SETTINGS", payload)
                self._answer.send_window += value - self._stream_window  # below 0 is possible and right
                self._stream_window = value
            elif key == frames.MAX_FRAME_SIZE:
                _check(frames.SMALLEST_FRAME_BYTES <= value <= frames.LARGEST_FRAME_BYTES, "SETTINGS", payload)
                self._max_frame = value
        self._outbox += frame(frames.SETTINGS, frames.ACK, 0)

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check(stream_id == 0 and len(payload) == 8, "PING", payload)
        if not flags & frames.ACK:
            self._outbox += frame(frames.PING, frames.ACK, 0, payload)

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        _check(len(payload) == 4, "WINDOW_UPDATE", payload)
        increment = frames.WORD.unpack(payload)[0] & frames.LARGEST_WINDOW_BYTES
        _check(increment > 0, "WINDOW_UPDATE", payload)
        if stream_id == 0:
            self._window += increment
            _check(self._window <= frames.LARGEST_WINDOW_BYTES, "WINDOW_UPDATE", payload)
        elif (answer := self._answer_on(stream_id)) is not None:
            answer.send_window += increment
            _check(answer.send_window <= frames.LARGEST_WINDOW_BYTES, "WINDOW_UPDATE", payload)

    def _on_rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        _check(stream_id != 0 and len(payload) == 4, "RST_STREAM", payload)
        if (answer := self._answer_on(stream_id)) is not None:
            answer.ended = True
            answer.reset = frames.WORD.unpack(payload)[0]

    def _on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        _check(stream_id == 0 and len(payload) >= 8, "GOAWAY", payload)
        self.usable = False
        last_stream_id, code = frames.TWO_WORDS.unpack_from(payload)
        if not self._answer.ended and self._stream_id > last_stream_id & frames.LAST_STREAM_ID:
            words = f": {payload[8:108].decode(errors='replace')}" if payload[8:] else ""
            raise ConnectionError(f"the server goes away without an answer ({frames.error_name(code)}{words})")

    def _on_push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise broken("a PUSH_PROMISE, which the client has ruled out")


def _check(right: bool, what: str, payload: bytes) -> None:
    if not right:
        raise broken(f"{what} with the payload {payload[:32]!r}")
