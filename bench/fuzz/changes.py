"""Changing inputs: words and values of TOML and JSON, numbers and lengths, bytes."""

from __future__ import annotations

import random
import re
from typing import Final

MOST_BYTES: Final = 60_000

_WORD = re.compile(rb'"(?:[^"\\\n]|\\.)*"|[\w.+-]+|[^\w\s]')
_VALUES: Final = (
    b"0", b"-1", b"1", b"1e999", b"nan", b"inf", b"true", b"null", b"[]", b"{}", b'""',
    b'"\\u0000"', b'"\\u001b[2J"', b"9" * 30, b"9" * 5000, b"0x" + b"f" * 500,
    b'"1e308Gb/s"', b'"-1s"', b'"0%"',
    b'"1 BDP"', b'"alice"', b'"alice:eth0"', b"1979-05-27T07:32:00Z", b"[" * 400, b"{a=" * 400,
    b"9223372036854775807", b"-9223372036854775808", b"4611686018427387904", b'"x:Y"', b'"../x"',
)  # fmt: skip
_INTERESTING: Final = (0, 1, 2, 3, 4, 8, 12, 20, 28, 30, 32, 40, 0x7F, 0x80, 0xFE, 0xFF)


def changed_text(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Change words, and bytes now and then, with parts of others of the corpus."""
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        change = _changed_words if rng.random() < 0.8 else _changed_bytes
        data = change(rng, data, corpus)
    return data[:MOST_BYTES]


def changed_bytes(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Change bytes, with parts of others of the corpus."""
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        data = _changed_bytes(rng, data, corpus)
    return data[:MOST_BYTES]


def _changed_words(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    words = [match.span() for match in _WORD.finditer(data)]
    if not words:
        return rng.choice(_VALUES)
    start, end = rng.choice(words)
    match rng.randrange(6):
        case 0:
            return data[:start] + rng.choice(_VALUES) + data[end:]
        case 1:
            return data[:start] + data[end:]
        case 2:
            other = rng.choice(corpus)
            found = [match[0] for match in _WORD.finditer(other)] or [b"x"]
            return data[:start] + rng.choice(found) + data[end:]
        case 3:
            _, last = rng.choice(words)
            return data[:start] + data[max(start, last) :]
        case 4:
            lines = data.split(b"\n")
            lines.insert(rng.randrange(len(lines)), rng.choice(rng.choice(corpus).split(b"\n")))
            return b"\n".join(lines)
        case _:
            lines = data.split(b"\n")
            del lines[rng.randrange(len(lines))]
            return b"\n".join(lines)


def _changed_bytes(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    out = bytearray(data)
    at = rng.randrange(len(out) + 1)
    match rng.randrange(7):
        case 0:
            out[at : at + 1] = bytes([rng.choice(_INTERESTING)])
        case 1:
            size = rng.choice((2, 4, 8))
            number = int.from_bytes(out[at : at + size], "little") + rng.choice((-1, 1, 4, 1 << 16))
            out[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
        case 2:
            del out[at : at + rng.choice((1, 4, 16, 200))]
        case 3:
            out[at:at] = out[at : at + rng.choice((1, 4, 16, 200))] * rng.choice((1, 2, 50))
        case 4:
            other = rng.choice(corpus)
            there = rng.randrange(len(other) + 1)
            out[at:] = other[there:]
        case 5:
            out[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", bytes(4), b"\0\0\0\x80"))
        case _:
            out[at : at + 4] = rng.randbytes(rng.choice((1, 4, 8)))
    return bytes(out)
