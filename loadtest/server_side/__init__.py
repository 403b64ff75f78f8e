"""The server's side of a measurement: its counters, metrics and processes over a window, and the machine it runs on.

counters    Triton's own counters as differences, put together with the rest: what a cell's result holds
exporter    what the page of metrics says of ``bert_text`` and of GPUs
prometheus  that page: fetched, read, added up
processes   CPU time and memory of the server's processes, where they can be seen
machine     the hardware in a few words, and whether a URL is this machine
"""
