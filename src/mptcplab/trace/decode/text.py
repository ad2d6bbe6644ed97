"""Quantities and options as people write them."""

from __future__ import annotations

from typing import Final

from mptcplab.trace.decode.segments import ACK, FIN, PSH, RST, SYN
from mptcplab.trace.decode.truncated_options import CutOption
from mptcplab.wire.mptcp import (
    AddAddr,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)

RST_REASONS: Final = (
    "unspecified error", "MPTCP error", "lack of resources", "administratively prohibited",
    "too much outstanding data", "unacceptable performance", "middlebox interference",
)  # fmt: skip
"""RFC 8684 section 3.6."""

SUBTYPE_NAMES: Final = (
    "capable", "join", "dss", "add-addr", "rem-addr", "prio", "fail", "fast-close", "tcp-rst",
    *(f"subtype {number}" for number in range(9, 16)),
)  # fmt: skip

FLAG_LETTERS: Final = ((SYN, "S"), (FIN, "F"), (RST, "R"), (PSH, "P"), (ACK, "."))
"""tcpdump's letters."""


def bytes_text(count: float) -> str:
    """Return a size with a decimal unit: 1.17 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return (
                f"{count / size:.3g} {unit}"
                if count < 999.5 * size
                else f"{count / size:.0f} {unit}"
            )
    return f"{count:.0f} B"


def rate_text(bits_per_s: float) -> str:
    """Return a rate with a decimal unit: 467 Mb/s."""
    for unit, size in (("Gb/s", 1e9), ("Mb/s", 1e6), ("kb/s", 1e3)):
        if bits_per_s >= size:
            value = bits_per_s / size
            return f"{value:.3g} {unit}" if value < 999.5 else f"{value:.0f} {unit}"
    return f"{bits_per_s:.0f} b/s"


def time_text(duration_ns: float) -> str:
    """Return a duration with a fitting unit: 33.3 ms."""
    if duration_ns >= 999.5e6:
        return f"{duration_ns / 1e9:.4g} s"
    if duration_ns >= 999.5e3:
        return f"{duration_ns / 1e6:.3g} ms"
    return f"{duration_ns / 1e3:.3g} us"


def flags_text(flags: int) -> str:
    """Return TCP flags in tcpdump's letters."""
    return "".join(letter for bit, letter in FLAG_LETTERS if flags & bit) or "none"


def address_text(packed: bytes) -> str:
    """Return the address in an ADD_ADDR."""
    import ipaddress

    return str(ipaddress.ip_address(packed))


def option_text(option: MptcpOption) -> str:
    """Return what an option says, in tcpdump's manner."""
    match option:
        case MpCapable():
            out = f"mp capable v{option.version} flags 0x{option.flags:02x}"
            keys = [key for key in (option.sender_key, option.receiver_key) if key is not None]
            out += "".join(f" {{0x{key:016x}}}" for key in keys)
            return out + (f" length {option.data_length}" if option.data_length else "")
        case MpJoinSyn():
            backup = " backup" if option.backup else ""
            return (
                f"mp join{backup} id {option.address_id} token 0x{option.token:08x} "
                f"nonce 0x{option.nonce:08x}"
            )
        case MpJoinSynAck():
            backup = " backup" if option.backup else ""
            return (
                f"mp join{backup} id {option.address_id} hmac 0x{option.hmac.hex()} "
                f"nonce 0x{option.nonce:08x}"
            )
        case MpJoinAck():
            return f"mp join hmac 0x{option.hmac.hex()}"
        case AddAddr():
            port = f":{option.port}" if option.port is not None else ""
            echo = " echo" if option.echo else ""
            address = address_text(option.address) + port
            hmac = f" hmac 0x{option.hmac.hex()}" if option.hmac else ""
            return f"mp add-addr{echo} id {option.address_id} {address}{hmac}"
        case RemoveAddr():
            return "mp rem-addr id " + " ".join(str(one) for one in option.address_ids)
        case MpPrio():
            out = "mp prio " + ("backup" if option.backup else "regular")
            return out if option.address_id is None else f"{out} id {option.address_id}"
        case MpFail():
            return f"mp fail seq {option.dsn}"
        case MpFastclose():
            return f"mp fast-close key 0x{option.receiver_key:016x}"
        case MpTcpRst():
            transient = " transient" if option.transient else ""
            return f"mp tcp-rst{transient} reason {option.reason}"
        case CutOption():
            return f"mp {SUBTYPE_NAMES[option.subtype]} (cut off by the snap length)"
    return f"mp subtype {option.subtype}"


def reason_text(reason: int) -> str:
    """Return what an MP_TCPRST reason means."""
    return RST_REASONS[reason] if reason < len(RST_REASONS) else f"reason {reason}"
