"""How the exported models are served: every choice a flag of ``python -m export`` can make, and its default.

`ServingOptions` is checked when it is made; `export.triton_config` turns it into config.pbtxt.
"""

from __future__ import annotations

import argparse
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from bert_triton_client.contract import OVER_LONG_TEXT, PREFERRED_PRECISIONS
from export.cores import available_cores
from export.errors import UsageError

GPU_ACCELERATORS = ("cuda", "tensorrt")
HARDWARE = tuple(PREFERRED_PRECISIONS)

# Most tokens of one call of the tensor model; of a padded graph, padding included. On a CPU a batch of short texts is
# worth little more than running them one by one, and long calls keep others waiting; a GPU is idle below some
# thousands.
DEFAULT_MAX_TOKENS = {"cpu": 512, "gpu": 8192}


# On a CPU two instances, each on half of the cores: threads that wait for nobody lose less to whoever else has a core.
# On 2 cores they gave 1.1 to 1.2 times the sentences/s of one instance on both, and up to twice as much where cores are
# shared; a lone text took 1.4 times as long (docs/settings.md).
DEFAULT_INSTANCES = {"cpu": 2, "gpu": 1}


def _option(default: Any, description: str, minimum: int | None = None, choices: tuple[str, ...] = ()) -> Any:
    metadata = {"description": description, "minimum": minimum, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ServingOptions:
    """How the exported models are served. Each field is the flag of the same name: ``--max-batch-size``, ...

    Nothing bounds what waits for the text model unless ``max_queue_size`` or ``queue_timeout_ms`` does: the clients'
    deadlines do, since what has missed its own is dropped. What a bound refuses is UNAVAILABLE (HTTP 503), and clients
    try it again; ``queue_timeout_ms`` holds for requests whose caller sets none or a longer one. The text model keeps
    these bounds itself, because with a queue policy Triton's batcher misses wake-ups and requests stall for 500 ms
    (``make bench-queue-policy`` counts them).

    Raises:
        UsageError: a value, or two together, cannot be.
    """

    max_batch_size: int = _option(64, "largest batch of a tensor model", 1)
    text_max_batch_size: int | None = _option(
        None, "most texts in one request, and in one batch of the text model (default: as --max-batch-size)", 1
    )
    instances: int | None = _option(
        None,
        "instances of each tensor model (default: "
        + ", ".join(f"{count} on {hardware}" for hardware, count in DEFAULT_INSTANCES.items())
        + ", never more than cores)",
        1,
    )
    text_instances: int = _option(1, "instances of the text model", 1)
    intra_op_threads: int | None = _option(
        None, "threads of one tensor model instance on the CPU (default: the available cores / instances)", 1
    )
    max_queue_size: int = _option(
        0, "most texts that wait for the text model; what needs another one computed is refused; 0 = any number", 0
    )
    queue_timeout_ms: int = _option(
        0, "longest time a request waits for the text model, whatever longer its caller allows; 0 = any time", 0
    )
    max_queue_delay_us: int = _option(0, "how long the text model holds a request back to fill its batch", 0)
    over_long_text: str = _option(OVER_LONG_TEXT[0], "what becomes of a text of too many tokens", None, OVER_LONG_TEXT)
    max_text_bytes: int = _option(100_000, "a longer text is refused before it is tokenised", 1)
    max_tokens: int | None = _option(
        None,
        "most tokens of one call of the tensor model; padding counts where the graph computes it (default: "
        + ", ".join(f"{tokens} on {hardware}" for hardware, tokens in DEFAULT_MAX_TOKENS.items())
        + ")",
        1,
    )
    cache_size: int = _option(10_000, "texts whose answers the text model remembers; 0 = none", 0)
    gpu_accelerator: str = _option("cuda", "what runs the tensor models on a GPU", None, GPU_ACCELERATORS)
    hardware: str = _option("cpu", "the variant that config.pbtxt is a copy of", None, HARDWARE)

    def __post_init__(self) -> None:
        for option in fields(self):
            _check(option.name, getattr(self, option.name), option.default, option.metadata)
        if self.text_batch_size > self.max_batch_size:
            raise UsageError(
                flag_of("text_max_batch_size"),
                self.text_max_batch_size,
                f"at most --max-batch-size ({self.max_batch_size}): the text model passes its whole batch on",
            )

    @property
    def text_batch_size(self) -> int:
        """Largest batch of the text model."""
        return self.text_max_batch_size or self.max_batch_size

    @property
    def cpu_threads(self) -> int:
        """Threads of one tensor model instance on the CPU: all instances together fill the available cores."""
        return self.intra_op_threads or max(1, available_cores() // self.instances_on("cpu"))

    def instances_on(self, hardware: str) -> int:
        """Instances of each tensor model on ``hardware``."""
        if self.instances is not None:
            return self.instances
        default = DEFAULT_INSTANCES[hardware]
        return min(default, available_cores()) if hardware == "cpu" else default

    def tokens_per_call(self, hardware: str) -> int:
        """Most tokens of one call of the tensor model on ``hardware``."""
        return self.max_tokens or DEFAULT_MAX_TOKENS[hardware]


def flag_of(name: str) -> str:
    """The flag that sets the option ``name``."""
    return "--" + name.replace("_", "-")


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """Adds a flag for every option; what is not given stays out of the namespace."""
    for option in fields(ServingOptions):
        choices = option.metadata["choices"]
        default = "" if option.default in (None, MISSING) else " (default: %(const)s)"
        parser.add_argument(
            flag_of(option.name),
            type=str if choices else int,
            choices=choices or None,
            metavar=None if choices else "N",
            default=argparse.SUPPRESS,
            help=option.metadata["description"] + default.replace("%(const)s", str(option.default)),
        )


def from_arguments(arguments: argparse.Namespace) -> ServingOptions:
    """The options that the flags of `add_arguments` give.

    Raises:
        UsageError: as `ServingOptions`.
    """
    given = vars(arguments)
    return ServingOptions(
        **{option.name: given[option.name] for option in fields(ServingOptions) if option.name in given}
    )


def _check(name: str, value: Any, default: Any, rules: Any) -> None:
    """Raises UsageError unless ``value`` keeps the rules of its field."""
    if rules["choices"]:
        if value not in rules["choices"]:
            raise UsageError(flag_of(name), value, " or ".join(rules["choices"]))
    elif value is None and default is None:
        return
    elif not isinstance(value, int) or isinstance(value, bool) or not rules["minimum"] <= value <= 2**31 - 1:
        raise UsageError(flag_of(name), value, f"a whole number from {rules['minimum']} to {2**31 - 1}")
