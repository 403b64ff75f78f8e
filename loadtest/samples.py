"""Raw samples: one row a request, nothing rounded, nothing put into buckets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

ANSWERED = 0


@dataclass(frozen=True)
class Samples:
    """The requests of one cell that were begun inside the window, in the order in which they ended.

    Attributes:
        begin_s: float64[n], seconds from the start of the window to the send time: for an open workload the intended
            one.
        latency_s: float64[n], from there to the end of the answer, or of the failure.
        kind: uint8[n], `ANSWERED`, or 1 + an index into ``failure_kinds``.
        failure_kinds: what failed, for example ``("DeadlineExceededError",)``.
        ends_s: float64[m], when the good answers came that came inside the window, those to requests begun in the
            warm-up included: throughput is counted from these.
    """

    begin_s: npt.NDArray[np.float64]
    latency_s: npt.NDArray[np.float64]
    kind: npt.NDArray[np.uint8]
    failure_kinds: tuple[str, ...]
    ends_s: npt.NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Writes an ``.npz`` file; whole or absent."""
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                begin_s=self.begin_s,
                latency_s=self.latency_s,
                kind=self.kind,
                failure_kinds=np.array(self.failure_kinds, dtype=np.str_),
                ends_s=self.ends_s,
            )
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Samples:
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(
                file["begin_s"],
                file["latency_s"],
                file["kind"],
                tuple(str(kind) for kind in file["failure_kinds"]),
                file["ends_s"],
            )
