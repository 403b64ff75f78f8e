"""What each input of a model is for: text, token ids, their mask, their types; by given names, else by usual ones.

Owns the usual names and the words that ask for the others. Knows configs, not servers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bert_triton_client.answers import TensorInfo
from loadtest.cell import TensorNames
from loadtest.errors import TargetError, UsageError

TEXT = "text"
INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
TOKEN_TYPE_IDS = "token_type_ids"

INTEGERS = ("INT32", "INT64")


@dataclass(frozen=True)
class Role:
    """One use of an input.

    Attributes:
        name: as in `InputTensor.role`.
        flag: names the tensor on the command line.
        datatypes: it may have.
        usual_names: in lower case.
    """

    name: str
    flag: str
    datatypes: tuple[str, ...]
    usual_names: tuple[str, ...]


ROLES: Mapping[str, Role] = {
    role.name: role
    for role in (
        Role(TEXT, "--text-tensor", ("BYTES",), ("text", "texts", "input_text", "sentence")),
        Role(
            INPUT_IDS,
            "--input-ids-tensor",
            INTEGERS,
            ("input_ids", "ids", "tokens", "token_ids", "input_tokens", "input_word_ids"),
        ),
        Role(
            ATTENTION_MASK,
            "--attention-mask-tensor",
            INTEGERS,
            ("attention_mask", "input_mask", "mask", "attn_mask", "masks"),
        ),
        Role(
            TOKEN_TYPE_IDS,
            "--token-type-ids-tensor",
            INTEGERS,
            ("token_type_ids", "segment_ids", "input_type_ids", "type_ids", "token_types"),
        ),
    )
}
OUTPUT_FLAG = "--output-tensor"


def assign(model: str, inputs: Sequence[TensorInfo], names: TensorNames) -> dict[str, TensorInfo]:
    """The input of each role; inputs that are optional and have no known role are left out.

    Args:
        model: its name, for messages.
        inputs: all of the model's.
        names: win over usual names.

    Raises:
        UsageError: a given name is not an input's, is given twice, or its datatype does not fit.
        TargetError: a required input has no known role, or none is text or token ids.
    """
    found = _given(model, inputs, names)
    if TEXT in found or not found:
        found |= _usual(inputs, [TEXT], found) or _only(inputs, TEXT, found)
    if TEXT not in found:
        found |= _usual(inputs, [INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS], found)
        if not found and len(inputs) == 1:
            found |= _only(inputs, INPUT_IDS, found)
    _check(model, inputs, found)
    return found


def _given(model: str, inputs: Sequence[TensorInfo], names: TensorNames) -> dict[str, TensorInfo]:
    by_name = {tensor.name: tensor for tensor in inputs}
    found: dict[str, TensorInfo] = {}
    for role in ROLES.values():
        name = getattr(names, role.name)
        if name is None:
            continue
        if name not in by_name:
            raise UsageError(f"{role.flag} {name}: model {model!r} has no such input; it has {listed(inputs)}")
        tensor = by_name[name]
        if tensor.datatype not in role.datatypes:
            raise UsageError(
                f"{role.flag} {name}: this input of model {model!r} is {tensor.datatype}, "
                f"expected {' or '.join(role.datatypes)}; it has {listed(inputs)}"
            )
        if tensor in found.values():
            raise UsageError(f"{role.flag} {name}: the same input is already given another role; name another")
        found[role.name] = tensor
    if TEXT in found and len(found) > 1:
        raise UsageError(
            f"{ROLES[TEXT].flag} and a flag for token ids are both given: a request is text or tensors, take one"
        )
    return found


def _usual(
    inputs: Sequence[TensorInfo], roles: Sequence[str], taken: Mapping[str, TensorInfo]
) -> dict[str, TensorInfo]:
    free = [tensor for tensor in inputs if tensor not in taken.values()]
    found: dict[str, TensorInfo] = {}
    for role in (ROLES[name] for name in roles if name not in taken):
        for usual in role.usual_names:
            fits = [t for t in free if _plain(t.name) == usual and t.datatype in role.datatypes]
            if fits:
                found[role.name] = fits[0]
                break
    return found


def _only(inputs: Sequence[TensorInfo], role: str, taken: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """The only input whose datatype fits the role."""
    fits = [tensor for tensor in inputs if tensor.datatype in ROLES[role].datatypes]
    return {role: fits[0]} if len(fits) == 1 and role not in taken else {}


def _plain(name: str) -> str:
    """A name without what exporters add: ``Input-IDs:0`` is ``input_ids``."""
    return name.lower().removesuffix(":0").replace("-", "_").replace(".", "_")


def _check(model: str, inputs: Sequence[TensorInfo], found: Mapping[str, TensorInfo]) -> None:
    unknown = [tensor for tensor in inputs if tensor not in found.values() and not tensor.optional]
    if not unknown and (TEXT in found or INPUT_IDS in found):
        return
    if not inputs:
        raise TargetError(f"model {model!r} has no inputs: give its config.pbtxt inputs, or name another model")
    flags = ", ".join(role.flag for role in ROLES.values() if role.name not in found)
    what = f"input {listed(unknown)} is" if len(unknown) == 1 else f"inputs {listed(unknown)} are"
    if not unknown:
        what = "which input takes text or token ids is"
    raise TargetError(
        f"model {model!r} has {listed(inputs)}; {what} of unknown use: say what for with {flags}, or name a model "
        "that takes text or token ids alone"
    )


def listed(tensors: Sequence[TensorInfo]) -> str:
    """Tensors with datatype and dims, as messages name them."""
    return ", ".join(
        f"{tensor.name} ({tensor.datatype} {list(tensor.dims)}{', optional' if tensor.optional else ''})"
        for tensor in tensors
    )
