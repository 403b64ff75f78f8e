"""One server: a tritonserver process with its ports, log and workspace; started, waited for, stopped.

Does not restart by itself (`server.watchdog`) and does not judge the model repository (`server.preflight`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from server import arguments, argv, backend_directory, drain, installation, log, readiness, selection, starting, tracing
from server.control.model_control import ModelControl
from server.endpoints import Endpoints
from server.errors import OptionError, PortError, ServerError
from server.process import TritonProcess
from server.restrictions import Restrictions
from server.selection import Selection
from server.workspace import Workspace

START_TIMEOUT_S = 300
EXIT_TIMEOUT_S = 10
KILL_MARGIN_S = 3.0  # beyond Triton's own exit timeout
PORT_ATTEMPTS = 5
OPEN = Restrictions()
VIEW_FOLDER = "model_repository"


def _never() -> bool:
    return False


class TritonServer:
    """The Triton that pip installs, serving one model repository.

    A context manager, or `start` and `stop`. One thread at a time.

    Args:
        repository: the model repository.
        http_port: 0 means a free one, also for the other two.
        grpc_port: as ``http_port``.
        metrics_port: as ``http_port``.
        host: address to listen on.
        model_config_name: which ``configs/<name>.pbtxt`` is used by the models that have it.
        exit_timeout_s: how long a stop waits for requests in flight and open connections.
        extra_args: passed to tritonserver as they are.
        backends: folder of Python-based backends; the checkout's by default.
        prepared: a folder that `server.backend_directory.prepare` filled; by default each server makes its own.
        log_path: file for Triton's log; by default one that is deleted with the server.
        log_sink: binary stream for the log, instead of a file.
        models: serve only these models of the repository; by default all of them.
        canary_timeout_s: how long a text model that is loaded may fail to answer before the start has failed.
        selection: serve exactly these versions, whatever the repository has meanwhile, instead of ``models``.
        model_control: what is selected can be changed while it runs (`server.control.change`).
        restrictions: APIs that take a key.
        trace_endpoint: where traces are sent, as OTLP over HTTP, of every request that has a traceparent.

    Raises:
        OptionError: a port out of range, or an extra argument that is this class's own business.
    """

    def __init__(
        self,
        repository: Path | str,
        *,
        http_port: int = 0,
        grpc_port: int = 0,
        metrics_port: int = 0,
        host: str = "127.0.0.1",
        model_config_name: str | None = None,
        exit_timeout_s: int = EXIT_TIMEOUT_S,
        extra_args: Sequence[str] = (),
        backends: Path = backend_directory.BACKENDS,
        prepared: Path | None = None,
        log_path: Path | None = None,
        log_sink: BinaryIO | None = None,
        models: Sequence[str] | None = None,
        canary_timeout_s: float = readiness.CANARY_TIMEOUT_S,
        selection: Selection | None = None,
        model_control: bool = False,
        restrictions: Restrictions = OPEN,
        trace_endpoint: str | None = None,
    ) -> None:
        if exit_timeout_s < 0:
            raise OptionError(f"--exit-timeout-s {exit_timeout_s} is negative; give the seconds a stop may take")
        self.repository = Path(repository).resolve()
        self.model_config_name = model_config_name
        self.exit_timeout_s = exit_timeout_s
        self.extra_args = tuple(extra_args)
        self.backends = backends
        self.prepared = prepared
        self.log_path = log_path
        self.models = None if models is None else tuple(models)
        self.canary_timeout_s = canary_timeout_s
        self.restrictions = restrictions
        self.trace_endpoint = trace_endpoint
        self._selection = selection
        self._model_control = model_control
        self._passed = arguments.check(self.extra_args)
        self._asked = Endpoints(host, http_port, grpc_port, metrics_port)
        self._endpoints = self._asked
        self._given_sink = log_sink
        self._sink: BinaryIO | None = log_sink
        self._workspace: Workspace | None = None
        self._process: TritonProcess | None = None
        self._key_hidden = False

    # --- where it is ------------------------------------------------------------------------------
    @property
    def endpoints(self) -> Endpoints:
        """Host and ports; real ports once started."""
        return self._endpoints

    @property
    def http_url(self) -> str:
        """For example http://127.0.0.1:8000."""
        return self._endpoints.url("http")

    @property
    def grpc_url(self) -> str:
        """For example grpc://127.0.0.1:8001."""
        return self._endpoints.url("grpc")

    @property
    def metrics_url(self) -> str:
        """For example http://127.0.0.1:8002/metrics."""
        return self._endpoints.url("metrics")

    def serves(self, service: str) -> bool:
        """Whether ``http``, ``grpc`` or ``metrics`` was left on by the extra arguments."""
        return arguments.enabled(self._passed, f"allow-{service}")

    @property
    def pid(self) -> int:
        """Process id of tritonserver.

        Raises:
            ServerError: it was not started.
        """
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether the tritonserver process lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def returncode(self) -> int | None:
        """The exit code of tritonserver; None while it lives or was not started, negative for a signal."""
        return self._process.returncode if self._process else None

    @property
    def probe(self) -> readiness.Probe:
        """What asks this server over HTTP."""
        return readiness.Probe(
            self._endpoints.connect_host,
            self._endpoints.http_port,
            server_id=self._server_id(),
            headers={**dict(readiness.restricted_headers(self._passed)), **self.restrictions.headers()},
        )

    @property
    def selection(self) -> Selection:
        """What is served.

        Raises:
            ServerError: that was never selected: Triton reads the repository itself.
        """
        if self._selection is None:
            raise ServerError("this server serves what its repository has; give it a selection")
        return self._selection

    @selection.setter
    def selection(self, selected: Selection) -> None:
        self._selection = selected

    @property
    def view(self) -> Path:
        """The folder that shows the selection to Triton; there while it is started."""
        if self._workspace is None:
            raise ServerError("the server is not running; call start()")
        return self._workspace.folder / VIEW_FOLDER

    @property
    def key_is_visible(self) -> bool:
        """Whether every user of this machine can read the keys in the list of processes."""
        return bool(self.restrictions.apis) and not self._key_hidden

    def model_control(self, interrupted: Callable[[], bool] = _never) -> ModelControl:
        """What has Triton load and unload models.

        Args:
            interrupted: asked while Triton works; True gives up.
        """
        process, known = self._started(), self._started().log.count
        return ModelControl(
            (self._endpoints.connect_host, self._endpoints.grpc_port),
            self.restrictions.headers(),
            explain=lambda model: log.refusal(process.log, known, model),
            interrupted=lambda: interrupted() or process.returncode is not None,
        )

    def log_tail(self, count: int = 20) -> str:
        """The last lines of Triton's log."""
        return self._process.log.tail(count) if self._process else ""

    @property
    def unhealthy(self) -> str:
        """The backend process that Triton has given up on since its start, by its own name; empty if there is none."""
        return self._process.log.unhealthy if self._process else ""

    # --- life -------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(
        self, timeout_s: float = START_TIMEOUT_S, cancelled: Callable[[], bool] = _never
    ) -> list[readiness.ModelState]:
        """Starts Triton; returns the models' states once all are ready and every text model has answered.

        Args:
            timeout_s: how long that may take.
            cancelled: asked while waiting; True ends the start.

        Raises:
            PlatformError: pip's Triton cannot run on this machine.
            InstallationError: it is not installed.
            ResourceError: a port is taken (PortError), /dev/shm or the temporary folder is unusable.
            ModelError: Triton refused a model, or a text model does not answer.
            StartError: Triton ended, or was not ready in time, or was cancelled (StartCancelledError).
        """
        if self._process is not None:
            raise ServerError(f"the server was started already (pid {self._process.pid}); call stop() first")
        try:
            self._endpoints = self._asked.resolved()  # before anything is made: the likeliest failure
            self._workspace = Workspace(installation.find(), self.backends, self.prepared)
            self._sink = self._sink or self._open_log(self._workspace)
            return self._start_on_ports(time.monotonic() + timeout_s, cancelled)
        except BaseException:
            self.kill()
            raise

    def restart(
        self, timeout_s: float = START_TIMEOUT_S, cancelled: Callable[[], bool] = _never
    ) -> list[readiness.ModelState]:
        """Kills every process of the server and starts it again on the same ports.

        Raises as `start` does; after a failure no process lives, and it may be tried again.
        """
        self.end_processes()
        try:
            return self._launch(time.monotonic() + timeout_s, cancelled)
        except BaseException:
            self.end_processes()
            raise

    def end_processes(self) -> None:
        """Kills every process of the server; its ports and folders are kept for `restart`."""
        self._started().kill()

    def terminate(self) -> None:
        """Asks Triton to finish what is in flight and to end; returns at once."""
        if self._process is not None:
            process = self._process
            if self.serves("grpc"):
                drain.hold(self._endpoints, self.exit_timeout_s, lambda: process.returncode is not None)
            process.terminate()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until tritonserver has ended; False if it lives longer than ``timeout_s``."""
        return self._process is None or self._process.wait(timeout_s)

    def stop(self) -> bool:
        """Ends everything: asks, waits for ``exit_timeout_s``, kills what is left. True if asking was enough."""
        self.terminate()
        clean = self.wait(self.exit_timeout_s + KILL_MARGIN_S)
        self.kill()
        return clean

    def kill(self) -> None:
        """Ends every process of this server at once and removes what it left; safe to call twice."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        if self._workspace is not None:
            self._workspace.close()
            self._workspace = None
        if self._sink is not None and self._sink is not self._given_sink:
            self._sink.close()
        self._sink = self._given_sink

    # --- inside -----------------------------------------------------------------------------------
    def _started(self) -> TritonProcess:
        if self._process is None:
            raise ServerError("the server is not running; call start()")
        return self._process

    def _open_log(self, workspace: Workspace) -> BinaryIO:
        path = self.log_path or workspace.folder / "tritonserver.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")

    def _start_on_ports(
        self, deadline: float, cancelled: Callable[[], bool], attempts: int = PORT_ATTEMPTS
    ) -> list[readiness.ModelState]:
        """Starts; where a port was ours to choose and somebody else was quicker, tries others."""
        try:
            return self._launch(deadline, cancelled)
        except PortError:
            self.end_processes()
            if self._asked.chosen or attempts == 1:
                raise
        self._endpoints = self._asked.resolved()
        return self._start_on_ports(deadline, cancelled, attempts - 1)

    def _launch(self, deadline: float, cancelled: Callable[[], bool]) -> list[readiness.ModelState]:
        if self._workspace is None or self._sink is None:
            raise ServerError("the server is not running; call start()")
        self._key_hidden = False
        environment = tracing.environment(self.trace_endpoint)
        self._process = TritonProcess(self._arguments(self._workspace), self._workspace, self._sink, environment)
        states = starting.until_ready(
            self._process,
            self._check,
            self._endpoints,
            deadline=deadline,
            canary_timeout_s=self.canary_timeout_s,
            cancelled=cancelled,
        )
        self._process.remember_environment_folder()
        return states

    def _server_id(self) -> str | None:
        if given := self._passed.get("id"):
            return given[-1]
        return self._workspace.memory.prefix if self._workspace else None

    def _arguments(self, workspace: Workspace) -> list[str]:
        ours: dict[str, object] = {
            "id": self._server_id(),
            "model-repository": self._served_repository(workspace),
            "backend-directory": workspace.backend_directory,
            "cache-directory": workspace.installation.cache_directory,
            "backend-config": f"python,shm-region-prefix-name={workspace.memory.prefix}",
            "exit-timeout-secs": self.exit_timeout_s,
        }
        for service, port in self._endpoints.ports().items():
            ours |= {f"{service}-address": self._endpoints.host, f"{service}-port": port}
        if self.model_config_name:
            ours["model-config-name"] = self.model_config_name
        return [
            *(f"--{flag}={value}" for flag, value in ours.items()),
            *(arguments.model_control(self.selection.models) if self._model_control else ()),
            *self.restrictions.flags(),
            *tracing.flags(self.trace_endpoint),
            *arguments.GRPC_KEEPALIVE,
            *self.extra_args,
        ]

    def _served_repository(self, workspace: Workspace) -> Path:
        if self._selection is not None:
            selection.write(self.view, self._selection)
            return self.view
        return self.repository if self.models is None else workspace.select(self.repository, self.models)

    def _hide_key(self, process: TritonProcess) -> None:
        """Takes the keys out of the list of processes, once Triton logs: by then it has read its flags."""
        if self.key_is_visible and any(map(log.is_tritons, process.log.lines())):
            self._key_hidden = argv.overwrite(process.pid, self.restrictions.keys())

    def _check(self, canary_timeout_s: float) -> list[readiness.ModelState]:
        self._hide_key(self._started())
        if self.serves("metrics"):
            # The last port that Triton opens: before that it may still end because that one is taken.
            readiness.Probe(self._endpoints.connect_host, self._endpoints.metrics_port).metrics()
        return self.probe.check(canary_timeout_s)
