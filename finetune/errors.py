"""What can go wrong while fine-tuning, branched by what the caller can do about it."""

from __future__ import annotations


class FinetuneError(Exception):
    """Fine-tuning cannot go on; the message says what happened and what to do."""


class RecipeError(FinetuneError):
    """A hyper-parameter is out of range, or two contradict each other: change the flag."""


class DataError(FinetuneError):
    """The labelled text cannot be trained on: change the file."""


class BaseModelError(FinetuneError):
    """The base checkpoint cannot be found, read or fine-tuned: change ``--base``."""


class OutputError(FinetuneError):
    """The result cannot be written where it was asked for: change ``--output``."""
