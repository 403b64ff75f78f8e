"""TLS: Triton's own for gRPC, and a gateway that ends it for HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bert_triton_client as btc
from server import TritonServer
from tests.e2e import client_models

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="install openssl, which makes the certificate")


class Gateway:
    """Ends TLS and passes bytes on to a port; runs in a thread."""

    def __init__(self, port: int, certificate: Path, key: Path) -> None:
        self._port = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self.url = ""

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._context)
        self.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))

    def __enter__(self) -> Gateway:
        self._thread.start()
        assert self._started.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        self._loop.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "server.pem", folder / "server.key"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def urls(
    certificate: tuple[Path, Path],
    module_server_factory: Callable[..., TritonServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, str]]:
    repository, backends = client_models.write(tmp_path_factory.mktemp("client_tls"))
    tls = ("--grpc-use-ssl=1", f"--grpc-server-cert={certificate[0]}", f"--grpc-server-key={certificate[1]}")
    server = module_server_factory(repository, backends=backends, models=["sentiment"], extra_args=tls)
    with Gateway(int(server.http_url.rpartition(":")[2]), *certificate) as gateway:
        yield {"grpc": f"grpcs://localhost:{server.grpc_url.rpartition(':')[2]}", "http": gateway.url}


def client(kind: str, urls: dict[str, str], **options: Any) -> Any:
    make = btc.Client if kind.startswith("sync") else client_models.Blocking
    return make(urls[kind.rpartition("-")[2]], **options)


def finish(client: Any) -> None:
    client.close() if isinstance(client, btc.Client) else client.finish()


@pytest.mark.parametrize("kind", client_models.CLIENTS)
def test_a_trusted_server_answers(kind: str, urls: dict[str, str], certificate: tuple[Path, Path]) -> None:
    connected = client(kind, urls, tls=btc.TLSConfig(ca_certificates=certificate[0]))
    try:
        texts = [f"text {i}" for i in range(200)]
        assert [answer.label for answer in connected.classify(texts, timeout_s=60)] == texts
    finally:
        finish(connected)


@pytest.mark.parametrize("kind", client_models.CLIENTS)
def test_an_unknown_certificate_is_refused(kind: str, urls: dict[str, str]) -> None:
    connected = client(kind, urls, max_retries=0)
    try:
        with pytest.raises(btc.InvalidConfigError, match="not trusted"):
            connected.classify("a", timeout_s=60)
    finally:
        finish(connected)


def test_plain_spoken_to_tls_is_a_typed_error(urls: dict[str, str]) -> None:
    for url in urls.values():
        with btc.Client(url.replace("s://", "://"), max_retries=0) as plain, pytest.raises(btc.BertTritonError):
            plain.classify("a", timeout_s=5)
