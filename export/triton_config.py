"""config.pbtxt of the exported models: what each says, and why.

    labels, inputs, ServingOptions ──► tensor_configs ──┐
                                                        ├──► ModelConfig ──► protobuf ──► text, read back
                                       text_configs ────┘

Each model gets three files: ``configs/cpu.pbtxt``, ``configs/gpu.pbtxt`` (Triton picks one with
``--model-config-name``) and ``config.pbtxt``, a copy of one of them. On the CPU a tensor model's backend is the engine
that it was judged on; on a GPU it is ONNX Runtime, which runs every graph. Only keys that mean the same in NVIDIA's C++
backends are written. A text model's config says nothing about the machine it was
made on; a tensor model's says how many threads it may use. Where the files lie is `export.repository`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from bert_triton_client import contract
from export import engines
from export.serving import ServingOptions
from export.triton_messages import (
    DATATYPES,
    Accelerator,
    ModelConfig,
    ModelDynamicBatching,
    ModelInstanceGroup,
    Tensor,
    parse,
    require,
)

__all__ = ["ServingOptions", "parse", "tensor_configs", "text_configs"]

# The version that the served text model calls stays loaded while the next one loads; see export.repository.
TENSOR_VERSIONS = 2
TEXT_VERSIONS = 1
WARMUP_TOKENS = 8

# What TensorRT may compute each precision in. It cannot run ONNX Runtime's dynamically quantised products.
TENSORRT_PRECISION_MODE = {"fp32": "FP32", "fp16": "FP16"}


def tensor_configs(  # noqa: PLR0917 six nouns, each of another type or meaning
    name: str,
    precision: str,
    task: str,
    inputs: Sequence[str],
    labels: Sequence[str],
    options: ServingOptions,
    engine: str = contract.ONNXRUNTIME,
) -> dict[str, str]:
    """The config files of the tensor model of ``name`` in ``precision``: their paths in its folder and their texts.

    Args:
        name: the text model's name; the tensor model's is derived from it.
        precision: a key of ``contract.PRECISIONS``.
        task: Hugging Face's task name.
        inputs: the graph's inputs, a selection of ``contract.TENSOR_INPUTS``.
        labels: the checkpoint's labels, in the order of their ids.
        options: how it is served.
        engine: what computes it on the CPU, one of ``contract.ENGINES[precision]``.

    Raises:
        UsageError: one of these, or a setting derived from them, cannot be.
    """
    _check_request(task, inputs, labels)
    require(precision in contract.PRECISIONS, "--precision", precision, " | ".join(contract.PRECISIONS))
    able = contract.ENGINES[precision]
    require(engine in able, "--engine", engine, f"{' or '.join(able)} for {precision}")
    row = contract.TASKS[task]
    settings = engines.parameters(engine, precision, options.cpu_threads, options.instances_on("cpu"))

    def config(hardware: str) -> ModelConfig:
        on_gpu = hardware == "gpu"
        backend = contract.ONNXRUNTIME if on_gpu else engine
        # Triton's OpenVINO backend fixes the batch size of a model that has a max_batch_size, and then refuses every
        # smaller batch (release 24.10 to 26.08): there the batch is one more free dimension, and Triton forms none.
        batches = backend != contract.OPENVINO
        batch = () if batches else (-1,)
        return ModelConfig(
            name=contract.tensor_model_name(name, precision),
            backend=backend,
            max_batch_size=options.max_batch_size if batches else 0,
            default_model_filename=contract.MODEL_FILE,
            input=tuple(Tensor(tensor, "TYPE_INT64", (*batch, -1)) for tensor in inputs),
            output=(Tensor(row.tensor_output, "TYPE_FP32", (*batch, *_dims(row.tensor_output_dims, labels))),),
            instance_group=ModelInstanceGroup(options.instances_on(hardware), "KIND_GPU" if on_gpu else "KIND_CPU"),
            dynamic_batching=ModelDynamicBatching() if batches else None,
            latest_versions=TENSOR_VERSIONS,
            parameters=() if on_gpu else tuple(settings.items()),
            gpu_execution_accelerator=_accelerator(precision, options) if on_gpu else None,
            warmup_tokens=WARMUP_TOKENS,
        )

    return _files(config, options)


def text_configs(  # noqa: PLR0917 likewise
    name: str,
    task: str,
    served: dict[str, str],
    inputs: Sequence[str],
    labels: Sequence[str],
    max_length: int,
    pad_token_id: int,
    options: ServingOptions,
    packed: Collection[str] = (),
) -> dict[str, str]:
    """The config files of the text model ``name``: their paths in its folder and their texts.

    Args:
        name: the model's name.
        task: Hugging Face's task name.
        served: the precision it calls on each hardware, ``{"cpu": "int8", "gpu": "fp16"}``.
        inputs: the tensor models' inputs, a selection of ``contract.TENSOR_INPUTS``.
        labels: the checkpoint's labels, in the order of their ids.
        max_length: most tokens of a text, special tokens included.
        pad_token_id: the token that fills up shorter texts.
        options: how it is served.
        packed: the precisions whose graph drops the padding.

    Raises:
        UsageError: one of these, or a setting derived from them, cannot be.
    """
    _check_request(task, inputs, labels)
    complete = set(served) == set(contract.PREFERRED_PRECISIONS) and set(served.values()) <= contract.PRECISIONS.keys()
    require(complete, "served", served, f"a precision for each of {', '.join(contract.PREFERRED_PRECISIONS)}")
    require(max_length >= 3, "--max-length", max_length, "at least 3: a token between the two special ones")
    require(pad_token_id >= 0, "pad_token_id", pad_token_id, "a token id")
    row = contract.TASKS[task]

    def config(hardware: str) -> ModelConfig:
        parameters = {
            contract.PARAM_TASK: task,
            contract.PARAM_TENSOR_MODEL: contract.tensor_model_name(name, served[hardware]),
            contract.PARAM_TENSOR_INPUTS: ",".join(inputs),
            contract.PARAM_TENSOR_OUTPUT: row.tensor_output,
            contract.PARAM_MAX_LENGTH: max_length,
            contract.PARAM_OVER_LONG_TEXT: options.over_long_text,
            contract.PARAM_MAX_TEXT_BYTES: options.max_text_bytes,
            contract.PARAM_MAX_TOKENS: options.tokens_per_call(hardware),
            contract.PARAM_PACKED: "true" if served[hardware] in packed else "false",
            contract.PARAM_CALLS_IN_FLIGHT: options.instances_on(hardware) + 1,
            contract.PARAM_MAX_QUEUE_SIZE: options.max_queue_size,
            contract.PARAM_QUEUE_TIMEOUT_MS: options.queue_timeout_ms,
            contract.PARAM_CACHE_SIZE: options.cache_size,
            contract.PARAM_PAD_TOKEN_ID: pad_token_id,
        }
        return ModelConfig(
            name=name,
            backend=contract.TEXT_BACKEND,
            max_batch_size=options.text_batch_size,
            input=tuple(_tensor(spec, labels) for spec in row.inputs),
            output=tuple(_tensor(spec, labels) for spec in row.outputs),
            # Tokenising is work for a CPU on any hardware. No warm-up: its calls would crash Triton at start.
            instance_group=ModelInstanceGroup(options.text_instances, "KIND_CPU"),
            dynamic_batching=ModelDynamicBatching(options.max_queue_delay_us),
            latest_versions=TEXT_VERSIONS,
            parameters=tuple((key, str(value)) for key, value in parameters.items()),
        )

    return _files(config, options)


def _check_request(task: str, inputs: Sequence[str], labels: Sequence[str]) -> None:
    require(task in contract.TASKS, "--task", task, " | ".join(contract.TASKS))
    known = [tensor for tensor in contract.TENSOR_INPUTS if tensor in inputs]
    sound = list(inputs) == known and contract.INPUT_IDS in inputs
    require(
        sound, "inputs", list(inputs), f"{contract.INPUT_IDS} and others of {contract.TENSOR_INPUTS}, in this order"
    )
    require(len(labels) >= 1, "labels", list(labels), "at least one")


def _dims(dims: Sequence[int | str], labels: Sequence[str]) -> tuple[int, ...]:
    return tuple(len(labels) if dim == contract.NUM_LABELS else int(dim) for dim in dims)


def _tensor(spec: contract.TensorSpec, labels: Sequence[str]) -> Tensor:
    return Tensor(spec.name, DATATYPES[spec.datatype], _dims(spec.dims, labels))


def _accelerator(precision: str, options: ServingOptions) -> Accelerator | None:
    """TensorRT where it is asked for and can run the precision; CUDA is what KIND_GPU means by itself."""
    mode = TENSORRT_PRECISION_MODE.get(precision)
    if options.gpu_accelerator != "tensorrt" or mode is None:
        return None
    return Accelerator("tensorrt", (("precision_mode", mode),))


def _files(config: Callable[[str], ModelConfig], options: ServingOptions) -> dict[str, str]:
    variants = {f"configs/{hardware}.pbtxt": config(hardware).to_text() for hardware in contract.PREFERRED_PRECISIONS}
    return {**variants, contract.CONFIG_FILE: variants[f"configs/{options.hardware}.pbtxt"]}
