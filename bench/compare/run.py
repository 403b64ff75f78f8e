"""One run: everybody is started, then measured in turn, round by round; what fails is noted and left out."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.compare import machine, score
from bench.compare.contestant import Contestant
from bench.compare.goals import Result
from bench.compare.latency import HalfLoad, half_load
from bench.compare.machine import Arithmetic, Rates
from bench.compare.measure import Block, measure
from bench.compare.reference import labels
from bench.compare.rows import in_process, ours
from bench.compare.score import Row, Spread, of_row
from bench.compare.stage import Entry, memory_is_short
from bench.compare.workload import Work
from bench.in_process import arrival_order
from bench.models import MODELS

FAILED = "failed"
HALF_LOAD_REPETITIONS = 3


@dataclass(frozen=True)
class Plan:
    """How long and how much.

    Attributes:
        rounds: of every row.
        seconds: of a row in a round.
        clients: callers at once.
    """

    rounds: int
    seconds: float
    clients: int


def run(contestants: Sequence[Contestant], work: Work, plan: Plan) -> Result:
    """Measures; ends every process it started, also when it is interrupted."""
    reference = labels(work.workload.checkpoint, work.workload.texts, work.workload.max_length)
    this = _Run(contestants, work, plan)
    try:
        this.start()
        this.rounds()
        this.half_load()
    finally:
        for entry in this.entries:
            entry.end()
    best = next((entry.detail for entry in this.entries if entry.contestant.name == in_process.LIMIT), "")
    return Result(
        rows=[this.row(entry, reference) for entry in this.entries],
        blocks=this.blocks,
        rates=this.rates,
        half_loads=this.half_loads,
        int8_points_lost=this.int8_points_lost(),
        padding=padding(work.tokens),
        best_precision=best.split(",")[0],
    )


def padding(tokens: Sequence[int]) -> float:
    """Padded / real tokens in batches of 16 as they come."""
    padded = sum(max(tokens[place] for place in group) * len(group) for group in arrival_order(tokens))
    return padded / sum(tokens)


class _Run:
    """What gathers in the course of it."""

    def __init__(self, contestants: Sequence[Contestant], work: Work, plan: Plan) -> None:
        self.entries = [Entry(contestant) for contestant in contestants]
        self.blocks: list[Block] = []
        self.answers: dict[str, list[tuple[int, str]]] = {}
        self.rates: list[Rates] = []
        self.half_loads: list[HalfLoad] = []
        self.trained = MODELS[work.workload.model].trained
        self._work = work
        self._plan = plan
        arithmetic = Arithmetic.of(work.workload.checkpoint)
        self._operations = [arithmetic.operations([count]) for count in work.tokens]

    def start(self) -> None:
        """Everybody who can be; where memory is short, ended again at once."""
        for number, entry in enumerate(self.entries, 1):
            started = time.monotonic()
            entry.start(self._work.workload, self._plan.clients)
            said = entry.status or f"up in {time.monotonic() - started:.0f} s, {entry.memory_mb:.0f} MB"
            if not entry.status and memory_is_short():
                entry.resident = False
                entry.end()
                said += "; memory is short: started for each of its turns"
            _say(f"[{number}/{len(self.entries)}] {entry.contestant.name}: {said}")

    def rounds(self) -> None:
        """Everybody in turn."""
        began = time.monotonic()
        done = 0
        for number in range(self._plan.rounds):
            self.rates.append(machine.measured())
            for place, entry in enumerate(self.entries):
                if entry.status:
                    continue
                self._turn(entry, number)
                done += 1
                later = sum(not other.status for other in self.entries[place + 1 :])
                later += sum(not other.status for other in self.entries) * (self._plan.rounds - number - 1)
                left_min = (time.monotonic() - began) / done * later / 60
                _say(f"round {number + 1}/{self._plan.rounds}  {self._figures(entry)}  (about {left_min:.0f} min left)")

    def half_load(self) -> None:
        """Latency of ours at half of its rate, if it took part."""
        entry = next((entry for entry in self.entries if entry.contestant.name == ours.BEST), None)
        rate = Spread.of(block.sentences_per_s for block in of_row(self.blocks, ours.BEST))
        if entry is None or rate is None or entry.status:
            return
        if not entry.resident:
            entry.start(self._work.workload, self._plan.clients)
        if entry.answerer is None:
            return
        repetitions = min(self._plan.rounds, HALF_LOAD_REPETITIONS)
        _say(f"{ours.BEST}: latency at half of its maximum, {repetitions * 3 * self._plan.seconds:.0f} s")
        texts = self._work.workload.texts
        self.half_loads += half_load(entry.answerer.classify, texts, rate.median, self._plan.seconds, repetitions)

    def row(self, entry: Entry, reference: Sequence[str]) -> Row:
        """What the table says of an entry.

        Args:
            entry: who.
            reference: the checkpoint's label of each text.
        """
        contestant = entry.contestant
        blocks = of_row(self.blocks, contestant.name)
        answers = self.answers.get(contestant.name, [])
        equal = score.share(answers, reference)
        failed = sum(block.failed for block in blocks)
        verdict = score.verdict(
            answered=len(answers),
            failed=failed,
            failure=next((block.failure for block in blocks if block.failure), ""),
            precision=contestant.precision,
            equal=equal,
            trained=self.trained,
        )
        medians = {
            name: spread.median if (spread := Spread.of(getattr(block, name) for block in blocks)) else 0.0
            for name in ("cores", "client_cores")
        }
        return Row(
            name=contestant.name,
            settings=contestant.settings + (f" ({entry.detail})" if entry.detail else ""),
            where=contestant.where,
            precision=contestant.precision,
            status=entry.status or verdict,
            sentences_per_s=Spread.of(block.sentences_per_s for block in blocks),
            p50_ms=Spread.of(block.p50_ms for block in blocks),
            p99_ms=Spread.of(block.p99_ms for block in blocks),
            reference_ratio=score.ratio(self.blocks, ours.BEST, contestant.name),
            answered=len(answers),
            failed=failed,
            labels_equal=equal,
            memory_mb=entry.memory_mb,
            cores=medians["cores"],
            client_cores=medians["client_cores"],
        )

    def int8_points_lost(self) -> float | None:
        """Accuracy that our INT8 loses to our FP32; None where the model was not trained, or one did not run."""
        if not self.trained:
            return None
        return score.points_lost(self.answers.get(ours.INT8, []), self.answers.get(ours.FP32, []), self._work.human)

    def _turn(self, entry: Entry, number: int) -> None:
        """One block; what goes wrong is noted and keeps the entry from further rounds."""
        if not entry.resident:
            entry.start(self._work.workload, self._plan.clients)
        if entry.status:
            return
        try:
            block, answers = measure(
                entry,
                self._work.workload,
                number,
                clients=self._plan.clients,
                seconds=self._plan.seconds,
                operations=self._operations,
            )
        except Exception as exc:  # noqa: BLE001 -- one row must not end the run
            entry.end(f"{FAILED}: {type(exc).__name__}: {exc}")
            return
        if block.answered:
            self.blocks.append(block)
            self.answers.setdefault(block.row, []).extend(answers)
        if block.failed > score.FAILED_SHARE * (block.answered + block.failed):
            entry.end(f"{FAILED}: {block.failed} of {block.answered + block.failed} texts: {block.failure}")
        elif not entry.resident:
            entry.end()

    def _figures(self, entry: Entry) -> str:
        name = entry.contestant.name
        if entry.status:
            return f"{name}: {entry.status}"
        last = of_row(self.blocks, name)[-1]
        latency = "" if last.p99_ms is None else f", p99 {last.p99_ms:.0f} ms"
        return f"{name}: {last.sentences_per_s:.1f}/s{latency}"


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)
