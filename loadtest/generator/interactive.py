"""What ``locust -f loadtest/locustfile.py`` adds to Locust: options, whom each user class asks, exact percentiles.

Owns the way from Locust's options to a `Desk` for each user class, on the node that leads and on its workers.
Everything else is Locust's: users, spawn rate, run time, web interface, master and workers, exit status.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from typing import Any

import gevent
from locust.dispatch import UsersDispatcher
from locust.env import Environment
from locust.event import Events
from locust.runners import LocalRunner, WorkerRunner
from tritonclient.grpc import service_pb2  # noqa: F401

from loadtest import flags
from loadtest.access import Access
from loadtest.cell import CellSpec, TensorNames, TextSource, Workload
from loadtest.errors import LoadTestError, UsageError
from loadtest.generator.desk import Desk
from loadtest.generator.exact import ExactLatencies
from loadtest.generator.inspection import Question, ask, target_from_json, target_to_json
from loadtest.generator.recorder import NotRecorded
from loadtest.generator.turns import take_turns
from loadtest.generator.users import USER_CLASSES
from loadtest.target import Target

# Needed by every user: imported here, before Locust forks its --processes, not in each of them.
from loadtest.wire import grpc, http  # noqa: F401

SCHEMES = {"gRPC": ("grpc://", "grpcs://"), "HTTP": ("http://", "https://")}
FOUND = "loadtest_targets"  # among Locust's options: what the leading node found out, for its workers

logger = logging.getLogger("loadtest")


def install(events: Events) -> None:
    """Listens to Locust's events."""
    events.init_command_line_parser.add_listener(add_options)
    events.init.add_listener(_prepare)
    events.test_start.add_listener(_open_desks)


def add_options(parser: argparse.ArgumentParser, **_event: object) -> None:
    """Adds loadtest's flags to Locust's, and to its web interface."""
    texts, usual = TextSource(), CellSpec("usual", "", flags.DEFAULT_URL, flags.DEFAULT_MODEL)
    add = parser.add_argument
    add("--grpc-url", default="", metavar="URL", help="whom GrpcUser asks (default: --host, if that is grpc://)")
    add("--http-url", default="", metavar="URL", help="whom HttpUser asks (default: --host, if that is http://)")
    add("--model", default=flags.DEFAULT_MODEL, help="name in Triton")
    add("--model-version", default="", help="(default: the server's choice)")
    add("--batch-size", type=flags.count, default=1, help="texts a request")
    add("--timeout-s", type=flags.positive, default=usual.timeout_s, help="of one request")
    add("--texts", default="", metavar="FILE", help=".csv, .tsv, .jsonl or .txt (default: the built-in generator)")
    add("--text-column", default=texts.text_column, help="its column")
    add("--median-words", type=flags.positive, default=texts.median_words, help="of the built-in generator's texts")
    add("--repeat-share", type=flags.share, default=texts.repeat_share, help="share of texts a cache can answer")
    for flag in ("--text-tensor", "--input-ids-tensor", "--attention-mask-tensor", "--token-type-ids-tensor"):
        add(flag, default="", metavar="NAME", help="input of a model with other names than usual")
    add("--sequence-length", type=int, default=0, help="tokens of every row of a tensor model (0: lengths like texts')")
    add("--ca-certificates", default="", metavar="FILE", help="authorities for grpcs:// and https://")
    hidden: dict[str, Any] = {"include_in_web_ui": False}
    add("--header", action="append", default=[], metavar="NAME=VALUE", help="sent with every request", **hidden)


def urls(environment: Environment) -> dict[str, str]:
    """Whom the users of each protocol ask; a protocol without a URL is missing."""
    options, host = _options(environment), environment.host or ""
    wanted = {"gRPC": options.grpc_url, "HTTP": options.http_url}
    for protocol, schemes in SCHEMES.items():
        if wanted[protocol] and not wanted[protocol].startswith(schemes):
            raise UsageError(f"--{protocol.lower()}-url {wanted[protocol]}: expected {' or '.join(schemes)}host:port")
        if not wanted[protocol] and host.startswith(schemes):
            wanted[protocol] = host
    if not any(wanted.values()):
        raise UsageError(f"--host {host}: expected grpc://host:port or http://host:port")
    return {protocol: url for protocol, url in wanted.items() if url}


class _Dispatcher(UsersDispatcher):
    """Leaves out user classes that have no URL to ask."""

    environment: Environment

    def __init__(self, worker_nodes: list[Any], user_classes: list[Any]) -> None:
        try:
            asked = [USER_CLASSES[protocol] for protocol in urls(self.environment)]
        except UsageError:
            asked = []  # said when the test starts
        super().__init__(worker_nodes, [each for each in user_classes if each in asked] or user_classes)


def _prepare(environment: Environment, **_event: object) -> None:
    """Once a process. Without a web interface the server is asked at once, so that an error is an exit status."""
    environment.host = environment.host or os.environ.get(flags.URL_VARIABLE, flags.DEFAULT_URL)
    _Dispatcher.environment = environment
    environment.dispatcher_class = _Dispatcher
    take_turns()
    ExactLatencies(environment)
    if isinstance(environment.runner, WorkerRunner) or environment.web_ui is not None:
        return
    try:
        found = _look(environment)
    except LoadTestError as exc:
        logger.error("%s", exc)  # noqa: TRY400 - no traceback for what a user can put right
        sys.exit(2 if isinstance(exc, UsageError) else 1)
    setattr(environment.parsed_options, FOUND, found)


def _open_desks(environment: Environment, **_event: object) -> None:
    """Every test, on every node."""
    try:
        found = getattr(environment.parsed_options, FOUND, "")
        if environment.web_ui is not None:
            found = _look(environment)  # options may have changed since the last test
            setattr(environment.parsed_options, FOUND, found)
        for protocol, target in json.loads(found or "{}").items():
            USER_CLASSES[protocol].desk = _desk(environment, protocol, target_from_json(target))
    except LoadTestError as exc:
        logger.error("%s", exc)  # noqa: TRY400 - no traceback for what a user can put right
        _give_up(environment, str(exc))


def _look(environment: Environment) -> str:
    """Asks the servers of all user classes that take part; what they are, as JSON."""
    taking_part = {
        protocol: url
        for protocol, url in urls(environment).items()
        if USER_CLASSES[protocol] in environment.user_classes
    }
    if not taking_part:
        names = ", ".join(each.__name__ for each in environment.user_classes)
        raise UsageError(
            f"{names} cannot ask --host {environment.host}: GrpcUser asks grpc:// and HttpUser http:// addresses; "
            "give another --host, or --grpc-url and --http-url for each"
        )
    for user_class in USER_CLASSES.values():
        user_class.desk = None
    found = {}
    for protocol, url in taking_part.items():
        options = _options(environment)
        question = Question(url, options.model, options.model_version, _names(options), _access(options))
        target = ask(question)
        _desk(environment, protocol, target)  # texts and batch size are looked at here, not on some worker
        found[protocol] = target_to_json(target)
    return json.dumps(found)


def _desk(environment: Environment, protocol: str, target: Target) -> Desk:
    options, runner = _options(environment), environment.runner
    index = max(0, runner.worker_index) if isinstance(runner, WorkerRunner | LocalRunner) else 0
    spec = CellSpec(
        id="locust",
        series="locust",
        url=target.url,
        model=target.model,
        version=options.model_version,
        batch_size=options.batch_size,
        workload=Workload(users=1),
        texts=_texts(options),
        names=_names(options),
        timeout_s=options.timeout_s,
    )
    share = index * len(USER_CLASSES) + list(USER_CLASSES).index(protocol)  # no two of them send the same texts
    return Desk(spec, target, _access(options), NotRecorded(), environment.events.request.fire, process_index=share)


def _options(environment: Environment) -> Any:
    return environment.parsed_options


def _texts(options: argparse.Namespace) -> TextSource:
    usual = TextSource()
    return TextSource(
        path=options.texts or None,
        text_column=options.text_column,
        median_words=options.median_words,
        max_words=max(usual.max_words, int(options.median_words * 4)),
        repeat_share=options.repeat_share,
    )


def _names(options: argparse.Namespace) -> TensorNames:
    return TensorNames(
        text=options.text_tensor or None,
        input_ids=options.input_ids_tensor or None,
        attention_mask=options.attention_mask_tensor or None,
        token_type_ids=options.token_type_ids_tensor or None,
        sequence_length=options.sequence_length or None,
    )


def _access(options: argparse.Namespace) -> Access:
    headers = dict(header.partition("=")[::2] for header in options.header)
    if "" in headers or any("=" not in header for header in options.header):
        raise UsageError("--header: expected NAME=VALUE, for example authorization='Bearer …'")
    return Access(headers, options.ca_certificates or None)


def _give_up(environment: Environment, message: str) -> None:
    """Ends a test that cannot be; users that come up meanwhile find no desk and leave."""
    environment.process_exit_code = 1
    if environment.runner is not None:
        environment.runner.log_exception("", message, message)
        gevent.spawn_later(0.5, environment.runner.stop)
