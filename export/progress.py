"""What an export says while it works: a line a step on stderr, and bars where stderr is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from export.evaluation import Progress


class Steps:
    """Numbered lines on stderr, with the seconds since the first; ``quiet`` says nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._start = time.monotonic()

    def say(self, line: str) -> None:
        """Prints a line."""
        if not self._quiet:
            seconds = time.monotonic() - self._start
            print(f"[{seconds:5.1f} s] {line}", file=sys.stderr, flush=True)  # noqa: T201

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "text") -> Iterator[Progress]:
        """A progress bar over ``total`` things; where stderr is no terminal, one line."""
        if self._quiet or not sys.stderr.isatty():
            self.say(f"{title} ({total} {unit}s)")
            yield lambda _: None
            return
        from tqdm import tqdm

        with tqdm(total=total, desc=title, unit=unit, leave=False) as bar:
            yield bar.update
        self.say(f"{title} ({total} {unit}s)")
