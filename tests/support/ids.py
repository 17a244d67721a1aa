"""The resource of most tests, and the two sites that compete for it."""

PARIS = "vip-11111111-1111-4111-8111-111111111111"
LONDON = "vip-22222222-2222-4222-8222-222222222222"
RESOURCE = "floating-ip-203.0.113.7"
URL = "https://receiver.example.com/hook"
SECRETS = {PARIS: "paris-secret-0123456789abcdef0123", LONDON: "london-secret-0123456789abcdef01"}
NOW = 1_795_435_200_000
"""2026-11-23T12:00:00Z, Unix milliseconds."""
