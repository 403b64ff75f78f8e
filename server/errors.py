"""Why Triton cannot be started or kept running, branched by what the caller can do about it.

Every message is one line: what happened, the offending value, what was expected, what to do.
"""

from __future__ import annotations


class ServerError(Exception):
    """Root of everything this package raises on purpose."""

    @property
    def message(self) -> str:
        """The one line, without the log that some errors carry."""
        return str(self.args[0]) if self.args else type(self).__name__


class OptionError(ServerError):
    """A flag or an environment variable has a value that cannot be used (exit code 2)."""


class PlatformError(ServerError):
    """pip's Triton cannot run here at all; use NVIDIA's container."""


class InstallationError(ServerError):
    """Something that pip or the system's package manager can install is missing."""


class RepositoryError(ServerError):
    """The model repository is missing, empty, or holds configs without exported versions."""


class IntegrityError(RepositoryError):
    """A version folder does not hold what its manifest says."""


class ChangeError(ServerError):
    """Another version cannot be served; what was served before goes on."""


class ControlError(ServerError):
    """The running server cannot be told anything: it is not there, or takes no orders."""


class ResourceError(ServerError):
    """The machine lacks something: a port, room in /dev/shm, a writable temporary folder."""


class PortError(ResourceError):
    """A port is taken or may not be used."""


class StartError(ServerError):
    """Triton started and gave up, or did not become ready in time.

    Args:
        message: one line.
        log_tail: the last lines of Triton's log, shown after the message.
    """

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message, log_tail)

    @property
    def log_tail(self) -> str:
        """The last lines of Triton's log; may be empty."""
        return str(self.args[1])

    def __str__(self) -> str:
        return f"{self.message}\n{self.log_tail}" if self.log_tail else self.message


class ModelError(StartError):
    """Triton refused a model, or a model does not answer."""


class StartCancelledError(StartError):
    """The caller asked to stop while Triton was starting."""
