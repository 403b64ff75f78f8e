"""manifest.json: what a version folder holds and how it came to be.

One manifest lies in every version folder. Its JSON, format 1:

    format      1
    model       the model's name in the repository, "sentiment_int8"
    version     its version number
    task        Hugging Face's task name
    precision   "fp32" | "fp16" | "bf16" | "int8"; null for a text model
    checkpoint  {name, revision, sha256, licence}: the folder or hub id, the hub's commit, the hash of the
                weights, the licence it states; null where unknown
    opset       {domain: version} of the graph ("" is ONNX's own domain); empty for a text model
    ir_version  of the graph; null for a text model
    tools       {package: version} at export
    gates       [{gate, precision, value, limit, passed, allowed, detail}]: every check, passed or not
    graph       {size_bytes, nodes: {operator: count}, fused: {operator: count}, quantized_matmuls};
                null for a text model
    engine      {name, version, layout, threads, cpu, cpu_features, timings}: what the gates ran on, which is what
                serves the model on a CPU, and how fast it was there; layout is "packed" (padding is dropped inside the
                graph) or "padded", and timings holds {engine, chosen, texts_per_s, texts_per_s_range, one_text_ms,
                rounds} of each engine that the precision was built for; null for a text model, and missing in
                manifests of before it was recorded
    architecture {model_type, layers, hidden_size, heads} as the checkpoint's config states them; null for a text
                model, where no config.json is at hand, and missing in manifests of before it was recorded
    files       {name: SHA-256 as hex} of every other file of the folder

`verify` holds a folder to its manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from bert_triton_client.contract import LABELS_FILE, MANIFEST_FILE
from export.errors import RepositoryError

FORMAT = 1
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class CheckpointSource:
    """Where the weights came from.

    Attributes:
        name: a folder's name or a hub id.
        revision: the hub's commit.
        sha256: of the weights file; of several, of their hashes in the order of their names.
        licence: as the checkpoint states it.
    """

    name: str
    revision: str | None = None
    sha256: str | None = None
    licence: str | None = None


@dataclass(frozen=True)
class GateResult:
    """The outcome of one gate for one precision.

    Attributes:
        gate: the gate's name, as ``--allow`` takes it.
        precision: the precision that was judged.
        value: the number measured; None when it could not be.
        limit: the number it was held to; None when it is only reported.
        passed: whether it kept to the limit.
        allowed: whether it failed and was published all the same, by ``--allow``.
        detail: further numbers.
    """

    gate: str
    precision: str
    value: float | None
    limit: float | None
    passed: bool
    allowed: bool = False
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphReport:
    """What the graph is made of: operators, those the optimiser fused, and the quantised matrix products."""

    size_bytes: int
    nodes: dict[str, int] = field(default_factory=dict)
    fused: dict[str, int] = field(default_factory=dict)
    quantized_matmuls: int = 0


@dataclass(frozen=True)
class EngineTiming:
    """How fast a precision is on one engine; `export.timing` says what was run."""

    engine: str
    chosen: bool
    texts_per_s: float
    texts_per_s_range: tuple[float, float]
    one_text_ms: float
    rounds: int


@dataclass(frozen=True)
class EngineReport:
    """What a precision was judged on, and will be served with on a CPU.

    Attributes:
        name: the engine, as config.pbtxt names its backend.
        version: of its package.
        layout: ``packed`` or ``padded``.
        threads: that the times were measured with.
        cpu: the processor's name.
        cpu_features: those of its instructions that change what a model answers. Gates hold for such a CPU.
        timings: of every engine that the precision was built for.
    """

    name: str
    version: str
    layout: str
    threads: int
    cpu: str
    cpu_features: tuple[str, ...]
    timings: tuple[EngineTiming, ...] = ()


@dataclass(frozen=True)
class ModelArchitecture:
    """What kind of model a checkpoint's config says it is, and how large."""

    model_type: str
    layers: int
    hidden_size: int
    heads: int


@dataclass(frozen=True)
class Manifest:
    """The manifest of one version folder; the module's docstring describes the fields."""

    model: str
    version: int
    task: str
    precision: str | None
    checkpoint: CheckpointSource
    opset: dict[str, int] = field(default_factory=dict)
    ir_version: int | None = None
    tools: dict[str, str] = field(default_factory=dict)
    gates: tuple[GateResult, ...] = ()
    graph: GraphReport | None = None
    files: dict[str, str] = field(default_factory=dict)
    architecture: ModelArchitecture | None = None
    engine: EngineReport | None = None

    def to_json(self) -> str:
        """The text of manifest.json."""
        fields = _json_value({"format": FORMAT, **asdict(self)})
        return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str | Path = MANIFEST_FILE) -> Manifest:
        """Reads the text of a manifest.json; ``source`` names it in errors.

        Raises:
            RepositoryError: it is not a manifest, or one of a format that this version does not know.
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as exc:
            raise RepositoryError(f"{source} is not JSON: {exc}; export this version again") from exc
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            found = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
            raise RepositoryError(
                f"{source} has manifest format {found!r}; expected {FORMAT}: "
                "read it with the release of this project that wrote it, or export this version again"
            )
        fields.pop("format")
        try:
            fields["checkpoint"] = CheckpointSource(**fields["checkpoint"])
            fields["gates"] = tuple(GateResult(**gate) for gate in fields["gates"])
            fields["graph"] = GraphReport(**fields["graph"]) if fields["graph"] else None
            if fields.get("engine"):
                fields["engine"] = _engine(fields["engine"])
            if fields.get("architecture"):
                fields["architecture"] = ModelArchitecture(**fields["architecture"])
            return cls(**fields)
        except (KeyError, TypeError) as exc:
            raise RepositoryError(f"{source} is not a manifest of format {FORMAT}: {exc}; export again") from exc

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a version folder.

        Raises:
            RepositoryError: it is missing, unreadable or malformed.
        """
        path = folder / MANIFEST_FILE
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise RepositoryError(f"{path} cannot be read: {exc}; export this version again") from exc
        return cls.from_json(text, path)

    def write(self, folder: Path) -> None:
        """Writes manifest.json into ``folder``."""
        (folder / MANIFEST_FILE).write_text(self.to_json(), encoding="utf-8")


def _engine(fields: dict[str, Any]) -> EngineReport:
    timings = tuple(
        EngineTiming(**{**timing, "texts_per_s_range": tuple(timing["texts_per_s_range"])})
        for timing in fields["timings"]
    )
    return EngineReport(**{**fields, "cpu_features": tuple(fields["cpu_features"]), "timings": timings})


def tool_versions(packages: Iterable[str]) -> dict[str, str]:
    """The installed version of each distribution; those not installed are left out."""
    installed = {package: next(iter(metadata.distributions(name=package)), None) for package in packages}
    return {package: distribution.version for package, distribution in installed.items() if distribution}


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file of any size, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """What `Manifest.files` must be for ``folder``: every file below it but the manifest, with its SHA-256."""
    return {name: sha256_file(folder / name) for name in _names(folder)}


def verify(folder: Path) -> Manifest:
    """Holds a version folder to its manifest and returns it.

    Raises:
        RepositoryError: a file is missing, changed or not in the manifest, or the manifest itself is unsound.
    """
    manifest = Manifest.read(folder)
    found = set(_names(folder))
    for name in sorted(found | manifest.files.keys()):
        if name not in found:
            raise RepositoryError(f"{folder / name} is missing, but its manifest lists it; export this version again")
        if name not in manifest.files:
            raise RepositoryError(f"{folder / name} is not in the manifest; remove it, or export this version again")
        actual = sha256_file(folder / name)
        if actual != manifest.files[name]:
            raise RepositoryError(
                f"{folder / name} was changed since it was exported: its SHA-256 is {actual}, "
                f"expected {manifest.files[name]}; export this version again"
            )
    return manifest


def read_labels(folder: Path) -> list[str]:
    """The labels in the version folder of a text model, in the order of their ids.

    Raises:
        RepositoryError: they cannot be read.
    """
    path = folder / LABELS_FILE
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise RepositoryError(f"the labels in {path} cannot be read: {exc}; remove that version") from exc
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise RepositoryError(f"{path} holds no list of label names; remove that version")
    return labels


def _json_value(value: Any) -> Any:
    """``value`` as JSON can say it: numpy scalars as numbers, what is not finite as null."""
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _names(folder: Path) -> list[str]:
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in files if name != MANIFEST_FILE)
