"""Real components for tests and for ``certd demo``: found or fetched, started, watched, stopped.

Nothing here is imported by the daemon. Everything listens on loopback only.
"""
