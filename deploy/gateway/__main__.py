"""``python -m deploy.gateway``, in the image ``python3 -m gateway``: serves until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import ssl
import sys
from collections.abc import Sequence

from . import nginx_config
from .errors import GatewayError, SettingsError
from .log import Log
from .nginx_config import Content
from .replicas import Replica
from .settings import VARIABLES, Settings
from .supervisor import Gateway

OK, FAILED, USAGE = 0, 1, 2
CHECK_TIMEOUT_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 ended as asked, 1 failed, 2 the environment is wrong."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environment(os.environ)
        if options.check:
            return _check(settings)
        if options.print_config:
            print(nginx_config.render(_example(settings)), end="")
            return OK
        return _serve(settings)
    except SettingsError as exc:
        print(f"gateway: {exc}", file=sys.stderr)
        return USAGE
    except GatewayError as exc:
        print(f"gateway: {exc}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="nginx in front of Triton: TLS, API keys, limits, balancing. "
        f"Settings are environment variables: {', '.join(VARIABLES)}.",
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="ask the running gateway for a Triton that is ready")
    what.add_argument("--print-config", action="store_true", help="print nginx.conf, without keys, and end")
    return parser


def _serve(settings: Settings) -> int:
    gateway = Gateway(settings, Log())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: gateway.stop())
    return gateway.run()


def _check(settings: Settings) -> int:
    """Whether a request gets through: over TLS, as clients do, to any Triton that is ready."""
    host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host  # noqa: S104 -- every address is ours too
    context = ssl.create_default_context()
    # It asks itself: the certificate is made for the clients' name of it.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, settings.port, timeout=CHECK_TIMEOUT_S, context=context)
    try:
        connection.request("GET", "/v2/health/ready")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as exc:
        raise GatewayError(f"the gateway on {host}:{settings.port} does not answer: {exc}") from exc
    finally:
        connection.close()
    if status != http.client.OK:
        raise GatewayError(f"the gateway on {host}:{settings.port} finds no Triton that is ready (HTTP {status})")
    return OK


def _example(settings: Settings) -> Content:
    """The configuration without what is secret or found out only when serving: one Triton for each that is named."""
    replicas = tuple(Replica(f"192.0.2.{n}", t.http_port, t.grpc_port) for n, t in enumerate(settings.tritons, 1))
    return Content(settings, replicas, None if settings.api_keys is None else (), "none")


if __name__ == "__main__":
    sys.exit(main())
