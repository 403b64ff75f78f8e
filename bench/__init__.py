"""Benchmarks: what a design decision costs or gains, measured on this machine, as ratios from one run.

``make bench-overhead`` runs `bench.overhead`. Results go to ``results/`` as JSON and to stdout as a table.
"""
