"""The agent: one process on a host that checks the host's endpoints and reports them in one event a beat.

`core` decides and does nothing itself; `process` does what it says, with threads, sockets and signals around it.
"""
