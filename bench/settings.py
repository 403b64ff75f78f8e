"""How fast each serving setting is, alone and beside a noisy neighbour: one thing varied at a time.

For every setting a server is started for each of its values, all of one setting at once; they then take turns, round
after round, alone and beside processes that burn half of every core, at one client and at many. Nothing else may run
on a server while another is measured, so the ones that wait cost nothing. Ratios are taken to the exported value within
a round, then the median over rounds. CPU time is what a setting costs whoever else shares the cores: threads that spin
while they wait are in it. Run it with ``make bench-settings``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.compare.texts import fair_order, lengths, reviews
from bench.load import closed, cpu_name, percentile
from bench.models import BENCH, DEMO, MODELS, exported
from bench.neighbour import Neighbour
from bench.result import publish
from bench.variants import ENGINE, SETTINGS, THREADS, Configs, repository_with, values_of
from bert_triton_client import Client
from server import TritonServer

PAUSE_S = 0.1  # between cells: the other server's spinning threads go to sleep
WARM_UP_TEXTS = 32
# Of the warm-up's labels, how many must be the exported value's: more than a rounding difference turns over.
SAME_LABELS = 0.9


@dataclass(frozen=True)
class Cell:
    """One value of one setting under one load, in one round.

    Attributes:
        setting: what is varied.
        value: to what.
        neighbour: share of every core that the neighbour burns.
        clients: callers at once, one text a call.
        round: counted from 0.
        sentences_per_s: answers a second.
        p50_ms: median latency.
        p99_ms: 99th percentile, nearest rank.
        cpu_ms: CPU time of all the server's processes, for one answer.
        failures: calls without an answer.
    """

    setting: str
    value: str
    neighbour: float
    clients: int
    round: int
    sentences_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    failures: int


@dataclass(frozen=True)
class Row:
    """A value under one load, over all rounds: medians, and medians of the ratios to the exported value's."""

    setting: str
    value: str
    neighbour: float
    clients: int
    sentences_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    throughput_ratio: float
    p50_ratio: float
    p99_ratio: float
    cpu_ratio: float
    failures: int


def rows_of(cells: Sequence[Cell]) -> list[Row]:
    """A row for every value and load, in the order of ``cells``; the first value of a setting is the reference."""
    references: dict[str, str] = {}
    groups: dict[tuple[str, float, int, str], list[Cell]] = {}
    for cell in cells:
        references.setdefault(cell.setting, cell.value)
        groups.setdefault((cell.setting, cell.neighbour, cell.clients, cell.value), []).append(cell)
    rows = []
    for (setting, neighbour, clients, value), own in groups.items():
        base = {cell.round: cell for cell in groups[setting, neighbour, clients, references[setting]]}
        pairs = [(cell, base[cell.round]) for cell in own]
        rows.append(
            Row(
                setting,
                value,
                neighbour,
                clients,
                statistics.median(cell.sentences_per_s for cell in own),
                statistics.median(cell.p50_ms for cell in own),
                statistics.median(cell.p99_ms for cell in own),
                statistics.median(cell.cpu_ms for cell in own),
                statistics.median(cell.sentences_per_s / other.sentences_per_s for cell, other in pairs),
                statistics.median(cell.p50_ms / other.p50_ms for cell, other in pairs),
                statistics.median(cell.p99_ms / other.p99_ms for cell, other in pairs),
                statistics.median(cell.cpu_ms / other.cpu_ms for cell, other in pairs),
                sum(cell.failures for cell in own),
            )
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """A Markdown table for each setting."""
    lines: list[str] = []
    for setting in dict.fromkeys(row.setting for row in rows):
        lines += [
            f"### {SETTINGS[setting].meaning}",
            "",
            "| neighbour | clients | value | sentences/s | p50 ms | p99 ms | CPU ms | sentences/s ratio | p50 ratio "
            "| p99 ratio | CPU ratio | failed |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        own = [row for row in rows if row.setting == setting]
        lines += [
            f"| {row.neighbour:.0%} | {row.clients} | {row.value} | {row.sentences_per_s:.1f} | {row.p50_ms:.1f} "
            f"| {row.p99_ms:.1f} | {row.cpu_ms:.1f} | {row.throughput_ratio:.2f} | {row.p50_ratio:.2f} "
            f"| {row.p99_ratio:.2f} | {row.cpu_ratio:.2f} | {row.failures} |"
            for row in sorted(own, key=lambda row: (row.neighbour, row.clients))
        ]
        lines.append("")
    return "\n".join(lines).rstrip()


@dataclass(frozen=True)
class Contest:
    """One setting's servers, and the load they take turns under.

    Attributes:
        setting: what is varied.
        servers: value -> the server that has it.
        clients_of: value -> a client of that server.
        texts: what is asked, in order.
        shares: of every core, for the neighbour.
        callers: numbers of clients.
        seconds: of one cell.
    """

    setting: str
    servers: dict[str, TritonServer]
    clients_of: dict[str, Client]
    texts: list[str]
    shares: Sequence[float]
    callers: Sequence[int]
    seconds: float

    def warm_up(self) -> None:
        """Ask every server; exits when one answers otherwise than the first."""
        texts = self.texts[:WARM_UP_TEXTS]
        labels = {value: [client.classify(text).label for text in texts] for value, client in self.clients_of.items()}
        first = next(iter(labels.values()))
        for value, own in labels.items():
            same = sum(map(str.__eq__, own, first)) / len(first)
            if same < SAME_LABELS:
                sys.exit(f"{self.setting} {value}: {same:.0%} of the labels are the exported setting's: not comparable")

    def round(self, number: int) -> list[Cell]:
        """Every value once under every load."""
        cells = []
        order = list(self.clients_of) if number % 2 == 0 else list(reversed(self.clients_of))
        for share in self.shares:
            with Neighbour(share):
                for clients in self.callers:
                    cells += [self._cell(value, share, clients, number) for value in order]
        return sorted(cells, key=lambda cell: list(self.clients_of).index(cell.value))

    def _cell(self, value: str, share: float, clients: int, number: int) -> Cell:
        time.sleep(PAUSE_S)
        client, pid = self.clients_of[value], self.servers[value].pid
        before_s = cpu_s(pid)
        load = closed(lambda text: client.classify(text).label, self.texts, clients, self.seconds, number * 512)
        if not load.latencies_ms:
            sys.exit(f"{self.setting} {value}: nothing was answered: {load.failures[0]}")
        return Cell(
            self.setting,
            value,
            share,
            clients,
            number,
            load.per_s,
            statistics.median(load.latencies_ms),
            percentile(load.latencies_ms, 0.99),
            (cpu_s(pid) - before_s) * 1000 / len(load.answers),
            len(load.failures),
        )


def cpu_s(pid: int) -> float:
    """CPU seconds, so far, of a process and all below it that live."""
    root = psutil.Process(pid)
    return sum(sum(process.cpu_times()[:2]) for process in (root, *root.children(recursive=True)))


def measure(
    setting: str, repositories: dict[str, Path], name: str, texts: list[str], options: argparse.Namespace
) -> list[Cell]:
    """All cells of a setting.

    Args:
        setting: a key of `SETTINGS`.
        repositories: engine -> an exported repository; the first one's values are the reference.
        name: the text model.
        texts: what is asked.
        options: the command line.
    """
    default = next(iter(repositories.values()))
    values = values_of(setting, Configs.of(default, name), len(os.sched_getaffinity(0)))
    if setting == ENGINE:
        values = [value for value in values if value in repositories]
    if len(values) < 2:
        print(f"{setting}: only {values[0]} is there, nothing to compare", file=sys.stderr)
        return []
    BENCH.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=BENCH)))
        servers, clients = {}, {}
        for value in values:
            source = repositories.get(value, default)
            repository = repository_with(setting, value, source, name, folder / value)
            servers[value] = stack.enter_context(TritonServer(repository))
            clients[value] = stack.enter_context(Client(servers[value].grpc_url, model=name))
        contest = Contest(setting, servers, clients, texts, (0.0, options.neighbour), options.clients, options.seconds)
        contest.warm_up()
        cells = []
        for number in range(options.rounds):
            cells += contest.round(number)
            print(f"{setting}: round {number + 1} of {options.rounds}", file=sys.stderr)
    return cells


def repositories_of(options: argparse.Namespace) -> tuple[dict[str, Path], str]:
    """Engine -> repository with the model in INT8, the one that export chooses first; and the text model's name."""
    if options.repository is not None:
        return {Configs.of(options.repository, options.name).tensor.backend: options.repository}, options.name
    name = MODELS[options.model].text_model
    chosen = exported(options.model, ("int8",), serve="int8")
    repositories = {Configs.of(chosen, name).tensor.backend: chosen}
    for engine in THREADS if ENGINE in options.vary else ():
        if engine not in repositories:
            repositories[engine] = exported(options.model, ("int8",), engine=engine, serve="int8")
    return repositories, name


def texts_of(repository: Path, name: str) -> tuple[list[str], str]:
    """The benchmark's texts in a fair order, and what their lengths are."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(next(repository.glob(f"{name}/[0-9]*/tokenizer.json"))))
    texts = reviews(DEMO / "test.csv")
    tokens = [len(encoding.ids) for encoding in tokenizer.encode_batch([text.text for text in texts])]
    return [texts[index].text for index in fair_order(texts, tokens)], str(lengths(tokens))


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.settings", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--vary", nargs="+", default=list(SETTINGS), choices=list(SETTINGS), help="settings (default: all)"
    )
    parser.add_argument("--model", default="bert-base", choices=tuple(MODELS), help="in INT8 (default: bert-base)")
    parser.add_argument("--repository", type=Path, help="measure a model of this repository instead, on its own engine")
    parser.add_argument("--name", default="sentiment", help="text model of --repository (default: sentiment)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one cell")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16], metavar="N")
    parser.add_argument("--neighbour", type=float, default=0.5, metavar="SHARE", help="of every core, 0 to 1")
    return parser


def main() -> None:
    """Measure, print, write."""
    options = arguments().parse_args()
    repositories, name = repositories_of(options)
    texts, described = texts_of(next(iter(repositories.values())), name)
    cells: list[Cell] = []
    for setting in options.vary:
        own = measure(setting, repositories, name, texts, options)
        print(table(rows_of(own)), file=sys.stderr)
        cells += own
    rows = rows_of(cells)
    measured = f"{options.model}, int8" if options.repository is None else f"{name} of {options.repository}"
    method = (
        f"{measured}, cache off, through Triton over gRPC, one text a call; {described}; {options.rounds} interleaved "
        f"rounds of {options.seconds:g} s; the neighbour burns its share of every core; ratios are to the exported "
        f"value, which comes first; {cpu_name()}; {time.strftime('%Y-%m-%d')}"
    )
    publish("bench-settings", method, table(rows), rows)


if __name__ == "__main__":
    main()
