"""A model's config in the few words that a table row has room for: precision, instances, batching, caches.

Pure: configs in, words out.
"""

from __future__ import annotations

from bert_triton_client import contract
from bert_triton_client.answers import DynamicBatching, InstanceGroup, ModelInfo

_PRECISIONS = tuple(contract.PRECISIONS)
# Of the tensor models that `python -m export` writes: of each instance with ONNX Runtime, of all with OpenVINO.
_THREADS = "intra_op_thread_count"
_ALL_THREADS = "INFERENCE_NUM_THREADS"
NOT_TOLD = "not told: the server restricts its configs"


def precision(model: str, info: ModelInfo | None, tensor_model: str | None) -> str:
    """From the suffix of a name: the tensor model's, else the model's own, else that of an ensemble's one such step."""
    if said := _suffix(tensor_model or "") or _suffix(model):
        return said
    steps = {said for step in (info.steps if info else ()) if (said := _suffix(step))}
    return steps.pop() if len(steps) == 1 else ""


def _suffix(name: str) -> str:
    return next((one for one in _PRECISIONS if name.endswith(contract.tensor_model_name("", one))), "")


def instances(info: ModelInfo | None, behind: ModelInfo | None) -> str:
    """For example ``1 x KIND_CPU; sentiment_int8: 1 x KIND_CPU, 2 threads``."""
    if info is None:
        return NOT_TOLD
    words = f"ensemble of {', '.join(info.steps)}" if info.steps else _instances(info)
    return words if behind is None else f"{words}; {behind.name}: {_instances(behind)}"


def _instances(info: ModelInfo) -> str:
    groups = " + ".join(_group(group) for group in info.instance_groups) or "default instances"
    threads = info.parameters.get(_THREADS, "")
    every = info.parameters.get(_ALL_THREADS, "")
    if not threads and every.isdigit():
        threads = str(max(1, int(every) // max(1, sum(group.count for group in info.instance_groups))))
    return f"{groups}, {threads} thread{'' if threads == '1' else 's'}" if threads else groups


def _group(group: InstanceGroup) -> str:
    gpus = f" on GPU {', '.join(map(str, group.gpus))}" if group.gpus else ""
    return f"{group.count} x {group.kind}{gpus}"


def batching(info: ModelInfo | None, behind: ModelInfo | None) -> str:
    """For example ``dynamic, no queue delay, max_batch_size 64``; the tensor model's too where it differs."""
    if info is None:
        return NOT_TOLD
    own = _batching(info)
    if behind is None or (other := _batching(behind)) == own:
        return own
    return f"{own}; {behind.name}: {other}"


def _batching(info: ModelInfo) -> str:
    dynamic = info.dynamic_batching
    if dynamic is None:
        return "none"
    words = ["dynamic", _delay(dynamic), f"max_batch_size {info.max_batch_size}"]
    if dynamic.preferred_batch_size not in ((), (info.max_batch_size,)):  # Triton fills in the latter
        words.append(f"preferred {', '.join(map(str, dynamic.preferred_batch_size))}")
    if dynamic.has_queue_policy:
        words.append("queue policy")
    return ", ".join(words)


def _delay(dynamic: DynamicBatching) -> str:
    microseconds = dynamic.max_queue_delay_microseconds
    return f"queue delay {microseconds / 1000:g} ms" if microseconds else "no queue delay"


def cache(info: ModelInfo | None, behind: ModelInfo | None) -> str:
    """What may answer a repeated request instead of the model; "" if nothing does or nothing is known."""
    said = []
    if any(one.response_cache for one in (info, behind) if one is not None):
        said.append("response cache")
    size = info.parameters.get(contract.PARAM_CACHE_SIZE, "0") if info else "0"
    if size != "0":
        said.append(f"text cache of {size}")
    return ", ".join(said)
