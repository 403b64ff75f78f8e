"""Every failure of export, as one tree that branches by what the caller can do about it.

    ExportError
    ├── InputError           give something else: a flag, a checkpoint, a task, labels, a file of texts
    │   ├── UsageError       a flag (or an environment variable) has a value that cannot be
    │   ├── CheckpointError  no such model, or one that cannot be loaded
    │   │   └── TaskError    a sound checkpoint of another task
    │   ├── LabelError       labels missing, malformed, or not those the served model has
    │   └── DataError        labelled text that cannot be read
    ├── QualityError         the graph is not good enough to be published: look at it, or allow it by name
    │   ├── EngineError      the engine to serve it is missing, or cannot run it on this CPU
    │   ├── FusionError      the optimiser fused nothing
    │   └── GateError        a precision failed a gate
    └── RepositoryError      the model repository cannot be read or written: space, permissions, damage
        └── RepositoryBusyError   another export holds it: wait

Every message says what happened, the offending value, what was expected and what to do. All of them pickle.
"""

from __future__ import annotations


class ExportError(Exception):
    """Root of everything that export raises on purpose."""


class InputError(ExportError):
    """What export was given cannot be exported."""


class UsageError(InputError):
    """A flag has a value that cannot be.

    Attributes:
        flag: the flag (``--max-batch-size``) or the field of config.pbtxt.
        value: what it was.
        expected: what it may be.
    """

    def __init__(self, flag: str, value: object, expected: str) -> None:
        super().__init__(flag, value, expected)
        self.flag = flag
        self.value = value
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.flag}: {self.value!r} cannot be used; expected {self.expected}"


class CheckpointError(InputError):
    """There is no such checkpoint, or it cannot be loaded."""


class TaskError(CheckpointError):
    """The checkpoint was made for another task."""


class LabelError(InputError):
    """Labels are missing, malformed, or differ from those of the model that is served."""


class DataError(InputError):
    """Labelled or calibration text cannot be read."""


class QualityError(ExportError):
    """What was built is not good enough to be published."""


class EngineError(QualityError):
    """No engine of this machine can run a precision."""


class FusionError(QualityError):
    """ONNX Runtime's optimiser did not fuse what a BERT must have fused."""


class GateError(QualityError):
    """A precision failed a gate and is not published.

    Attributes:
        gate: the gate's name, as ``--allow`` takes it.
        value: what was measured; None when it could not be measured.
        limit: what was allowed.
        precision: the precision that failed.
        detail: a further sentence, for example the text that failed.
    """

    def __init__(self, gate: str, value: float | None, limit: float | None, precision: str, detail: str = "") -> None:
        super().__init__(gate, value, limit, precision, detail)
        self.gate = gate
        self.value = value
        self.limit = limit
        self.precision = precision
        self.detail = detail

    def __str__(self) -> str:
        value = "not measurable" if self.value is None else f"{self.value:.6g}"
        limit = "" if self.limit is None else f", limit {self.limit:.6g}"
        detail = f" ({self.detail})" if self.detail else ""
        return (
            f"{self.precision} is not published: gate {self.gate}: {value}{limit}{detail}; "
            f"improve the model, leave {self.precision} out, or override with --allow {self.gate}"
        )


class RepositoryError(ExportError):
    """The model repository cannot be read or written as it should."""


class RepositoryBusyError(RepositoryError):
    """Another export is at work in the same model repository."""
