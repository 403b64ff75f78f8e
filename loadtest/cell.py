"""What one measurement is and what came of it: the data that every part of loadtest shares.

A *cell* is one model under one load for some seconds. `CellSpec` says what to measure, `CellResult` what was found,
`ModelFacts`, `Capacity`, `Cost` and `HardwareRow` what is concluded from cells. Frozen dataclasses without behaviour
beyond arithmetic on their own fields; written and read as JSON by `loadtest.results`. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from loadtest.errors import UsageError

CLOSED = "closed"
OPEN = "open"
# Answers / arrivals of an open workload: with fewer, the queue grows, and the latency with it, as long as it lasts.
KEEPING_UP_SHARE = 0.95

# --- What to measure ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Workload:
    """Who asks: ``users`` that each wait for their answer (closed), or arrivals at a rate that wait for nobody (open).

    Attributes:
        users: concurrent users of a closed workload; None for an open one.
        rate_per_s: mean requests a second of an open workload with Poisson arrivals; None for a closed one.

    Raises:
        UsageError: not exactly one of the two, or one that is not positive.
    """

    users: int | None = None
    rate_per_s: float | None = None

    def __post_init__(self) -> None:
        if (self.users is None) == (self.rate_per_s is None):
            raise UsageError("a workload has either users (closed) or a rate (open): give one of --users and --rate")
        if self.users is not None and self.users < 1:
            raise UsageError(f"--users {self.users}: expected at least 1")
        if self.rate_per_s is not None and not 0 < self.rate_per_s < float("inf"):
            raise UsageError(f"--rate {self.rate_per_s:g}: expected requests a second, more than 0")

    @property
    def kind(self) -> str:
        """`CLOSED` or `OPEN`."""
        return OPEN if self.users is None else CLOSED

    def __str__(self) -> str:
        if self.users is not None:
            return f"{self.users} user{'' if self.users == 1 else 's'}"
        return f"{self.rate_per_s:.4g} requests/s"


@dataclass(frozen=True)
class TextSource:
    """Where the texts come from.

    Attributes:
        path: a file of texts (.csv, .tsv, .jsonl, .txt); None is the built-in generator.
        text_column: its column.
        median_words: of the generator's log-normal lengths.
        sigma: their shape: the standard deviation of the logarithm of the length.
        min_words: shorter lengths are raised to this.
        max_words: longer ones are cut to this.
        repeat_share: share of texts, 0 to 1, that are drawn from a small fixed pool, so that a cache can answer them.
            Above 0 the cell measures the cache, and only then may the cache answer.
        seed: of lengths and words.
    """

    path: str | None = None
    text_column: str = "text"
    median_words: float = 18.0
    sigma: float = 0.6
    min_words: int = 5
    max_words: int = 120
    repeat_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.repeat_share <= 1:
            raise UsageError(f"--repeat-share {self.repeat_share:g}: expected a share from 0 to 1")
        if not 5 <= self.min_words <= self.median_words <= self.max_words:
            raise UsageError(
                f"text lengths of at least {self.min_words}, median {self.median_words:g}, "
                f"at most {self.max_words} words: expected 5 <= minimum <= median <= maximum"
            )
        if self.sigma < 0:
            raise UsageError(f"--sigma {self.sigma:g}: expected 0 or more")


@dataclass(frozen=True)
class TensorNames:
    """Names of a model's tensors where they are not the usual ones; None means "find it by its usual names".

    Attributes:
        text: the BYTES input of a text model.
        input_ids: integer input with token ids.
        attention_mask: integer input, 1 for tokens and 0 for padding.
        token_type_ids: integer input, 0 for a single text.
        outputs: outputs to ask for and to check; empty means all of the model's.
        sequence_length: tokens of every row; None takes lengths like those of the texts, or the model's fixed
            dimension.
        vocabulary_size: token ids are drawn below this.
    """

    text: str | None = None
    input_ids: str | None = None
    attention_mask: str | None = None
    token_type_ids: str | None = None
    outputs: tuple[str, ...] = ()
    sequence_length: int | None = None
    vocabulary_size: int = 30522


@dataclass(frozen=True)
class CellSpec:
    """One measurement to be taken.

    Attributes:
        id: its name in the run and of its files: lower-case letters, digits, ``-``, ``_`` and ``.``.
        series: the sweep it belongs to: ``batch-size``, ``concurrency``, ``precision``, ``capacity``.
        url: ``grpc://host:port`` or ``http://host:port``; ``grpcs`` and ``https`` with TLS.
        model: its name in Triton.
        version: "" leaves the choice to the server.
        batch_size: texts (or rows of tensors) of one request.
        workload: who asks.
        texts: what is asked.
        names: tensor names of foreign models.
        warm_up_s: seconds of the same load before the clock starts; discarded.
        duration_s: the least seconds of measurement.
        max_duration_s: the most; between the two the measurement ends once it has ``min_requests``.
        min_requests: see ``max_duration_s``. 400 is about what a 95 % interval of a p99 takes (`loadtest.statistics`).
        timeout_s: a request without an answer after this has failed.
        processes: load-generating processes.
        max_error_rate: failed / all requests above which the cell has failed.
    """

    id: str
    series: str
    url: str
    model: str
    version: str = ""
    batch_size: int = 1
    workload: Workload = Workload(users=1)
    texts: TextSource = TextSource()
    names: TensorNames = TensorNames()
    warm_up_s: float = 2.0
    duration_s: float = 10.0
    max_duration_s: float = 60.0
    min_requests: int = 400
    timeout_s: float = 30.0
    processes: int = 1
    max_error_rate: float = 0.001

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}: expected at least 1")
        if self.processes < 1:
            raise UsageError(f"--processes {self.processes}: expected at least 1")
        if self.workload.users is not None and self.workload.users < self.processes:
            raise UsageError(
                f"--processes {self.processes} with {self.workload.users} user(s): "
                "every process needs at least one user"
            )
        if self.duration_s <= 0 or self.max_duration_s < self.duration_s:
            raise UsageError(
                f"--duration-s {self.duration_s:g} with --max-duration-s {self.max_duration_s:g}: "
                "expected 0 < duration <= maximum"
            )
        if self.warm_up_s < 0 or self.timeout_s <= 0:
            raise UsageError(
                f"--warm-up-s {self.warm_up_s:g}, --timeout-s {self.timeout_s:g}: expected 0 or more, and more than 0"
            )
        if not 0 <= self.max_error_rate < 1:
            raise UsageError(f"--max-error-rate {self.max_error_rate:g}: expected a share from 0 to below 1")

    @property
    def protocol(self) -> str:
        """``gRPC`` or ``HTTP``."""
        return "gRPC" if self.url.startswith("grpc") else "HTTP"


# --- What was found -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A measured value and its 95 % confidence interval; None where the sample is too small for one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Setting:
    """Where and on what a cell was measured: what its row must say beside its numbers.

    Attributes:
        hardware: the server's machine where it is this one, else that it is remote.
        triton_version: for example ``2.51.0``.
        served_version: the model's version that answered.
        kind: ``text`` or ``tensors``.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8``; "" if nothing says.
        instances: for example ``1 x KIND_CPU``; of a text model also those of the tensor model behind it.
        batching: dynamic batching settings in a few words.
        lengths: length distribution in words or tokens.
    """

    hardware: str
    triton_version: str
    served_version: str
    kind: str
    precision: str
    instances: str
    batching: str
    lengths: str


@dataclass(frozen=True)
class ClientSide:
    """What the users saw.

    Latencies are of requests that were begun (open workload: meant to be sent) inside the window, each followed to its
    end; throughput is of answers that came inside it. Failures count only in `failures`.

    Attributes:
        duration_s: the window.
        requests: good answers to requests begun in the window.
        failures: failed requests begun in the window, by kind (the client's error class, the same for HTTP and gRPC).
        failure_examples: one message of each kind.
        requests_per_s: good answers a second.
        sentences_per_s: texts (or rows) a second: requests x batch size.
        latency_ms: ``p50``, ``p90``, ``p95``, ``p99``; empty if nothing was answered.
        mean_latency_ms: None if nothing was answered.
        max_latency_ms: None if nothing was answered.
    """

    duration_s: float
    requests: int
    failures: dict[str, int]
    failure_examples: dict[str, str]
    requests_per_s: Estimate
    sentences_per_s: Estimate
    latency_ms: dict[str, Estimate]
    mean_latency_ms: float | None
    max_latency_ms: float | None

    @property
    def failed(self) -> int:
        """Failed requests of every kind."""
        return sum(self.failures.values())

    @property
    def error_rate(self) -> float:
        """Failed / all requests; 0 without any."""
        total = self.requests + self.failed
        return self.failed / total if total else 0.0


@dataclass(frozen=True)
class GeneratorSide:
    """What the load generator did, so that its own limits are not taken for the server's.

    Attributes:
        processes: how many there were.
        max_cpu_share: CPU time / window of the busiest process: 1.0 is a whole core, all that one process can have.
        cpu_cores: cores that all processes used together.
        loop_lag_p99_ms: by how much the event loop woke up late.
        send_lag_p99_ms: open workload: actual minus intended send time; None for a closed one.
        missed_sends: open workload: arrivals that were not sent because too many requests were already waiting.
        unfinished: requests begun in the window without an answer when the cell was ended; they count as failures.
        reasked: answers that were compared with the same request sent alone afterwards.
        changed: how many of those answers differed.
        mean_request_bytes: of a request's body.
        lengths: what was sent, in words or tokens, for example ``words: mean 21.4, p95 47``.
    """

    processes: int
    max_cpu_share: float
    cpu_cores: float
    loop_lag_p99_ms: float
    send_lag_p99_ms: float | None
    missed_sends: int
    unfinished: int
    reasked: int
    changed: int
    mean_request_bytes: float
    lengths: str


@dataclass(frozen=True)
class ModelCounters:
    """Triton's own counters of one model version, as differences over the window; times are means per request.

    Executions and times of a ``bert_text`` model are its own (`server_side.counters`).

    Attributes:
        requests: successful requests.
        failures: failed requests that Triton counts (not those that a full queue refused).
        inferences: texts or rows.
        executions: batches.
        cache_hits: answered by Triton's response cache.
    """

    model: str
    version: str
    requests: int
    failures: int
    inferences: int
    executions: int
    queue_ms: float
    compute_input_ms: float
    compute_infer_ms: float
    compute_output_ms: float
    cache_hits: int

    @property
    def mean_batch_size(self) -> float:
        """Texts or rows of a mean execution; 0 without any."""
        return self.inferences / self.executions if self.executions else 0.0


@dataclass(frozen=True)
class ServerSide:
    """What the server says about the window.

    Attributes:
        models: the model asked, then the tensor model behind it if there is one.
        text_cache_hits: texts answered by ``bert_text``'s own cache; None if the server has no such counter.
        tokens: tokens that reached the tensor model, padding left out; None likewise.
        padding_tokens: padding beside them; None likewise.
        device: ``CPU`` or ``GPU``: what `utilisation` is of.
        utilisation: 0 to 1, mean over the window: of the GPU, or of the machine's cores by the server's processes;
            None if it cannot be read from here.
        memory_bytes: GPU memory used, or resident memory of the server's processes; None likewise.
    """

    models: tuple[ModelCounters, ...]
    text_cache_hits: int | None
    tokens: int | None
    padding_tokens: int | None
    device: str
    utilisation: float | None
    memory_bytes: int | None

    @property
    def cache_hits(self) -> int:
        """Answers that some cache gave: Triton's response cache or the text cache."""
        return sum(model.cache_hits for model in self.models) + (self.text_cache_hits or 0)


OK = "ok"
FAILED = "failed"  # the server broke a limit: its numbers are not a capability
INVALID = "invalid"  # the generator was the bottleneck, or the measurement says nothing
INTERRUPTED = "interrupted"  # ended by hand before its time; measured again when the run is resumed


@dataclass(frozen=True)
class CellResult:
    """One measurement that was taken.

    Attributes:
        started_at: ISO 8601, UTC, when the window began.
        server: None if the server's counters could not be read.
        verdict: `OK`, `FAILED`, `INVALID` or `INTERRUPTED`.
        reasons: why the verdict is not `OK`; empty if it is.
        warnings: what a reader must know although the verdict stands.
    """

    spec: CellSpec
    setting: Setting
    started_at: str
    client: ClientSide
    generator: GeneratorSide
    server: ServerSide | None
    verdict: str
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


# --- What is concluded ----------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelFacts:
    """What the precision tables say of a model beside its cells.

    Attributes:
        model: its name in Triton.
        precision: as in `Setting.precision`.
        architecture: for example ``BERT-base``, ``DistilBERT``, ``BERT-tiny`` or ``bert 6 x 384``; "" if unknown.
        size_bytes: of the ONNX file; None if the repository is not at hand.
        accuracy: on labelled text, through the server; None if it was not measured. 0 to 1.
        texts: labelled texts that it was measured on.
        data: name of the file they came from.
    """

    model: str
    precision: str
    architecture: str
    size_bytes: int | None
    accuracy: Estimate | None
    texts: int
    data: str


@dataclass(frozen=True)
class Capacity:
    """The most that a model does within limits.

    Attributes:
        model: its name in Triton.
        p99_limit_ms: the latency limit.
        max_error_rate: the error limit.
        largest_batch_size: of the sizes tried, the largest within the limits (closed workload); None if none was, or
            none was tried.
        batch_size_cell: id of the cell that shows it; "" if none.
        rate_per_s: the largest rate of requests (open workload, batch size 1) within the limits; None likewise.
        rate_cell: id of the cell that shows it; "" if none.
        rate_is_bound: the search ended because the limit was met, not because it ran out of steps or of generator.
    """

    model: str
    p99_limit_ms: float
    max_error_rate: float
    largest_batch_size: int | None
    batch_size_cell: str
    rate_per_s: float | None
    rate_cell: str
    rate_is_bound: bool


@dataclass(frozen=True)
class Cost:
    """What a thousand requests cost at a measured rate and a price that the user gave.

    Attributes:
        option: what is paid for, in the user's words.
        monthly_price: in the user's currency.
        currency: its sign.
        requests_per_s: measured.
        utilisation: share of that rate that is really used, 0 to 1.
        per_1000_requests: in the same currency; see `loadtest.conclusions.cost` for the formula.
    """

    option: str
    monthly_price: float
    currency: str
    requests_per_s: float
    utilisation: float
    per_1000_requests: float


@dataclass(frozen=True)
class HardwareRow:
    """One machine's measured row of the hardware table."""

    hardware: str
    model: str
    precision: str
    batch_size: int
    workload: str
    sentences_per_s: float
    p99_ms: float
    measured_on: str  # ISO date
    run: str  # the run's folder name


@dataclass(frozen=True)
class RunInfo:
    """What a run folder is.

    Attributes:
        command: the words after ``python -m loadtest``, secrets left out.
        created_at: ISO 8601, UTC.
        machine: this machine, in a few words.
        note: anything the user wants beside it.
    """

    command: tuple[str, ...]
    created_at: str
    machine: str
    note: str = ""


@dataclass(frozen=True)
class Run:
    """Everything in a run folder, in the order in which it was measured."""

    name: str
    info: RunInfo
    cells: tuple[CellResult, ...] = ()
    facts: tuple[ModelFacts, ...] = ()
    capacities: tuple[Capacity, ...] = ()
    costs: tuple[Cost, ...] = ()
    hardware: tuple[HardwareRow, ...] = field(default=())
