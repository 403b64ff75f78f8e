"""The real gateway for tests: a process in front of real Tritons, asked with and without this project's client.

Every client address has its own limits, and on this machine all of 127.0.0.0/8 are ours: a test that counts requests
takes an address of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

import bert_triton_client as btc
from deploy.gateway import certificates
from server import TritonServer
from tests.e2e import triton

MODULE = Path("/usr/lib/nginx/modules/ngx_http_js_module.so")
MISSING = [
    *(
        name
        for name in ("nginx", "mtail", "openssl")
        if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None
    ),
    *(["libnginx-mod-http-js"] if not MODULE.exists() else []),
]
needed = pytest.mark.skipif(bool(MISSING), reason=f"run `apt-get install {' '.join(MISSING)}`")

KEYS = {"shop": "shop-" + "k" * 32, "blog": "blog-" + "K" * 32}
SERVICE = "/inference.GRPCInferenceService"
PATIENCE_S = 60.0


@dataclass
class Reply:
    """What came back over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"])


def infer_body(*texts: str) -> bytes:
    """An inference over HTTP without binary tensors."""
    tensor = {"name": "TEXT", "shape": [len(texts), 1], "datatype": "BYTES", "data": list(texts)}
    return json.dumps({"inputs": [tensor]}).encode()


def infer_message(*texts: str, model: str = "sentiment") -> bytes:
    """The same over gRPC."""
    message = service_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name="TEXT", datatype="BYTES", shape=[len(texts), 1])
    encoded = [text.encode() for text in texts]
    message.raw_input_contents.append(b"".join(len(text).to_bytes(4, "little") + text for text in encoded))
    return message.SerializeToString()


def labels(answer: bytes) -> list[str]:
    """The labels of a gRPC answer; the test's model says the text itself."""
    message = service_pb2.ModelInferResponse.FromString(answer)
    raw = message.raw_output_contents[[output.name for output in message.outputs].index("LABEL")]
    found = []
    while raw:
        length = int.from_bytes(raw[:4], "little")
        found.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return found


class Gateway:
    """One gateway process.

    Args:
        folder: for its files.
        tritons: that it is told of.
        settings: further ``GATEWAY_`` variables, without the prefix.
    """

    def __init__(self, folder: Path, tritons: Sequence[TritonServer], **settings: object) -> None:
        # Sockets have short paths, and pytest's folders do not.
        self.state = Path(tempfile.mkdtemp(prefix="gateway_"))
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = self._write_certificate()
        self.keys_file = folder / "keys"
        self.write_keys(KEYS)
        self.port, self.metrics_port = triton.free_port(), triton.free_port()
        addresses = (f"127.0.0.1:{t.endpoints.http_port}:{t.endpoints.grpc_port}" for t in tritons)
        given = {
            "MODELS": "sentiment",
            "TRITONS": ",".join(addresses),
            "API_KEYS": self.keys_file,
            "CERTIFICATE": folder / "chain.pem",
            "PRIVATE_KEY": folder / "key.pem",
            "HOST": "127.0.0.1",
            "PORT": self.port,
            "METRICS_PORT": self.metrics_port,
            "STATE_FOLDER": self.state,
            "RATE_PER_MINUTE": "off",
            **settings,
        }
        self._environment = {f"GATEWAY_{name}": str(value) for name, value in given.items() if value is not None}
        self._process: subprocess.Popen[bytes] | None = None
        self._context = ssl.create_default_context()

    # --- life -------------------------------------------------------------------------------------
    def start(self) -> Gateway:
        with (self.folder / "stdout").open("wb") as stdout, (self.folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.gateway"],
                cwd=triton.REPOSITORY_ROOT,
                env={**os.environ, **self._environment},
                stdout=stdout,
                stderr=stderr,
            )
        self.await_event("started")
        self._context.load_verify_locations(self.state / "certificate.pem")
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.state, ignore_errors=True)

    # --- what it is given -------------------------------------------------------------------------
    def write_keys(self, keys: Mapping[str, str]) -> None:
        self.write_keys_file("".join(f"{name} {key}\n" for name, key in keys.items()))

    def write_keys_file(self, content: str) -> None:
        changed = self.keys_file.with_suffix(".new")
        changed.write_text(content)
        changed.replace(self.keys_file)

    def _write_certificate(self) -> certificates.Certificate:
        made = certificates.make_self_signed(("localhost", "127.0.0.1"))
        for name, content in (("chain.pem", made.chain), ("key.pem", made.private_key)):
            certificates.write_private(self.folder / name, content)
        return made

    def change_certificate(self) -> None:
        """Writes another pair, the certificate first: for a moment the two do not belong together."""
        self.certificate = self._write_certificate()

    # --- what it says -----------------------------------------------------------------------------
    def output(self) -> str:
        return "".join((self.folder / name).read_text() for name in ("stdout", "stderr"))

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in _lines(self.folder / "stderr") if line["event"] == event]

    def requests(self) -> list[dict[str, Any]]:
        return _lines(self.folder / "stdout")

    def await_event(self, event: str, count: int = 1) -> dict[str, Any]:
        """The count-th event of this name, waited for."""

        def there() -> bool:
            assert event == "stopped" or self.process.poll() is None, self.output()
            return len(self.events(event)) >= count

        triton.eventually(there, PATIENCE_S, f"event {event!r} number {count}")
        return self.events(event)[count - 1]

    def await_request(self, request_id: str) -> dict[str, Any]:
        """The line of the access log about a request."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [line for line in self.requests() if line["request_id"] == request_id]
            return bool(found)

        triton.eventually(there, PATIENCE_S, f"the line of request {request_id}")
        assert len(found) == 1
        return found[0]

    def metrics(self) -> dict[str, float]:
        """Series and value of what the gateway counts."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=PATIENCE_S) as response:
            lines = response.read().decode().splitlines()
        series = (line.rpartition(" ") for line in lines if line.startswith("gateway_"))
        return {name: float(value) for name, _, value in series}

    # --- asking -----------------------------------------------------------------------------------
    def url(self, protocol: str) -> str:
        return f"{'https' if protocol == 'http' else 'grpcs'}://localhost:{self.port}"

    def client(self, protocol: str, key: str | None = KEYS["shop"], **options: Any) -> btc.Client:
        """This project's client."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        tls = btc.TLSConfig(ca_certificates=self.state / "certificate.pem")
        return btc.Client(self.url(protocol), headers=headers, tls=tls, **options)

    def connection(self, source: str = "127.0.0.1") -> http.client.HTTPSConnection:
        """A connection from an address of this machine."""
        return http.client.HTTPSConnection(
            "localhost", self.port, timeout=PATIENCE_S, context=self._context, source_address=(source, 0)
        )

    def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        key: str | None = KEYS["shop"],
        source: str = "127.0.0.1",
    ) -> Reply:
        """One request over a connection of its own; an iterator is sent in chunks, bytes as they are."""
        given = {**({} if key is None else {"Authorization": f"Bearer {key}"}), **(headers or {})}
        with contextlib.closing(self.connection(source)) as connection:
            connection.putrequest(method, path, skip_accept_encoding=True)
            if isinstance(body, bytes) and "Transfer-Encoding" not in given:
                given.setdefault("Content-Length", str(len(body)))
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders(body, encode_chunked=isinstance(body, Iterator))
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A gRPC channel that retries nothing."""
        credentials = grpc.ssl_channel_credentials((self.state / "certificate.pem").read_bytes())
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"localhost:{self.port}", credentials, options=options) as channel:
            yield channel

    def call(
        self,
        channel: grpc.Channel,
        method: str,
        message: bytes = b"",
        metadata: Mapping[str, str] | None = None,
        *,
        key: str | None = KEYS["shop"],
        **options: Any,
    ) -> bytes:
        """One unary call with the bytes of a message; raises `grpc.RpcError`."""
        given = {**({} if key is None else {"authorization": f"Bearer {key}"}), **(metadata or {})}
        path = method if method.startswith("/") else f"{SERVICE}/{method}"
        answer: bytes = channel.unary_unary(path)(message, metadata=tuple(given.items()), timeout=PATIENCE_S, **options)
        return answer


def _lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def factory(folder: Path) -> Iterator[Callable[..., Gateway]]:
    """The body of a fixture: ``start(tritons, **settings)``; all gateways end with it."""
    gateways: list[Gateway] = []

    def start(tritons: Sequence[TritonServer], **settings: object) -> Gateway:
        gateway = Gateway(folder / str(len(gateways)), tritons, **settings)
        gateways.append(gateway)
        return gateway.start()

    try:
        yield start
    finally:
        for gateway in gateways:
            gateway.stop()


class Load:
    """Threads that ask over both protocols without pause and without a retry, and note what came of it.

    Those of gRPC share one connection, on which something is always under way.
    """

    def __init__(self, gateway: Gateway, *, threads: int = 2, text: str = "sleep 0.01") -> None:
        self.answers = {"http": 0, "grpc": 0}
        self.failures: list[str] = []
        self.key = KEYS["shop"]
        self._gateway = gateway
        self._text = text
        self._stop = threading.Event()
        self._stack = contextlib.ExitStack()
        self._channel = self._stack.enter_context(gateway.channel())
        work = (self._http, self._grpc, self._grpc) * threads
        self._threads = [threading.Thread(target=one) for one in work]

    def _http(self) -> None:
        connection = self._gateway.connection()
        while not self._stop.is_set():
            self._http_once(connection)
        connection.close()

    def _http_once(self, connection: http.client.HTTPSConnection) -> None:
        kept = connection.sock is not None
        headers = {"Authorization": f"Bearer {self.key}"}
        try:
            connection.request("POST", "/v2/models/sentiment/infer", infer_body(self._text), headers)
            response = connection.getresponse()
            self._note("http", "" if response.status == 200 else f"HTTP {response.status} {response.read()!r}")
            response.read()
        except (OSError, http.client.HTTPException) as exc:
            # A kept connection may be closed by its server at any time, and a client then opens another one.
            if not kept or isinstance(exc, (TimeoutError, http.client.IncompleteRead)):
                self.failures.append(f"HTTP: {exc!r}")
            connection.close()

    def _grpc(self) -> None:
        while not self._stop.is_set():
            self._grpc_once()

    def _grpc_once(self) -> None:
        try:
            answer = self._gateway.call(self._channel, "ModelInfer", infer_message(self._text), key=self.key)
            self._note("grpc", "" if labels(answer) == [self._text] else f"gRPC: {answer!r}")
        except grpc.RpcError as exc:
            self._note("grpc", f"gRPC {exc.code().name}: {exc.details()}")

    def _note(self, protocol: str, failure: str) -> None:
        if failure:
            self.failures.append(failure)
        else:
            self.answers[protocol] += 1

    def await_answers(self, count: int) -> None:
        """So many more, over each protocol."""
        wanted = {protocol: done + count for protocol, done in self.answers.items()}
        there = lambda: self.failures or all(self.answers[p] >= n for p, n in wanted.items())  # noqa: E731
        triton.eventually(lambda: bool(there()), PATIENCE_S, f"{count} answers")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
        self._stack.close()
        assert not any(thread.is_alive() for thread in self._threads)
