"""CRC-32C (RFC 3720 section 12.1), which Google's services check payloads with."""

from __future__ import annotations

_REVERSED = 0x82F63B78  # the polynomial of Castagnoli


def _row(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_REVERSED if byte & 1 else 0)
    return byte


_TABLE = tuple(_row(byte) for byte in range(256))


def crc32c(data: bytes) -> int:
    found = 0xFFFFFFFF
    for byte in data:
        found = found >> 8 ^ _TABLE[(found ^ byte) & 0xFF]
    return found ^ 0xFFFFFFFF
