"""Elect one active endpoint per resource and send its receiver signed webhooks."""

# The one place of the version; `make release` sets it.
VERSION = "0.1.0"
