"""HTTP, awaited: aiohttp's kept connections under the requests and statuses of `http_transports.py`."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from yarl import URL  # aiohttp's own

from . import wire
from .config import ClientConfig
from .errors import BertTritonError
from .flows import Ask, Infer
from .http_transports import HEAD_LENGTH, HttpCodec, HttpRequest, HttpResponse, head_length, ssl_context, tls_error
from .transports import closed, late, unreachable, wrong_protocol


class AsyncHttpTransport:
    """Awaited HTTP through aiohttp."""

    def __init__(self, config: ClientConfig) -> None:
        self._timeouts = (TimeoutError, asyncio.TimeoutError)  # one class since Python 3.11
        self._codec = HttpCodec(config)
        self._endpoint = config.endpoint
        tls: Any = ssl_context(config.tls) if config.endpoint.tls else True
        self._base = f"http{'s' if config.endpoint.tls else ''}://{config.endpoint.authority}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls),
            headers=dict(config.headers),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def infer(self, step: Infer) -> wire.InferAnswer:
        """Runs an inference."""
        return self._codec.answer(await self._send(self._codec.request(step), step.timeout_s))

    async def ask(self, step: Ask) -> Any:
        """Asks about the server or a model."""
        return self._codec.fact(step, await self._send(self._codec.question(step), step.timeout_s))

    async def _send(self, request: HttpRequest, timeout_s: float) -> HttpResponse:
        url = URL(self._base + request.path, encoded=True)
        if self._session.closed:
            raise closed()
        try:
            async with self._session.request(
                request.method,
                url,
                data=request.body,
                headers=request.headers(),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s, ceil_threshold=float("inf")),
            ) as response:
                length = head_length(response.headers.get(HEAD_LENGTH))
                return HttpResponse(response.status, length, await response.read())
        except (aiohttp.ClientError, OSError, *self._timeouts) as exc:
            raise self._error(exc, timeout_s) from exc

    def _error(self, exc: Exception, timeout_s: float) -> BertTritonError:
        if self._session.closed:
            return closed()
        if isinstance(exc, self._timeouts):
            return late(self._endpoint, timeout_s)
        if isinstance(exc, aiohttp.ClientConnectorCertificateError):
            return tls_error(self._endpoint, exc.certificate_error)
        if isinstance(exc, aiohttp.ClientConnectorSSLError):
            return tls_error(self._endpoint, exc)
        if isinstance(exc, aiohttp.ClientResponseError):  # not HTTP; statuses do not raise
            return wrong_protocol(self._endpoint)
        return unreachable(self._endpoint, exc)

    async def close(self) -> None:
        """Closes the connections; steps under way raise `ClientClosedError`."""
        await self._session.close()
