"""A page of metrics in Prometheus' text format, as Triton gives it out: fetched, read, added up.

Owns the format (https://prometheus.io/docs/instrumenting/exposition_formats/) as far as counters and gauges go; knows
no metric by name. Redirects and proxies are not followed: headers may hold secrets, and the page is the server's own.
"""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from loadtest.errors import LoadTestError, UsageError

MAX_PAGE_BYTES = 32 * 2**20  # Triton's page of a hundred models is below 1 MB
_LINE = re.compile(
    r"""
    ([a-zA-Z_:][a-zA-Z0-9_:]*)                        # name
    \s* (?: \{ ( (?: [^"}] | "(?:[^"\\]|\\.)*" )* ) \} )?   # labels, whose values may hold anything
    \s+ (\S+)                                         # value
    (?: \s+ -?\d+ )?                                  # time
    \s* (?: \#.* )?                                   # exemplar
    """,
    re.VERBOSE,
)
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class MetricsError(LoadTestError):
    """The page of metrics cannot be had or is none."""


@dataclass(frozen=True)
class Sample:
    """One line of the page."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Page:
    """All lines of one reading."""

    samples: tuple[Sample, ...]

    def select(self, name: str, **labels: str) -> list[Sample]:
        """The samples of a metric whose labels have these values, whatever other labels they have."""
        return [
            sample
            for sample in self.samples
            if sample.name == name and all(sample.labels.get(label) == value for label, value in labels.items())
        ]

    def total(self, name: str, **labels: str) -> float | None:
        """Their sum; None if there is none, or if one of them is no number."""
        return added(sample.value for sample in self.select(name, **labels))


def added(values: Iterable[float]) -> float | None:
    """The sum of values; None if there is none, or if one of them is no finite number."""
    known = list(values)
    total = sum(known)
    return total if known and abs(total) < float("inf") else None


def parse(text: str) -> Page:
    """Reads a page; a line that is none of the format is passed over.

    Raises:
        MetricsError: there are lines, and none of them is of the format.
    """
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    samples = tuple(filter(None, map(_sample, lines)))
    if not samples and not all(line.startswith("#") for line in lines):
        raise MetricsError(f"not metrics in Prometheus' text format: {lines[0][:100]!r}")
    return Page(samples)


def _sample(line: str) -> Sample | None:
    found = _LINE.fullmatch(line)
    if line.startswith("#") or not found:
        return None
    name, labels, number = found.groups()
    try:
        return Sample(name, _labels(labels or ""), float(number))
    except ValueError:
        return None


def _labels(text: str) -> dict[str, str]:
    labels = {}
    position = 0
    while position < len(text):
        found = _LABEL.match(text, position)
        if not found:
            raise ValueError(f"not a label: {text[position:]!r}")
        labels[found[1]] = re.sub(r"\\.", lambda escape: _ESCAPES.get(escape[0], escape[0]), found[2])
        position = found.end()
    return labels


def check_url(url: str) -> str:
    """Returns the URL.

    Raises:
        UsageError: it is no http:// or https:// URL.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--metrics-url {url!r}: expected for example http://localhost:8002/metrics")
    return url


def fetch(
    url: str, *, headers: Mapping[str, str] | None = None, ca_certificates: str | None = None, timeout_s: float = 5.0
) -> Page:
    """Reads the page at a URL.

    Args:
        url: ``http://`` or ``https://``.
        headers: sent with the request.
        ca_certificates: file of the authorities that ``https`` trusts; None trusts those of the system.
        timeout_s: for each step of the way.

    Raises:
        UsageError: another kind of URL.
        MetricsError: no answer, another status than 200, or a page that is none.
    """
    parts = urlsplit(check_url(url))
    try:
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=ca_certificates)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=timeout_s, context=context
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
        try:
            connection.request("GET", _path(parts.path, parts.query), headers=dict(headers or {}))
            answer = connection.getresponse()
            body = answer.read(MAX_PAGE_BYTES)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise MetricsError(f"no metrics from {url}: {type(exc).__name__}: {exc}") from exc
    if answer.status != http.client.OK:
        raise MetricsError(f"no metrics from {url}: status {answer.status} {answer.reason}")
    return parse(body.decode("utf-8", errors="replace"))


def _path(path: str, query: str) -> str:
    return (path or "/") + (f"?{query}" if query else "")
