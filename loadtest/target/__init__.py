"""Who is asked: a model on a server, and everything about it that requests and table rows need.

Owns finding that out through `bert_triton_client`, also from a Triton that this project did not start.
`roles` decides what each input is for, `shapes` how large it may be; `settings` words a row's settings, `faults`
whatever stands in the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bert_triton_client.answers import ModelInfo, ServerInfo, TensorInfo
from bert_triton_client.errors import AccessDeniedError, BertTritonError, ModelNotFoundError, NotReadyError
from loadtest.access import Access
from loadtest.cell import Setting, TensorNames
from loadtest.errors import TargetError, UsageError
from loadtest.target import roles, settings, shapes
from loadtest.target.faults import absent, explained

if TYPE_CHECKING:
    from bert_triton_client.client import Client

TEXT_KIND = "text"
TENSORS_KIND = "tensors"


@dataclass(frozen=True)
class InputTensor:
    """One input that is sent; ``dims`` leaves out the batch dimension, -1 is any size.

    Attributes:
        role: ``text``, ``input_ids``, ``attention_mask`` or ``token_type_ids``.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    role: str


@dataclass(frozen=True)
class Target:
    """One model of one server.

    Attributes:
        url: ``grpc://host:port`` or ``http://host:port``; ``grpcs`` and ``https`` with TLS.
        model: its name in Triton.
        version: the one that answers; "" if the server does not tell.
        kind: `TEXT_KIND` or `TENSORS_KIND`.
        inputs: what is sent; optional inputs of unknown use are left out.
        outputs: what is asked for and promised.
        max_batch_size: 0: the model takes no batch dimension beside its dims.
        tensor_model: of a text model the tensor model behind it; None if there is none.
        triton_version: "" if the server does not tell.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8``; "" if nothing says.
        instances: for example ``1 x KIND_CPU; sentiment_int8: 1 x KIND_CPU, 2 threads``.
        batching: for example ``dynamic, no queue delay, max_batch_size 64`` or ``none``.
        cache: what may answer instead of the model: "", ``response cache``, ``text cache of 10000``.
    """

    url: str
    model: str
    version: str
    kind: str
    inputs: tuple[InputTensor, ...]
    outputs: tuple[TensorInfo, ...]
    max_batch_size: int
    tensor_model: str | None = None
    triton_version: str = ""
    precision: str = ""
    instances: str = ""
    batching: str = ""
    cache: str = ""

    @property
    def fixed_length(self) -> int | None:
        """Tokens of every row where the model fixes them; None if it takes any number, or text."""
        return shapes.fixed_length(((one.name, one.dims, one.role) for one in self.inputs), self.max_batch_size)


def inspect(
    url: str, model: str, *, version: str = "", names: TensorNames, access: Access, timeout_s: float = 10.0
) -> Target:
    """Asks the server about a model.

    Args:
        url: of the server.
        model: its name in Triton.
        version: "" leaves the choice to the server.
        names: tensor names where they are not the usual ones.
        access: headers and certificates.
        timeout_s: for each question.

    Raises:
        UsageError: the URL, the version or the names cannot be.
        TargetError: no such server, model or version; not ready; another protocol; inputs of unknown use.
    """
    if version and not (version.isascii() and version.isdigit() and int(version) > 0):
        raise UsageError(f"version {version!r} of model {model!r}: expected a whole number above 0")
    with access.client(url, model, timeout_s) as client:
        try:
            return _inspect(client, url, model, version, names)
        except (ModelNotFoundError, NotReadyError) as exc:
            raise absent(client, url, model, version, exc) from exc
        except BertTritonError as exc:
            raise explained(url, exc) from exc


def _inspect(client: Client, url: str, model: str, version: str, names: TensorNames) -> Target:
    server = _server(client)
    info = _info(client, model, version)
    told = _from_metadata(client, model, version) if info is None else info
    if told.decoupled or told.sequences:
        what = "answers a request any number of times (decoupled)" if told.decoupled else "takes sequences of requests"
        raise TargetError(f"model {model!r} {what}: expected one that answers each request once, by itself")
    behind = _info(client, told.tensor_model, "") if told.tensor_model else None
    found = roles.assign(model, told.inputs, names)
    target = Target(
        url=url,
        model=model,
        version=version or _version(client, model),
        kind=TEXT_KIND if roles.TEXT in found else TENSORS_KIND,
        inputs=tuple(InputTensor(one.name, one.datatype, one.dims, role) for role, one in found.items()),
        outputs=_outputs(model, told.outputs, names),
        max_batch_size=told.max_batch_size,
        tensor_model=told.tensor_model,
        triton_version=server.version,
        precision=settings.precision(model, info, told.tensor_model),
        instances=settings.instances(info, behind),
        batching=settings.batching(info, behind),
        cache=settings.cache(info, behind),
    )
    _check(target, names)
    return target


def _server(client: Client) -> ServerInfo:
    try:
        return client.server_info()
    except AccessDeniedError:
        return ServerInfo("", "", ())


def _info(client: Client, model: str, version: str) -> ModelInfo | None:
    """A model's config; None if the server restricts configs."""
    try:
        return client.model_info(model, version=version or None)
    except AccessDeniedError:
        return None


def _from_metadata(client: Client, model: str, version: str) -> ModelInfo:
    """What metadata tell of a model: no limits, and dims that count the rows first, as those of max_batch_size 0 do."""
    metadata = client.model_metadata(model, version=version or None)
    return ModelInfo(model, metadata.platform, 0, metadata.inputs, metadata.outputs, {})


def _version(client: Client, model: str) -> str:
    """The version that answers who names none: the highest that is ready; "" if the server restricts both answers."""
    try:
        return client.model_metadata(model).versions[-1]
    except (AccessDeniedError, IndexError):
        pass
    try:
        ready = [one.version for one in client.models() if one.name == model and one.state == "READY"]
    except AccessDeniedError:
        return ""
    return ready[-1] if ready else ""


def _outputs(model: str, outputs: tuple[TensorInfo, ...], names: TensorNames) -> tuple[TensorInfo, ...]:
    """The outputs to ask for."""
    by_name = {output.name: output for output in outputs}
    for name in names.outputs:
        if name not in by_name:
            raise UsageError(
                f"{roles.OUTPUT_FLAG} {name}: model {model!r} has no such output; it has {roles.listed(outputs)}"
            )
    return tuple(by_name[name] for name in dict.fromkeys(names.outputs)) or outputs


def _check(target: Target, names: TensorNames) -> None:
    """Whether rows can be made for the target."""
    for one in target.inputs:
        shapes.check_row(one.name, one.dims, one.role, target.max_batch_size)
    length, wanted = target.fixed_length, names.sequence_length
    if wanted is not None and (wanted < 1 or wanted > (length or wanted)):
        at_most = f", at most the {length} of model {target.model!r}" if length else ""
        raise UsageError(f"--sequence-length {wanted}: expected at least 1 token{at_most}")
    if names.vocabulary_size < 2:
        raise UsageError(f"--vocabulary-size {names.vocabulary_size}: expected at least 2")


def check_batch_size(target: Target, batch_size: int) -> None:
    """Whether requests of ``batch_size`` rows can be asked of the model.

    Raises:
        UsageError: more rows than its ``max_batch_size``, or than its fixed dims hold.
    """
    for one in target.inputs:
        rows = shapes.rows_dim(one.dims, one.role, target.max_batch_size)
        shapes.check_rows(target.model, target.max_batch_size, rows, batch_size)


def setting(target: Target, *, hardware: str, lengths: str) -> Setting:
    """What a cell's row says of the target beside its numbers."""
    return Setting(
        hardware=hardware,
        triton_version=target.triton_version,
        served_version=target.version,
        kind=target.kind,
        precision=target.precision,
        instances=target.instances,
        batching=target.batching,
        lengths=lengths,
    )
