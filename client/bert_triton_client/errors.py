"""Everything the client raises, branched by what the caller can do about it.

    BertTritonError
    ├── InvalidRequestError        the call is wrong: change it
    │   ├── InvalidConfigError       an option of the client (a URL, a number)
    │   ├── InvalidTextError         one text; `.index` says which
    │   ├── InvalidTensorError       name, dtype or shape of a tensor
    │   │   └── BatchTooLargeError     over the model's max_batch_size
    │   ├── ModelNotFoundError       the server has no such model or version
    │   └── AccessDeniedError        the server or a gateway wants credentials
    ├── UnavailableError           nothing wrong with the call: try again later
    │   ├── ServerUnreachableError   no connection, or it broke, or the model's process is dead
    │   ├── OverloadedError          the model's queue is full or too slow
    │   └── NotReadyError            the model is being loaded or unloaded; `wait_until_ready` waited in vain
    ├── DeadlineExceededError      no answer in time; also a `TimeoutError`
    ├── ServerFaultError           the server broke: look at its log
    ├── UnexpectedAnswerError      an answer, but not one of a text model's
    │   └── WrongProtocolError       gRPC spoken to an HTTP port, or the reverse
    └── ClientClosedError          the client was closed

HTTP and gRPC raise the same class for the same fault (`faults.py` holds the table), with the
foreign exception as ``__cause__``. All of them pickle.
"""

from __future__ import annotations


class BertTritonError(Exception):
    """Root of every error of this package."""


class InvalidRequestError(BertTritonError):
    """The server or the client refused the call; the same call will be refused again."""


class InvalidConfigError(InvalidRequestError):
    """An option of the client has a value that cannot work."""


class InvalidTextError(InvalidRequestError):
    """One text cannot be answered; the others can.

    Attributes:
        index: position of the text in what the caller passed.
        reason: what is wrong with it, without the position.
    """

    def __init__(self, message: str, *, index: int = 0, reason: str | None = None) -> None:
        super().__init__(message)
        self.index = index
        self.reason = message if reason is None else reason


class InvalidTensorError(InvalidRequestError):
    """A tensor's name, dtype or shape is not what the model takes."""


class BatchTooLargeError(InvalidTensorError):
    """More rows than the model's ``max_batch_size``."""


class ModelNotFoundError(InvalidRequestError):
    """The server has no such model, or not in this version, or could not load it."""


class AccessDeniedError(InvalidRequestError):
    """The server, or a gateway before it, restricts this call; see ``ClientConfig.headers``."""


class UnavailableError(BertTritonError):
    """Nothing is wrong with the call; the server cannot take it now."""


class ServerUnreachableError(UnavailableError):
    """No connection could be made, or it broke before the answer was complete, or the model's process is dead."""


class OverloadedError(UnavailableError):
    """The model's queue is full, or the request waited in it for longer than the server allows."""


class NotReadyError(UnavailableError):
    """The model is being loaded or unloaded, or could not be loaded; or the server did not become ready in time.

    From `wait_until_ready`, ``__cause__`` is what the last try met.
    """


class DeadlineExceededError(BertTritonError, TimeoutError):
    """No answer within the time the caller gave."""


class ServerFaultError(BertTritonError):
    """The server failed while it worked on a valid request; its log knows why."""


class UnexpectedAnswerError(BertTritonError):
    """The answer is not what the protocol or the model promises."""


class WrongProtocolError(UnexpectedAnswerError):
    """The port speaks the other protocol."""


class ClientClosedError(BertTritonError):
    """The client was closed before or during the call."""
