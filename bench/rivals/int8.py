"""The checkpoint as INT8 ONNX, made by the two commands that Optimum's documentation gives: export, then quantize.

Dynamic quantisation with a scale a channel, for the processor's instructions. Optimizing the graph between the two, so
that attention is fused, was tried: Optimum then fails to quantize it, and with ONNX Runtime's own `quantize_dynamic`
the result took as long, to within 8 % of CPU time, on BERT-base at 1 x 32, 1 x 128 and 8 x 48 tokens.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Set
from pathlib import Path

from bench.compare.contestant import Unavailable, Workload
from bench.load import cpu_flags
from bench.models import BENCH, TOKENIZER_FILES

_TIMEOUT_S = 900.0
_LAST_LINES = 3
_STAMP = ".sha256"


def int8_folder(workload: Workload) -> Path:
    """``config.json``, the tokenizer and ``model_quantized.onnx``, an absolute path; made once a checkpoint.

    Raises:
        Unavailable: Optimum failed; the message ends with its last lines.
    """
    target = target_of(cpu_flags())
    folder = (BENCH / "rivals" / f"{workload.model}-int8").resolve()
    digest = _digest(workload.checkpoint, target)
    stamp = folder / _STAMP
    if stamp.exists() and stamp.read_text() == digest:
        return folder
    partial, exported = folder.with_suffix(".partial"), folder.with_suffix(".fp32")
    for old in (folder, partial, exported):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    checkpoint = str(workload.checkpoint)
    _optimum("export", "onnx", "--model", checkpoint, "--task", "text-classification", str(exported))
    _optimum(
        "onnxruntime", "quantize", "--onnx_model", str(exported), f"--{target}", "--per_channel", "-o", str(partial)
    )
    for name in ("config.json", *TOKENIZER_FILES):
        if (workload.checkpoint / name).exists():
            shutil.copy(workload.checkpoint / name, partial / name)
    (partial / _STAMP).write_text(digest)
    shutil.rmtree(exported)
    partial.rename(folder)
    return folder


def target_of(flags: Set[str]) -> str:
    """Optimum's name for the best instructions among the processor's flags, as /proc/cpuinfo names them."""
    if flags & {"avx512_vnni", "avx_vnni", "amx_int8"}:
        return "avx512_vnni"
    return "avx512" if "avx512f" in flags else "avx2"


def _digest(checkpoint: Path, target: str) -> str:
    digest = hashlib.sha256(target.encode())
    for file in sorted(checkpoint.iterdir()):
        status = file.stat()
        digest.update(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _optimum(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("optimum-cli")), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Unavailable(f"optimum-cli {arguments[0]} {arguments[1]}: {exc}") from exc
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise Unavailable(f"optimum-cli {arguments[0]} {arguments[1]}: " + " / ".join(lines[-_LAST_LINES:]))
