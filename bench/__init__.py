"""Benchmarks: what a design decision costs or gains, measured on this machine, as ratios from one run.

``make bench-overhead`` runs `bench.overhead`, ``make bench-queue-policy`` `bench.queue_policy`,
``make bench-agreement`` `bench.agreement` and ``make bench-generator`` `bench.generator_cost`. Results go to stdout as
a table and to ``results/`` as JSON.
"""
