"""Optional compilation of the stack's hot modules with mypyc.

Without ``MPTCPLAB_COMPILE=1`` this adds nothing to pyproject.toml. With it, and with mypy
installed, the modules below are compiled to C; everything else, and every result, is the same.

    MPTCPLAB_COMPILE=1 python setup.py build_ext --inplace      # or: make compile

In the compiled modules ``i64`` is a machine integer; uncompiled, and for callers, an ``int``. What
may need more bits (data sequence numbers, keys) stays ``int``.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import setup

COMPILED = [
    "seq.py",
    "loop/timers.py",
    "loop/virtual.py",
    "loop/realtime.py",
    "network/link.py",
    "network/capacity.py",
    "network/early_detection.py",
    "network/jitter.py",
    "network/loss.py",
    "network/piece.py",
    "network/wire.py",
    "network/counters.py",
    "simulated/fabric.py",
    "simulated/parcel.py",
    "simulated/host.py",
    "simulated/cpu.py",
    "simulated/applications.py",
    "wire/checksum.py",
    "wire/segment.py",
    "wire/mptcp.py",
    "stack/reassembly.py",
    "stack/stack.py",
    "stack/congestion/*.py",
    "stack/schedulers/*.py",
    "stack/tcp/*.py",
    "stack/mptcp/*.py",
]

# The modules become one library, in which functions are visible to others unless told: calls among
# them then go through the dynamic linker's table, and none is inlined.
LOCAL_CALLS = ["-fvisibility=hidden", "-fno-plt"] if os.name == "posix" else []

ext_modules = []
if os.environ.get("MPTCPLAB_COMPILE") == "1":
    from mypyc.build import mypycify

    root = Path("src/mptcplab")
    paths = [path for pattern in COMPILED for path in sorted(root.glob(pattern))]
    modules = [str(path) for path in paths if path.name != "__init__.py"]
    ext_modules = mypycify(modules, opt_level="3")
    for extension in ext_modules:
        extension.extra_compile_args += LOCAL_CALLS

setup(ext_modules=ext_modules)
