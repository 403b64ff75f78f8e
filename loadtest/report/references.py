"""The published tables T1 to T6 as data: the shape to reproduce, never something measured here.

They are published figures for BERT serving without a method: no lengths, no client, no kind of latency, mostly no
hardware. So they are only ever shown in columns of their own, under a head that says "published".
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "published, no method given"
P99_LIMIT_MS = 500.0
MAX_ERROR_RATE = 0.001


@dataclass(frozen=True)
class Method:
    """A row of T1; ``architecture`` is what `ModelFacts.architecture` says of such a model, "" if no BERT is."""

    name: str
    accuracy_percent: float
    sentences_per_s: str
    gpu_memory_gb: float | None
    architecture: str


@dataclass(frozen=True)
class Version:
    """A row of T2; "" as architecture: published does not say which model that is."""

    name: str
    accuracy_percent: float
    size_mb: int
    latency_ms: int
    architecture: str
    precisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchSize:
    """A row of T3."""

    batch_size: int
    gpu_utilisation_percent: int
    sentences_per_s: int
    p99_ms: int


@dataclass(frozen=True)
class Hardware:
    """A row of T4; ``pattern`` is a regular expression that finds it in what a machine says of itself."""

    name: str
    sentences_per_s: int
    p99_ms: int
    pattern: str


@dataclass(frozen=True)
class Option:
    """A row of T5; ``monthly`` is False where the price is paid once."""

    name: str
    price: int
    monthly: bool
    max_qps: int
    per_1000_requests: float


@dataclass(frozen=True)
class Threshold:
    """A row of T6; ``key`` says what of a run it is held against."""

    metric: str
    limit: str
    key: str


UNQUANTISED = ("fp32", "fp16", "bf16", "")

T1 = (
    Method("BERT-base", 92.1, "45", 3.2, "BERT-base"),
    Method("DistilBERT", 90.3, "78", 2.1, "DistilBERT"),
    Method("BERT-tiny", 85.7, "210", 1.1, "BERT-tiny"),
    Method("classic CRF", 82.4, "500+", None, ""),
)
T2 = (
    Version("BERT-base", 92.1, 438, 45, "BERT-base", UNQUANTISED),
    Version("DistilBERT", 90.3, 254, 22, "DistilBERT", UNQUANTISED),
    Version("INT8 quantised", 91.8, 110, 18, "BERT-base", ("int8",)),
    Version("distilled", 89.5, 134, 20, ""),
    Version("pruned 50 %", 88.2, 219, 30, ""),
)
T3 = (
    BatchSize(1, 15, 32, 40),
    BatchSize(8, 45, 142, 65),
    BatchSize(16, 78, 210, 120),
    BatchSize(32, 92, 240, 250),
    BatchSize(64, 95, 260, 480),
)
T4 = (
    Hardware("NVIDIA T4", 120, 35, r"\bT4\b"),
    Hardware("NVIDIA A10G", 240, 25, r"\bA10G\b"),
    Hardware("NVIDIA A100", 480, 15, r"\bA100\b"),
    Hardware("CPU (16 cores)", 18, 120, r"\b16 cores\b.*\bno GPU\b"),
    Hardware("Google TPUv3", 320, 20, r"\bTPU ?v3\b"),
)
T5 = (
    Option("AWS g4dn.xlarge", 200, True, 800, 0.008),
    Option("Azure NC6s_v3", 280, True, 1200, 0.006),
    Option("GCP n1-standard-16 + T4", 320, True, 1500, 0.005),
    Option("own server (2 x A100)", 3500, False, 5000, 0.002),
)
T6 = (
    Threshold("P99 latency", "< 500 ms", "p99"),
    Threshold("error rate (5xx)", "< 0.1 %", "error-rate"),
    Threshold("GPU utilisation (memory, compute)", "70-90 %", "utilisation"),
    Threshold("cache hit rate", "> 30 %", "cache"),
    Threshold("throughput", "by hardware", "throughput"),
)
