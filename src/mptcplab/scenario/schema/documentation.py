"""The reference page of the scenario file, ``docs/reference/scenario.md``, from the schema."""

from __future__ import annotations

from importlib import resources

from mptcplab.scenario.schema.json_schema import shown_default
from mptcplab.scenario.schema.keys import sections
from mptcplab.scenario.schema.parts import Key, Rows, Section, Settings, Tables
from mptcplab.scenario.schema.value_kinds import Kind

_BEFORE = """\
# The scenario file

<!-- Written by `mptcplab schema --documentation -o docs/reference/scenario.md`. -->

A scenario is one TOML file: a network, what flows over it, and what happens to it. Everything in it
is checked before anything is built; `mptcplab check FILE` prints what would be. An error names the
file, the key, what was found and what was expected.

```toml
{example}```

The 2012 testbed and its nine experiments are such files too, with NICs, VLANs, a switch and sweeps:
`mptcplab experiments --json` says where they are.

Interfaces (`eth0`, `eth1`, ... in the order of the links) and addresses (10.0.N.0/24, and
fd6d:7074:6370:N::/64 where IPv6 is asked for) that a file does not give are derived, always alike.

## Quantities

| quantity | written | note |
|---|---|---|
| rate | `"1Gb/s"`, `"300M"`, `"10 Mbit/s"` | bits; k, M, G are powers of 1000 |
| size | `"10MB"`, `"64KiB"`, `1500` | bytes; Ki, Mi, Gi are powers of 1024 |
| duration | `"33.3ms"`, `"900s"`, `"15min"`, `2` | a bare number is seconds |
| fraction | `"0.1%"`, `0.001` | |
| queue limit | `"100 packets"`, `"1MB"`, `"50ms"`, `"1 BDP"` | time and BDP become bytes at the \
rate and RTT that the run starts with |

A `delay` is one way and holds for each direction; an `rtt` is both ways together, half of it each.

## Changing a file from the command line

`--set KEY=VALUE` changes one key before the file is checked. The key is dotted, `*` stands for
every name, entries of an array count from 0, names with a dot are quoted; the value is TOML, or
bare words:

```sh
mptcplab check F --set 'flows.*.buffer=115MB' --set 'links.link8.queue=1 BDP'
mptcplab check B --set tunables.path_manager=kernel --set timeline.0.at=60s
mptcplab check B --set 'hosts.bliksem.interfaces."eth8.520".mtu=1500'
```

A queue in BDP needs a link with a delay: on a LAN link without one it comes to nothing.

A value of a link replaces what the file says of its directions, `delay` replaces `rtt` and the
other way round, `buffer` replaces `send_buffer` and `receive_buffer`.

`--duration T` and `--time-scale X` multiply all times of timeline and flows, and nothing else:
links, buffers, sizes, and the settling times of `expect` stay. Samples come closer in a run made
shorter, ten at least for its shortest stage; a stage shorter than its settling time is not judged.
`--set duration=...` scales nothing.

## Keys

Required keys are in bold.
"""


def reference_page() -> str:
    """Return the page as Markdown."""
    data = resources.files("mptcplab.scenario") / "data" / "examples" / "two-links.toml"
    parts = [_BEFORE.replace("{example}", data.read_text(encoding="utf-8"))]
    parts += [_section(section) for section in sections()]
    return "\n".join(parts)


def _section(section: Section) -> str:
    heading = section.name if " " in section.name else f"`{section.name}`"
    lines = [f"### {heading}", "", section.doc, ""]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    lines += [_row(name, key) for name, key in section.keys.items()]
    lines += ["", *(f"Of one table: {rule}." for rule in section.rules)]
    return "\n".join(lines).rstrip() + "\n"


def _row(name: str, key: Key) -> str:
    shown = f"**`{name}`**" if key.required else f"`{name}`"
    kind = key.kind
    if isinstance(kind, Kind):
        value = kind.name
        if (
            kind.example
            and kind.example.strip('"') not in kind.name
            and not kind.name.startswith("number")
        ):
            value += f", such as `{kind.example}`"
    elif isinstance(kind, Rows):
        value = f"array of [{kind.section.name}](#{_anchor(kind.section)})"
    elif isinstance(kind, Settings):
        value = f"table of {kind.kind.name}"
    elif isinstance(kind, Tables):
        value = f"table of [{kind.section.name}](#{_anchor(kind.section)}) by name"
    else:
        value = f"table [{kind.section.name}](#{_anchor(kind.section)})"
    default = "" if key.required else shown_default(key)
    cells = (shown, value, default, key.doc)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _anchor(section: Section) -> str:
    return section.name.lower().replace(".", "").replace(" ", "-")
