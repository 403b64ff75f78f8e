"""Servers that people pick instead of Triton: each in an environment of its own, with its defaults and tuned.

Tuned means: what its documentation recommends for a CPU, on the workload's number of cores, in the precisions that it
offers, batching on where that made it faster. The settings were chosen by trying two to four of them each; README.md
has the figures. None reaches for a network: the models are local folders.
"""

from bench.rivals import infinity, litserve, mlserver, torchserve

CONTESTANTS = [
    *infinity.CONTESTANTS,
    *litserve.CONTESTANTS,
    *mlserver.CONTESTANTS,
    *torchserve.CONTESTANTS,
]
