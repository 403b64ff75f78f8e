"""tritonserver's own command line: reading what was passed through, and writing ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from server.errors import OptionError

# tritonserver's flag -> how to say it instead. Given again after `--` Triton would let the last one win, and what
# this package prints, waits for and cleans up would be wrong; so it is refused.
OWNED = {
    "model-repository": "--model-repository before the `--`",
    "model-store": "--model-repository before the `--`",
    "http-address": "--host before the `--`",
    "grpc-address": "--host before the `--`",
    "metrics-address": "--host before the `--`",
    "http-port": "--http-port before the `--`",
    "grpc-port": "--grpc-port before the `--`",
    "metrics-port": "--metrics-port before the `--`",
    "model-config-name": "--model-config-name before the `--`",
    "exit-timeout-secs": "--exit-timeout-s before the `--`",
    "backend-directory": "--backend-directory before the `--`",
    "cache-directory": "the caches that came with this Triton",
}
FALSE = ("false", "0", "off")
# Triton asks a silent client after 2 hours whether it is still there. Those that vanished without a word (a machine
# that lost its power, a firewall that forgot) are let go after 80 s with these, and not waited for by a stop.
GRPC_KEEPALIVE = (
    "--grpc-keepalive-time=60000",
    "--grpc-keepalive-permit-without-calls=1",
    "--grpc-http2-max-pings-without-data=0",
)


def parse(extra_args: Sequence[str]) -> dict[str, list[str]]:
    """Flag -> its values, from ``--flag=value``, ``--flag value`` and ``--flag``."""
    parsed: dict[str, list[str]] = {}
    flag = ""
    for argument in extra_args:
        if argument.startswith("--"):
            flag, equals, value = argument.removeprefix("--").partition("=")
            parsed.setdefault(flag, [])
            if equals:
                parsed[flag].append(value)
                flag = ""
        elif flag:
            parsed[flag].append(argument)
            flag = ""
        else:
            raise OptionError(f"cannot pass {argument!r} to tritonserver: it takes flags only (--flag=value)")
    return parsed


def check(extra_args: Sequence[str]) -> dict[str, list[str]]:
    """`parse`, with what this package must decide itself refused.

    Raises:
        OptionError: a flag that has its own spelling here, or that would blind this package.
    """
    parsed = parse(extra_args)
    for flag in parsed:
        if flag in OWNED:
            raise OptionError(f"--{flag} cannot be passed through to tritonserver; use {OWNED[flag]}")
    if any(value.lower() in FALSE for value in parsed.get("allow-http", [])):
        raise OptionError(
            "--allow-http=false cannot be passed through: readiness is asked over HTTP; "
            "use --host to restrict who can connect"
        )
    if any("shm-region-prefix-name" in value for value in parsed.get("backend-config", [])):
        raise OptionError(
            "shm-region-prefix-name cannot be passed through: the prefix says whose memory may be cleaned up"
        )
    return parsed


def enabled(parsed: Mapping[str, list[str]], flag: str) -> bool:
    """Whether a service such as ``allow-grpc`` is on (Triton's default)."""
    return not any(value.lower() in FALSE for value in parsed.get(flag, []))


def model_control(models: Iterable[str]) -> list[str]:
    """The flags of a Triton that loads these models at start, and others when it is told to.

    Triton's default for ready is that every version of every model is. While one loads, or after one was refused, that
    is not so, and whoever asks would take a server that answers out of service; hence the second flag.
    """
    return [
        "--model-control-mode=explicit",
        "--strict-readiness=false",
        *(f"--load-model={name}" for name in models),
    ]
