"""The arrivals of an open workload are a Poisson process, the same one whenever the cell is measured again."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from loadtest.generator.arrivals import GAPS_AT_ONCE, arrival_times, seed_of

RATE_PER_S = 50.0


def test_gaps_are_exponential_with_the_rate() -> None:
    times = np.array(list(islice(arrival_times(RATE_PER_S, seed=(1, 2)), 20 * GAPS_AT_ONCE)))
    gaps = np.diff(times, prepend=0.0)
    assert (gaps > 0).all()
    assert gaps.mean() * RATE_PER_S == pytest.approx(1, abs=0.03)  # its standard deviation here is 0.007
    assert gaps.std() * RATE_PER_S == pytest.approx(1, abs=0.05)
    assert np.quantile(gaps, [0.1, 0.5, 0.9]) * RATE_PER_S == pytest.approx(-np.log([0.9, 0.5, 0.1]), rel=0.1)


def test_two_processes_with_half_the_rate_each_make_one_poisson_process() -> None:
    parts = [islice(arrival_times(RATE_PER_S / 2, seed=seed_of("cell", 0, index)), 10_000) for index in range(2)]
    times = np.sort(np.concatenate([np.array(list(part)) for part in parts]))
    counts = np.histogram(times, bins=np.arange(0, 300, 1.0))[0]
    assert counts.mean() == pytest.approx(RATE_PER_S, rel=0.05)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.35)  # 1 for Poisson; 4 standard deviations


def test_seeds_tell_processes_and_cells_apart_and_nothing_else() -> None:
    def first(*seed_arguments: object) -> float:
        return next(arrival_times(RATE_PER_S, seed=seed_of(*seed_arguments)))  # type: ignore[arg-type]

    assert first("cell", 0, 0) == first("cell", 0, 0)
    assert len({first("cell", 0, 0), first("cell", 0, 1), first("other", 0, 0), first("cell", 1, 0)}) == 4
