"""What a person sees of a run while it runs: a bar on a terminal, lines elsewhere, always on stderr.

Owns the record of the epochs' metrics too, since it is told them first.
"""

# ruff: noqa: ARG002  the Trainer names the arguments of a callback

from __future__ import annotations

import sys
import time
from typing import Any

_SECONDS_PER_LINE = 15


class Progress:
    """Follows one run.

    Attributes:
        epochs: the metrics of every epoch that has ended.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self._bar: Any = None
        self._started = time.monotonic()
        self._last_line_s = 0.0

    def line(self, message: str) -> None:
        """Prints one line, above the bar if there is one."""
        if self._bar is None:
            print(message, file=sys.stderr, flush=True)  # noqa: T201
        else:
            self._bar.write(message, file=sys.stderr)

    def begin(self, steps: int) -> None:
        """Training begins; it takes at most ``steps`` steps."""
        self._started = time.monotonic()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=steps, desc="training", unit="step", file=sys.stderr)

    def step(self, done: int, total: int) -> None:
        """A step has ended."""
        if self._bar is not None:
            self._bar.update(1)
        elif self.elapsed_s() - self._last_line_s >= _SECONDS_PER_LINE:
            self._last_line_s = self.elapsed_s()
            to_go = self._last_line_s / done * (total - done)
            self.line(f"step {done}/{total}, {self._last_line_s:.0f} s, at most {to_go:.0f} s to go")

    def epoch(self, metrics: dict[str, float]) -> None:
        """An epoch has ended and been validated."""
        self.epochs.append(metrics)
        self.line(
            f"epoch {len(self.epochs)}: training loss {metrics['train_loss']:.4f}, "
            f"validation loss {metrics['loss']:.4f}, "
            f"accuracy {metrics['accuracy']:.4f}, macro F1 {metrics['macro_f1']:.4f}, {metrics['elapsed_s']:.0f} s"
        )

    def end(self) -> None:
        """Training has ended."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def elapsed_s(self) -> float:
        """Seconds since training began."""
        return time.monotonic() - self._started

    def callback(self) -> Any:
        """This, as what the Trainer calls."""
        from transformers import TrainerCallback

        progress = self

        class Follow(TrainerCallback):
            """Forwards the Trainer's events."""

            train_loss = float("nan")

            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                progress.begin(state.max_steps)

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                progress.step(state.global_step, state.max_steps)

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
                self.train_loss = (logs or {}).get("loss", self.train_loss)

            def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
                measured = {name: metrics[f"eval_{name}"] for name in ("loss", "accuracy", "macro_f1")}
                progress.epoch({"train_loss": self.train_loss, **measured, "elapsed_s": progress.elapsed_s()})

            def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                progress.end()

        return Follow()
