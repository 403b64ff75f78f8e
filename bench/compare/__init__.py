"""``python -m bench.compare`` (``make bench``): this project beside what people use today, in one run.

Same checkpoint, same texts, same cores, same number of clients; rounds in turn (A B C … A B C …); answers checked.
`contestant` says what a row of the table is, `run` measures them, `score` and `goals` reckon, `report` writes.
How to run it and how to add a row: ``docs/benchmark.md``.
"""
