"""Whom this deployment trusts: the public authorities, and those of its own bundle."""

from __future__ import annotations

import ssl

import certifi

from link.telemetry import logger


def context(ca_bundle: str) -> ssl.SSLContext:
    """The context of a client that verifies the other side. `ca_bundle` is the path of a PEM file, or empty."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    made.load_verify_locations(certifi.where())
    if ca_bundle:
        try:
            made.load_verify_locations(ca_bundle)
        except OSError as error:
            # Everything else goes on. Attempts for receivers that need it are refused, and raise an alarm.
            logger.error("ca_bundle.unreadable", path=ca_bundle, reason=str(error))
    return made
