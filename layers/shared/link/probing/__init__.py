"""Probes: the service looks at endpoints itself, and reports what it finds as the observer `probe`."""
