#!/usr/bin/env python3
"""A `tc` for a kernel without netem: keeps one netem on each interface, in a file, and says so.

Beside the state is a log of what it was asked. What it cannot know it does not do.
"""

import fcntl
import json
import sys
from pathlib import Path

STATE = Path(__file__).with_name("tc-state")


def main(words: list[str]) -> int:
    space = str(Path("/proc/self/ns/net").stat().st_ino)
    kept = json.loads(STATE.read_text()) if STATE.exists() else {}
    if words[:3] == ["-j", "qdisc", "show"]:
        shown = [
            {"kind": "netem", "handle": "7101:", "dev": key.split()[1], "root": True}
            for key in kept
            if key.split()[0] == space
        ]
        print(json.dumps(shown))
        return 0
    verb, device = words[1], words[3]
    key = f"{space} {device}"
    if device == "lo":
        return 0  # it is tried
    with STATE.with_name("tc-log").open("a") as log:
        log.write(" ".join(words) + "\n")
    if (verb == "add") == (key in kept):
        print("RTNETLINK answers: No", file=sys.stderr)
        return 2
    if verb == "del":
        del kept[key]
    else:
        kept[key] = words[words.index("netem") :]
    STATE.write_text(json.dumps(kept))
    return 0


with STATE.with_name("tc-lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    sys.exit(main(sys.argv[1:]))
