"""IP packets with TCP: ``Segment`` to bytes and bytes to ``Segment``, in one call each."""

from __future__ import annotations

from mptcplab.seq import seq_add
from mptcplab.wire.checksum import add_sums, ones_sum
from mptcplab.wire.error import WireError
from mptcplab.wire.ip import decode_ip_header, encode_ip_header, pseudo_header_sum
from mptcplab.wire.mptcp import MAX_MAPPING_BYTES, Dss, MptcpOption
from mptcplab.wire.segment import CWR, FIN, PSH, Segment
from mptcplab.wire.tcp import CHECKSUM_OFFSET, decode_tcp, encode_tcp_header


def encode_packet(segment: Segment) -> bytes:
    """Return the whole IP packet, checksums computed; a payload without bytes is sent as zeros.

    A train comes out as one large packet. Raises ``WireError`` for what does not fit.
    """
    payload = segment.payload
    if payload is None:
        payload = bytes(segment.payload_bytes)
    return encode_headers(segment) + payload


def encode_headers(segment: Segment, *, partial_checksum: bool = False) -> bytes:
    """Return the IP and TCP headers of a segment; the payload may follow from its own buffer.

    With ``partial_checksum`` the TCP checksum field holds the sum of the pseudo header only, for a
    device that completes it (virtio 1.2 section 5.1.6.2, ``VIRTIO_NET_HDR_F_NEEDS_CSUM``).
    """
    payload = segment.payload
    if payload is not None and len(payload) != segment.payload_bytes:
        raise WireError(
            f"the payload has {len(payload)} bytes but payload_bytes is {segment.payload_bytes}"
        )
    tcp = encode_tcp_header(segment)
    tcp_bytes = len(tcp) + segment.payload_bytes
    ip = encode_ip_header(segment.src, segment.dst, segment.dscp << 2 | segment.ecn, tcp_bytes)
    total = pseudo_header_sum(segment.src, segment.dst, tcp_bytes)
    if not partial_checksum:
        total = add_sums(total, ones_sum(tcp))
        if payload is not None:
            total = add_sums(total, ones_sum(payload))
        total ^= 0xFFFF
    field = total.to_bytes(2, "big")
    return ip + tcp[:CHECKSUM_OFFSET] + field + tcp[CHECKSUM_OFFSET + 2 :]


def decode_packet(
    data: bytes | memoryview, *, verify_checksum: bool = False, truncated: bool = False
) -> Segment:
    """Decode an IP packet with TCP; the payload of the result is a view of ``data``.

    ``truncated`` accepts a packet cut by the snapshot length of a capture: ``payload_bytes`` is
    then what the IP header claims and ``payload`` is ``None``. Bytes after the IP length (Ethernet
    padding) are ignored. Raises ``WireError`` for anything that is not a TCP segment, and on a
    wrong TCP checksum with ``verify_checksum``.
    """
    header = decode_ip_header(data)
    end = header.body_end
    captured_end = min(end, len(data))
    if captured_end < end and not truncated:
        raise WireError(f"an IP packet of {end} bytes of which {captured_end} are there")
    segment = Segment(header.src, 0, header.dst, 0, ecn=header.ecn, dscp=header.dscp)
    decode_tcp(segment, data, header.body_start, end, captured_end)
    if verify_checksum and captured_end == end:
        tcp_bytes = end - header.body_start
        total = pseudo_header_sum(header.src, header.dst, tcp_bytes)
        total = add_sums(total, ones_sum(memoryview(data)[header.body_start : end]))
        if total != 0xFFFF:
            raise WireError(f"the TCP checksum is wrong by 0x{0xFFFF ^ total:04x}")
    return segment


def split_train(segment: Segment) -> list[Segment]:
    """Return the packets that a train stands for, as segmentation offload makes them.

    Each keeps the options; FIN and PSH stay on the last and CWR on the first only (Linux,
    net/ipv4/tcp_offload.c, ``tcp_gso_segment``). A mapping of more than 16 bits of length is cut
    at packet borders into mappings that fit.
    """
    count = segment.packets
    if count == 1:
        return [segment]
    size = segment.segment_size_bytes
    packets: list[Segment] = []
    for index in range(count):
        start = index * size
        length = min(size, segment.payload_bytes - start)
        flags = segment.flags
        if index:
            flags &= ~CWR
        if index + 1 < count:
            flags &= ~(FIN | PSH)
        packet = Segment(
            segment.src,
            segment.src_port,
            segment.dst,
            segment.dst_port,
            seq=seq_add(segment.seq, start),
            ack=segment.ack,
            flags=flags,
            window=segment.window,
            payload_bytes=length,
            payload=None if segment.payload is None else segment.payload[start : start + length],
            mss=segment.mss,
            wscale=segment.wscale,
            sack_permitted=segment.sack_permitted,
            sack=segment.sack,
            ts_val=segment.ts_val,
            ts_ecr=segment.ts_ecr,
            mptcp=tuple(_fitting(option, segment, index) for option in segment.mptcp),
            ecn=segment.ecn,
            dscp=segment.dscp,
        )
        packet.raw_options = segment.raw_options
        packets.append(packet)
    return packets


def _fitting(option: MptcpOption, train: Segment, index: int) -> MptcpOption:
    """Return the option as packet ``index`` of a train carries it.

    A mapping longer than its field is that of the train it came on (the stack sees to that).
    """
    if not isinstance(option, Dss) or option.data_length <= MAX_MAPPING_BYTES:
        return option
    size = train.segment_size_bytes
    packets = MAX_MAPPING_BYTES // size
    start = index // packets * packets * size
    length = min(packets * size, option.data_length - start)
    payload = train.payload
    payload_sum = 0 if payload is None else ones_sum(payload[start : start + length])
    return option.of_part(start, length, payload_sum)
