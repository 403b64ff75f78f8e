"""A generator process: ``python -m loadtest.generator`` makes the load of one cell, or works for a master that has one.

Started by `loadtest.generator.run` and by ``python -m loadtest worker``; not a command for people. Owns the process:
monkey patching, signals, standard streams, the end of the parent. Standard output carries events only.
"""

# ruff: noqa: E402 - gevent replaces parts of the standard library, so nothing else may be imported first
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse
import contextlib
import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from loadtest.access import Access
from loadtest.errors import LoadTestError
from loadtest.generator.outcome import COUNTED, END, Job, event_line, read_job, write_error, write_outcome

if TYPE_CHECKING:
    from loadtest.generator.local import LocalCrew
    from loadtest.generator.master import MasterCrew

OPEN_FILES = 10_000  # a connection each


def main() -> int:
    """Runs the process; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.generator", allow_abbrev=False)
    parser.add_argument("--job", type=Path, help="folder with a job; the outcome is written there")
    parser.add_argument("--master", metavar="HOST:PORT", help="work for this master instead")
    parser.add_argument("--once", action="store_true", help="for one cell")
    parser.add_argument("--end-with-parent", action="store_true", help="end when standard input does")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    _allow_open_files()
    _go_before_the_server()
    interrupted, counted = Event(), Event()
    if options.end_with_parent:
        _watch_parent({END: interrupted, COUNTED: counted})
    try:
        return _run_cell(options.job, interrupted, counted) if options.job else _work(options.master, options.once)
    except LoadTestError as exc:
        sys.stderr.write(f"loadtest: error: {exc}\n")
        if options.job:
            write_error(options.job, exc)
        return 1


def _run_cell(folder: Path, interrupted: Event, counted: Event) -> int:
    from loadtest.generator.clock import conduct

    gevent.signal_handler(signal.SIGTERM, interrupted.set)
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = read_job(folder)
    access = Access.from_environment()

    def tell(event: str) -> None:
        events.write(event_line(event))
        events.flush()

    crew = _crew(job, access)
    try:
        outcome = conduct(job.spec, job.target, crew, interrupted=interrupted, counted=counted, on_event=tell)
        write_outcome(folder, outcome)
    finally:
        crew.close()
    return 0


def _crew(job: Job, access: Access) -> LocalCrew | MasterCrew:
    if job.distributed or job.processes > 1:
        from loadtest.generator.master import MasterCrew

        return MasterCrew(job, access)
    from loadtest.generator.local import LocalCrew

    return LocalCrew(job, access)


def _work(master: str, once: bool) -> int:
    from loadtest.generator.worker import work

    host, _, port = master.rpartition(":")
    try:
        work(host, int(port), once=once)
    except KeyboardInterrupt:
        return 0
    return 0


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _go_before_the_server() -> None:
    """Real-time priority, where that is permitted (root, CAP_SYS_NICE, ulimit -r).

    A generator that shares its machine with a busy server otherwise waits for a core before it sends or reads, for
    longer than what it measures. It needs little of the core, and a cell in which it needs much is invalid anyway.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def _watch_parent(events: Mapping[str, Event]) -> None:
    """A real thread that reads standard input: a word sets its event; its end, which is the parent's, ends all."""
    asked = {word: gevent.get_hub().loop.async_() for word in events}
    for word, event in events.items():
        asked[word].start(event.set)

    def watch() -> None:
        while said := os.read(0, 4096):
            for word in said.decode().split():
                asked[word].send()
        os._exit(1)

    monkey.get_original("_thread", "start_new_thread")(watch, ())


if __name__ == "__main__":
    sys.exit(main())
