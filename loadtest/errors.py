"""Why a load test cannot be run or went wrong, branched by what the caller can do about it.

Every message says what happened, the offending value, what was expected and what to do. All of them pickle.
"""

from __future__ import annotations


class LoadTestError(Exception):
    """Root of everything this package raises on purpose (exit code 1)."""


class UsageError(LoadTestError):
    """A flag, or a combination of flags, that cannot be (exit code 2)."""


class TargetError(LoadTestError):
    """The server or the model cannot be tested: not there, not ready, another protocol, unknown tensors."""


class ResultsError(LoadTestError):
    """A results folder or file cannot be written, read, or resumed."""


class GeneratorError(LoadTestError):
    """The load generator itself broke; nothing was measured."""
