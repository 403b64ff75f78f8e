"""Token ids of one execution as the arrays the tensor model takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
TOKEN_TYPE_IDS = "token_type_ids"
TENSOR_INPUTS = (INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS)

Int64Array = npt.NDArray[np.int64]


def padded(rows: Sequence[Sequence[int]], names: Sequence[str], pad_token_id: int) -> dict[str, Int64Array]:
    """Pad ``rows`` on the right to the longest of them.

    Args:
        rows: token ids of each text; at least one row, none empty.
        names: which of `TENSOR_INPUTS` to build.
        pad_token_id: fills ``input_ids`` where a row is short.

    Returns:
        int64[batch_size, sequence_length] for each name. ``token_type_ids`` are all 0: one text a row.
    """
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    shape = (len(rows), int(lengths.max()))
    real = np.arange(shape[1]) < lengths[:, None]
    arrays: dict[str, Int64Array] = {}
    if INPUT_IDS in names:
        input_ids = np.full(shape, pad_token_id, dtype=np.int64)
        input_ids[real] = [token for row in rows for token in row]
        arrays[INPUT_IDS] = input_ids
    if ATTENTION_MASK in names:
        arrays[ATTENTION_MASK] = real.astype(np.int64)
    if TOKEN_TYPE_IDS in names:
        arrays[TOKEN_TYPE_IDS] = np.zeros(shape, dtype=np.int64)
    return {name: arrays[name] for name in names}
