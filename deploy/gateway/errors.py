"""Everything the gateway raises; a message names the offending value and what to do."""

from __future__ import annotations


class GatewayError(Exception):
    """Root of every error of this package."""


class SettingsError(GatewayError):
    """An environment variable is missing, unknown, or has a value that cannot work."""


class KeysError(GatewayError):
    """The file of API keys cannot be used."""


class CertificateError(GatewayError):
    """Certificate and private key cannot be used, or could not be made."""


class NginxError(GatewayError):
    """nginx is missing, refuses its configuration, or has ended."""


class MtailError(GatewayError):
    """mtail is missing or does not start."""
