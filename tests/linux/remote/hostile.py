"""A login that is no agent: reads what a controller sends, and answers what it likes."""

import json
import os
import struct
import sys
import time

MARK = b"\nmptcplab agent 1\n"


def frame(body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + body


def answer_all(text: str) -> None:
    """Answer every message with a text in which ID stands for its number."""
    os.write(1, MARK + frame(b'{"locked":false}'))
    data = b""
    length = int(sys.stdin.buffer.read(10))
    sys.stdin.buffer.read(length)
    while more := os.read(0, 1 << 16):
        data += more
        while len(data) >= 4 and len(data) >= 4 + struct.unpack("!I", data[:4])[0]:
            (size,) = struct.unpack("!I", data[:4])
            message, data = json.loads(data[4 : 4 + size]), data[4 + size :]
            os.write(1, frame(text.replace("ID", str(message["id"])).encode()))


def main(kind: str) -> None:
    if kind == "noise":
        for _ in range(200):
            os.write(1, b"\x1b[2J\x07motd " * 20_000)
    elif kind == "noise after the mark":
        os.write(1, MARK + b"\x1b[31mnoise" * 1_000_000)
    elif kind == "a long message":
        os.write(1, MARK + struct.pack("!I", 8 << 20))
        for _ in range(100):
            os.write(1, bytes(1 << 20))
    elif kind == "wrong JSON":
        os.write(1, MARK + frame(b'{"locked":'))
        time.sleep(60)
    elif kind == "ends":
        sys.stderr.write("\x1b]0;owned\x07go away\n")
    elif kind == "nonsense":
        answer_all('{"answer":ID,"facts":{"hostname":"\\u001b[31m","kernel":5}}')
    elif kind == "refuses":
        answer_all('{"answer":ID,"error":"\\u001b[2Jno"}')
    elif kind == "endless":
        os.write(1, MARK + frame(b'{"locked":false}'))
        while True:
            os.write(1, frame(b'{"worker":7,"said":null}') * 1000)


main(sys.argv[1])
