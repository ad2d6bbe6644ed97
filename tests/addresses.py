"""The addresses of two hosts in tests: client A and server B, one network for each number.

As text, for ``Pipe``; the stack and its path managers take them packed: ``parse_address(A1)``.
"""

from __future__ import annotations

A1, A2, A3 = "10.0.1.1", "10.0.2.1", "10.0.3.1"
B1, B2, B3 = "10.0.1.2", "10.0.2.2", "10.0.3.2"
A6, B6 = "fd00::1", "fd00::2"
CLIENT, SERVER = (A1, A2, A3), (B1, B2, B3)
PORT = 5001
