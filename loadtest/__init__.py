"""Load tests for a Triton that serves BERT: ``python -m loadtest``, and ``locust -f loadtest/locustfile.py``.

One cell, from the command line to its row:

    commands ─ options ─► sweep ─► measure ─┬─► generator ─ payloads ─ wire ─► Triton       a process of its own
                            │               ├─► server_side                                 Triton's counters, CPU, GPU
                            │               └─► statistics ─► verdict ─► CellResult
                            └─► results (files) ─► conclusions ─► report (tables, page, CSV, JSON)

    cell, samples, errors, access   the data that all of them share
    target                          who is asked, found out from the server
    flags, options                  one flag means one thing everywhere
    campaign, progress              what every measuring command does around its cells

Nothing here imports export or server: any Triton will do. gevent and Locust stay in the generator's processes.
"""
