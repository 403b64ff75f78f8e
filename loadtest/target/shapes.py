"""The shapes of a model's inputs: how many rows a request may have, and how many tokens a row.

Pure arithmetic on dims. A model with ``max_batch_size`` 0 has no batch dimension beside its dims; there the first of
its dims counts the rows (of tokens: if there are two or more).
"""

from __future__ import annotations

from collections.abc import Iterable

from loadtest.errors import TargetError, UsageError
from loadtest.target.roles import TEXT


def rows_dim(dims: tuple[int, ...], role: str, max_batch_size: int) -> int | None:
    """The dim that counts rows, -1 for any number; None if a request is one row without such a dim."""
    if max_batch_size > 0:
        return -1
    if not dims or (role != TEXT and len(dims) == 1):
        return None
    return dims[0]


def row_dims(dims: tuple[int, ...], role: str, max_batch_size: int) -> tuple[int, ...]:
    """The dims of one row."""
    return dims if max_batch_size > 0 or rows_dim(dims, role, max_batch_size) is None else dims[1:]


def shape(
    dims: tuple[int, ...], role: str, max_batch_size: int, *, batch_size: int, length: int = 1
) -> tuple[int, ...]:
    """The shape of an input in a request of ``batch_size`` rows of ``length`` tokens."""
    row = [1 if dim < 0 else dim for dim in row_dims(dims, role, max_batch_size)]
    if row and role != TEXT:
        row[-1] = length
    leading = () if rows_dim(dims, role, max_batch_size) is None else (batch_size,)
    return (*leading, *row)


def check_row(name: str, dims: tuple[int, ...], role: str, max_batch_size: int) -> None:
    """Whether a row is one text, or one line of tokens.

    Raises:
        TargetError: it is not.
    """
    row = row_dims(dims, role, max_batch_size)
    other = row if role == TEXT else row[:-1]
    if any(dim not in (1, -1) for dim in other) or (role != TEXT and not row):
        what = "one text" if role == TEXT else "one line of tokens"
        raise TargetError(
            f"input {name!r} has dims {list(dims)} with max_batch_size {max_batch_size}: expected rows of {what} each"
        )


def fixed_length(inputs: Iterable[tuple[str, tuple[int, ...], str]], max_batch_size: int) -> int | None:
    """Tokens of every row where the model fixes them; None if it takes any number.

    Args:
        inputs: name, dims and role of each.
        max_batch_size: of the model.

    Raises:
        TargetError: its inputs have different ones.
    """
    lengths = {
        name: row_dims(dims, role, max_batch_size)[-1]
        for name, dims, role in inputs
        if role != TEXT and row_dims(dims, role, max_batch_size)[-1] > 0
    }
    if len(set(lengths.values())) > 1:
        named = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise TargetError(f"the inputs have rows of different lengths: {named}; expected one length for all")
    return next(iter(lengths.values()), None)


def check_rows(model: str, max_batch_size: int, rows: int | None, batch_size: int) -> None:
    """Whether a request may have ``batch_size`` rows.

    Args:
        model: its name, for messages.
        max_batch_size: of the model.
        rows: what `rows_dim` says of its inputs.
        batch_size: rows wanted.

    Raises:
        UsageError: it may not.
    """
    if max_batch_size > 0:
        if batch_size > max_batch_size:
            raise UsageError(
                f"batch size {batch_size}: model {model!r} takes at most {max_batch_size} (max_batch_size in its "
                "config): take a smaller size, or raise it there"
            )
    elif rows != -1 and batch_size != (only := rows or 1):
        raise UsageError(
            f"batch size {batch_size}: model {model!r} has max_batch_size 0 and dims that hold exactly {only} "
            f"row{'' if only == 1 else 's'}: take batch size {only}"
        )
