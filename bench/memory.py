"""Whether the server's memory stays bounded when no two batches look alike: 10,000 random ones, per engine.

An engine may keep something for every shape it meets (OpenVINO keeps compiled kernels for each number of tokens), so
the batches differ in texts, in padded length and in the length of every text. They go straight to the demo's INT8
tensor model in the real Triton, one at a time over gRPC, and the resident memory of Triton's processes is read along
the way. Run it with ``make bench-memory``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from bench.load import cpu_name
from bench.models import MODELS, exported, newest_version, read_config
from bench.result import publish
from bert_triton_client.contract import ENGINES, tensor_model_name
from server import TritonServer

MODEL, PRECISION = "demo", "int8"
MAX_TEXTS, MAX_LENGTH = 64, 128
MAX_TOKENS = 512  # padded, of a batch: what a text model asks of its tensor model at most
VOCABULARY = 1000
CHECKPOINTS = (0, 0.01, 0.1, 0.25, 0.5, 0.75, 1)
MEGABYTE = 1 << 20

Batch = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """The server's memory at one moment.

    Attributes:
        engine: Triton's backend.
        batches: answered so far.
        shapes: different (texts, padded length) among them.
        token_counts: different numbers of tokens, padding not counted.
        triton_mb: resident memory of tritonserver, in MiB.
        backend_mb: of its backend processes together.
        batches_per_s: since the row before; 0 in the first.
    """

    engine: str
    batches: int
    shapes: int
    token_counts: int
    triton_mb: float
    backend_mb: float
    batches_per_s: float


def masks(count: int, seed: int) -> Iterator[Batch]:
    """``attention_mask`` of random batches: int64[texts, padded length], every row with a length of its own."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        length = int(generator.integers(1, MAX_LENGTH, endpoint=True))
        texts = int(generator.integers(1, min(MAX_TEXTS, MAX_TOKENS // length), endpoint=True))
        lengths = generator.integers(1, length, size=(texts, 1), endpoint=True)
        lengths[0] = length
        yield (np.arange(length) < lengths).astype(np.int64)


def resident_mb(processes: Sequence[psutil.Process]) -> float:
    """Resident memory of processes together, in MiB."""
    return sum(process.memory_info().rss for process in processes) / MEGABYTE


class TensorModel:
    """A tensor model in a running server, called without this project's client: it takes texts.

    Args:
        url: host and port of gRPC.
        name: the model.
        inputs: their names.
    """

    def __init__(self, url: str, name: str, inputs: Sequence[str]) -> None:
        import tritonclient.grpc

        self._grpc = tritonclient.grpc
        self._client = tritonclient.grpc.InferenceServerClient(url)
        self._name = name
        self._inputs = inputs
        self._generator = np.random.default_rng(0)

    def answer(self, mask: Batch) -> None:
        """Sends one batch; raises what tritonclient raises.

        Raises:
            ValueError: the answer is not one row of finite numbers a text.
        """
        arrays = {
            "input_ids": self._generator.integers(0, VOCABULARY, size=mask.shape) * mask,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        tensors = []
        for name in self._inputs:
            tensors.append(self._grpc.InferInput(name, list(mask.shape), "INT64"))
            tensors[-1].set_data_from_numpy(arrays[name])
        logits = self._client.infer(self._name, tensors).as_numpy("logits")
        if len(logits) != len(mask) or not np.isfinite(logits).all():
            raise ValueError(f"{self._name} answered {logits!r} to a batch of shape {mask.shape}")

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()


def measure(engine: str, repository: Path, text_model: str, batches: int, seed: int) -> list[Row]:
    """Sends the batches to one engine's server and reads its memory along the way.

    Args:
        engine: for the rows.
        repository: of a model that was exported for the engine.
        text_model: whose tensor model is called.
        batches: how many.
        seed: of the batches; both engines get the same.
    """
    name = tensor_model_name(text_model, PRECISION)
    config = read_config(repository, name)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).symlink_to((repository / name).resolve(), target_is_directory=True)
        with TritonServer(folder) as server:
            model = TensorModel(server.grpc_url.split("://")[1], name, [tensor.name for tensor in config.input])
            try:
                return list(_rows(engine, model, server.pid, batches, seed))
            finally:
                model.close()


def _rows(engine: str, model: TensorModel, pid: int, batches: int, seed: int) -> Iterator[Row]:
    triton = psutil.Process(pid)
    checkpoints = {round(share * batches) for share in CHECKPOINTS}
    shapes: set[tuple[int, ...]] = set()
    token_counts: set[int] = set()
    since, done_before = time.perf_counter(), 0
    for done, mask in enumerate(masks(batches + 1, seed)):
        if done in checkpoints:
            elapsed_s = time.perf_counter() - since
            rate = (done - done_before) / elapsed_s if done else 0.0
            backends = triton.children(recursive=True)
            row = Row(engine, done, len(shapes), len(token_counts), resident_mb([triton]), resident_mb(backends), rate)
            print(f"  {engine}: {done} batches, {row.backend_mb:.0f} MiB", file=sys.stderr, flush=True)
            yield row
            since, done_before = time.perf_counter(), done
        if done < batches:
            model.answer(mask)
            shapes.add(mask.shape)
            token_counts.add(int(mask.sum()))


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| engine | batches | shapes | token counts | tritonserver MiB | backend process MiB | batches/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        rate = f"{row.batches_per_s:.0f}" if row.batches else ""
        lines.append(
            f"| {row.engine} | {row.batches:,} | {row.shapes:,} | {row.token_counts:,} | {row.triton_mb:.0f} "
            f"| {row.backend_mb:.0f} | {rate} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--engine", nargs="+", default=list(ENGINES[PRECISION]), choices=ENGINES[PRECISION])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rows: list[Row] = []
    versions = []
    for engine in options.engine:
        repository = exported(MODEL, (PRECISION,), engine=engine, serve=PRECISION)
        text_model = MODELS[MODEL].text_model
        size_mb = (
            sum(
                file.stat().st_size
                for file in newest_version(repository, tensor_model_name(text_model, PRECISION)).glob("*.onnx")
            )
            / MEGABYTE
        )
        versions.append(f"{engine} ({size_mb:.0f} MiB of weights)")
        rows += measure(engine, repository, text_model, options.batches, options.seed)
    method = (
        f"{MODELS[MODEL].description}, {PRECISION}, packed, one tensor model in the real Triton, on "
        f"{' and on '.join(versions)}; {options.batches:,} random batches of 1 to {MAX_TEXTS} texts padded to 1 to "
        f"{MAX_LENGTH} tokens, at most {MAX_TOKENS} padded tokens each, one at a time over gRPC; resident memory; "
        f"{cpu_name()}; {time.strftime('%Y-%m-%d')}"
    )
    publish("bench-memory", method, table(rows), rows)


if __name__ == "__main__":
    main()
