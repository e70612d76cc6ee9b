"""certd: an ACME certificate lifecycle daemon."""

__version__ = "0.1.0"
