"""What can go wrong while the demo is built."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot be built; the message says why and what to do."""
