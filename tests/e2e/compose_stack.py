"""docker-compose.yml brought up on an engine: images built, three services started, everything taken down."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_triton_client import BertTritonError, Client, TLSConfig
from tests.conftest import REPOSITORY_ROOT
from tests.e2e import triton
from tests.e2e.compose_engine import CACHE, Engine, compose_command

SERVICES = ("triton", "gateway", "prometheus")
BASE_IMAGE = "bert-triton-base:test"
PROMETHEUS_IMAGE = "bert-triton-prometheus:test"
KEY = "compose-test-0123456789abcdef"
BUILD_TIMEOUT_S = 600.0
READY_TIMEOUT_S = 180.0
PROJECT = "bert-triton-test"


@dataclass
class Stack:
    """The services, their addresses on this machine, and what tests do with them.

    Args:
        engine: where they run.
        folder: for keys and certificates; of this test alone.
    """

    engine: Engine
    folder: Path

    def __post_init__(self) -> None:
        self.secrets = self.folder / "secrets"
        self.gateway_port, self.prometheus_port = triton.free_port(), triton.free_port()
        self._settings = self.folder / "compose.env"
        self._write_secrets()
        self._write_settings()

    # --- life -------------------------------------------------------------------------------------
    def build(self) -> None:
        """Builds the images, on a base image that is made once; what was built before, the engine finds again."""
        with ThreadPoolExecutor(2) as pool:
            for first, second in ((self._base, self._wheels), (self._triton, self._others)):
                both = [pool.submit(first), pool.submit(second)]
                for done in both:
                    done.result()

    def _base(self) -> None:
        if not self.engine.docker("image", "ls", "--quiet", BASE_IMAGE):
            self.engine.run(["deploy/base-image.sh", BASE_IMAGE], timeout_s=BUILD_TIMEOUT_S)

    def _wheels(self) -> None:
        self.engine.run(["deploy/wheels.sh", "cpu"], timeout_s=BUILD_TIMEOUT_S, environment={"PYTHON": sys.executable})

    def _triton(self) -> None:
        self.compose("build", "triton", timeout_s=BUILD_TIMEOUT_S)

    def _others(self) -> None:
        self.compose("build", "gateway", timeout_s=BUILD_TIMEOUT_S)
        arguments = ["--network", self.engine.build_network, "--build-arg", f"BASE_IMAGE={BASE_IMAGE}"]
        file = ["--file", "deploy/Dockerfile.prometheus", "--tag", PROMETHEUS_IMAGE, "deploy"]
        self.engine.docker("build", "--quiet", *arguments, *file, timeout_s=BUILD_TIMEOUT_S)

    def up(self) -> None:
        """Starts the services; returns when Triton and gateway are healthy."""
        self.compose("up", "--detach", *SERVICES, timeout_s=120.0)
        # Prometheus is first asked after half a minute; the tests do not wait for that.
        triton.eventually(lambda: self.healthy("triton", "gateway"), READY_TIMEOUT_S, "health of Triton and gateway")

    def down(self) -> None:
        """Ends them and removes their networks and volumes; keeps their logs in build/compose."""
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            log = self.compose("logs", "--no-color", "--timestamps", timeout_s=60.0)
            (CACHE / "services.log").write_text(log)
        finally:
            self.compose("down", "--volumes", "--remove-orphans", "--timeout", "1", timeout_s=120.0)

    def left(self) -> dict[str, str]:
        """What exists of this project: containers, networks, volumes."""
        label = f"label=com.docker.compose.project={PROJECT}"
        commands = {"containers": ["ps", "--all"], "networks": ["network", "ls"], "volumes": ["volume", "ls"]}
        return {
            what: names
            for what, command in commands.items()
            if (names := self.engine.docker(*command, "--quiet", "--filter", label))
        }

    def compose(self, *arguments: str, timeout_s: float, environment: Mapping[str, str] | None = None) -> str:
        """A docker-compose command; ``environment`` goes before the settings of this stack."""
        command = [*compose_command(), "--project-name", PROJECT, "--env-file", str(self._settings), *arguments]
        return self.engine.run(command, timeout_s=timeout_s, environment=environment)

    def _write_secrets(self) -> None:
        self.secrets.mkdir(parents=True)
        (self.secrets / "api-keys").write_text(f"test {KEY}\n")
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=gateway"
        names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", str(self.secrets / "tls.key"), "-out", str(self.secrets / "tls.crt")]
        subprocess.run([*command.split(), *names, *files], check=True, capture_output=True, timeout=30)
        for file in self.secrets.iterdir():
            file.chmod(0o644)  # for user 10001 of the container; here nobody else can enter the folder

    def _write_settings(self) -> None:
        settings = {
            "IMAGE_TAG": "test",
            "PYTHON_IMAGE": BASE_IMAGE,
            "DEBIAN_IMAGE": BASE_IMAGE,
            "PROMETHEUS_IMAGE": PROMETHEUS_IMAGE,
            "MODEL_REPOSITORY": str(REPOSITORY_ROOT / "model_repository"),
            "GATEWAY_SECRETS": str(self.secrets),
            "GATEWAY_CERTIFICATE": "/run/secrets/gateway/tls.crt",
            "GATEWAY_PRIVATE_KEY": "/run/secrets/gateway/tls.key",
            "GATEWAY_ADDRESS": "127.0.0.1",
            "GATEWAY_PUBLISHED_PORT": str(self.gateway_port),
            "BUILD_NETWORK": self.engine.build_network,
            "GATEWAY_RATE_PER_MINUTE": "6000",  # the tests ask again and again while something restarts
            "PROMETHEUS_PORT": str(self.prometheus_port),
        }
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    # --- what it is doing -------------------------------------------------------------------------
    def container(self, service: str) -> str:
        """The id of a service's container."""
        labels = {"project": PROJECT, "service": service}
        filters = [f"--filter=label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        return self.engine.docker("ps", "--all", "--quiet", *filters)

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        return dict(json.loads(self.engine.docker("inspect", self.container(service)))[0])

    def healthy(self, *services: str) -> bool:
        """Whether these services are; all, if none is named."""
        states = [self.inspect(service)["State"]["Health"]["Status"] for service in services or SERVICES]
        return set(states) == {"healthy"}

    def python(self, service: str, code: str, *arguments: str, detached: bool = False) -> str:
        """What Python code prints in a container, run as the service's own user; nothing if nobody waits for it."""
        how = ["--detach"] if detached else []
        return self.engine.docker("exec", *how, self.container(service), "python3", "-c", code, *arguments)

    def log(self, service: str) -> str:
        """What a service has written."""
        return self.engine.log(self.container(service))

    def client(self, scheme: str, **options: Any) -> Client:
        """A client of the gateway: ``https`` or ``grpcs``."""
        options = {"headers": {"authorization": f"Bearer {KEY}"}, "request_timeout_s": 10.0, **options}
        tls = TLSConfig(ca_certificates=self.secrets / "tls.crt")
        return Client(f"{scheme}://localhost:{self.gateway_port}", model="sentiment", tls=tls, **options)

    def answers(self, text: str) -> bool:
        """Whether a text gets its answer at this moment."""
        try:
            with self.client("grpcs", max_retries=0) as client:
                return client.classify(text).label == "positive"
        except BertTritonError:
            return False

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values that Prometheus has now."""
        url = f"http://127.0.0.1:{self.prometheus_port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=10) as response:
            found = json.load(response)["data"]["result"]
        return [(row["metric"], float(row["value"][1])) for row in found]
