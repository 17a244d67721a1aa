"""Elects one active endpoint per resource and tells its receiver so with signed webhooks."""

VERSION = "0.1.0"
