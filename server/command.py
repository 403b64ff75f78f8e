"""What ``python -m server`` does: options, preflight, server and watchdog wired together."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from bert_triton_client.contract import GRPC_PORT, HTTP_PORT
from server import arguments, manifest, preflight
from server.control.change import Changer
from server.control.orders import Orders
from server.control.unix_socket import Control
from server.control.withdrawn import read_withdrawn
from server.endpoints import SERVICES
from server.errors import OptionError, ServerError
from server.launcher import TritonServer
from server.options import RESTART, Options, parse, parser
from server.readiness import READY, ModelState
from server.restrictions import Restrictions
from server.selection import Selection
from server.watchdog import RestartPolicy, StopSignals, Supervisor


def main(argv: Sequence[str]) -> int:
    """Serves until it is asked to stop; returns the exit code: 0 stopped cleanly, 1 failed, 2 wrong usage."""
    try:
        return serve(parse(argv, os.environ))
    except ServerError as exc:
        if os.environ.get("BERT_TRITON_DEBUG") == "1":
            raise
        if isinstance(exc, OptionError):
            parser().error(exc.message)
        say(f"error: {exc.message}")
        return 1


def serve(options: Options) -> int:
    """Starts the server of ``options`` and supervises it."""
    with StopSignals().installed() as signals, contextlib.ExitStack() as stack:
        names = preflight.check(
            options.model_repository,
            model_config_name=options.model_config_name,
            extra_args=arguments.parse(options.extra_args),
            skip_unexported=options.skip_unexported,
        )
        restrictions = Restrictions.of(
            options.restricted_apis, options.admin_key_file, control=options.control is not None
        )
        control = stack.enter_context(contextlib.closing(Control(options.control))) if options.control else None
        withdrawn = read_withdrawn(options.control) if options.control else {}
        selected = None if options.triton_selects else select(options, names, withdrawn)
        server = TritonServer(
            options.model_repository,
            host=options.endpoints.host,
            http_port=options.endpoints.http_port,
            grpc_port=options.endpoints.grpc_port,
            metrics_port=options.endpoints.metrics_port,
            model_config_name=options.model_config_name,
            exit_timeout_s=options.exit_timeout_s,
            extra_args=options.extra_args,
            backends=options.backends,
            prepared=options.backend_directory,
            log_sink=sys.stderr.buffer,
            models=names if options.skip_unexported else None,
            selection=selected,
            model_control=control is not None,
            restrictions=restrictions,
            trace_endpoint=options.trace_endpoint,
        )
        return Supervisor(
            server,
            signals,
            on_ready=lambda states: announce(server, states),
            say=say,
            restart_on_death=options.on_backend_death == RESTART,
            policy=RestartPolicy(max_restarts=options.max_restarts),
            start_timeout_s=options.start_timeout_s,
            hang_timeout_s=options.hang_timeout_s,
            before_start=(lambda: say(str(manifest.verify(server.selection.folders())))) if options.verify else None,
            control=control,
            handler=orders(server, options, signals).handle,
        ).run()


def select(
    options: Options,
    names: Sequence[str],
    withdrawn: Mapping[str, set[int]],
    needed: Mapping[str, set[int]] | None = None,
) -> Selection:
    """What the repository has to serve now."""
    return Selection.read(
        options.model_repository.resolve(),
        names,
        config_name=options.model_config_name,
        withdrawn=withdrawn,
        needed=needed,
    )


def orders(server: TritonServer, options: Options, signals: StopSignals) -> Orders:
    """What is done when the control socket is told to."""

    def select_again(withdrawn: Mapping[str, set[int]], needed: Mapping[str, set[int]]) -> Selection:
        names = preflight.check(
            options.model_repository,
            model_config_name=options.model_config_name,
            skip_unexported=options.skip_unexported,
        )
        return select(options, names, withdrawn, needed)

    changer = Changer(server, lambda: signals.count > 0, timeout_s=options.start_timeout_s, verify=options.verify)
    return Orders(server, changer, select_again, folder=options.control or Path(), say=say)


def announce(server: TritonServer, states: Sequence[ModelState]) -> None:
    """What is said once the server is ready."""
    if server.key_is_visible:
        say("the admin key can be read in this machine's list of processes; here nothing can remove it from there")
    write(sys.stdout, ready_line(server, states))


def ready_line(server: TritonServer, states: Sequence[ModelState]) -> str:
    """Where the server listens, what it serves, and what to run next."""
    urls = [f"{service} {server.endpoints.url(service)}" for service in SERVICES if server.serves(service)]
    names = sorted({state.name for state in states if state.state == READY})
    failed = sorted({state.name for state in states if state.failed} - set(names))
    parts = [f"ready: {', '.join(urls)}", f"models {', '.join(names) or 'none'}"]
    if failed:
        parts.append(f"not loaded {', '.join(failed)}")
    if text_models := server.probe.text_models(names):
        parts.append(f"next: {next_command(server, text_models[0])}")
    return "; ".join(parts)


def next_command(server: TritonServer, model: str) -> str:
    """A command that asks the server, to be pasted into a shell."""
    service = "grpc" if server.serves("grpc") else "http"
    ports = server.endpoints.ports()
    is_default = (ports["http"], ports["grpc"]) == (HTTP_PORT, GRPC_PORT)
    url = "" if is_default else f" --url {server.endpoints.url(service)}"
    return f'bert-triton classify "I love this movie" --model {model}{url}'


def say(line: str) -> None:
    """One line of ours among Triton's log."""
    write(sys.stderr, f"server: {line}")


def write(stream: TextIO, line: str) -> None:
    """One line, at once; nobody reading it is no reason to stop serving."""
    with contextlib.suppress(OSError):
        stream.write(line + "\n")
        stream.flush()
