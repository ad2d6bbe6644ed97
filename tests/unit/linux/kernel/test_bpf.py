"""What is said of BPF objects that cannot be used, before the kernel sees them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mptcplab.linux.kernel import bpf
from mptcplab.linux.kernel.bpf import BpfError, controls_of, obstacle, try_loading

NO_CONTROL = """
__attribute__((section("license"), used)) const char told[] = "GPL";
struct tcp_congestion_ops { char name[16]; } other;
"""


def test_a_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.bpf.o"
    for content in (b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(58), b"text\n" * 100):
        file.write_bytes(content)
        with pytest.raises(BpfError, match="expected a BPF object with struct tcp_congestion_ops"):
            controls_of(file, content)


@pytest.mark.program("clang")
def test_an_object_without_a_congestion_control_is_refused(tmp_path: Path) -> None:
    source, file = tmp_path / "mine.bpf.c", tmp_path / "mine.bpf.o"
    source.write_text(NO_CONTROL)
    command = ["clang", "-target", "bpf", "-O2", "-g", "-c", str(source), "-o", str(file)]
    subprocess.run(command, check=True)
    with pytest.raises(BpfError, match="has no congestion control; expected"):
        controls_of(file, file.read_bytes())


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "obstacle", lambda: None)
    with pytest.raises(BpfError, match=r"mine\.bpf\.o: No such file"):
        try_loading(tmp_path / "mine.bpf.o")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("_FIRST_KERNEL", (99, 0), "a kernel from 99.0 on"),
        ("_BTF", Path("/nonexistent"), "CONFIG_DEBUG_INFO_BTF"),
        ("_missing_capabilities", lambda: ["CAP_BPF"], "it takes CAP_BPF of the machine itself"),
        ("_LIBRARY", "libbpf.so.0", "libbpf.so.0 is missing"),
    ],
)
def test_what_a_machine_lacks_is_said(
    name: str, value: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bpf, "_missing_capabilities", list)
    monkeypatch.setattr(bpf, name, value)
    bpf._library.cache_clear()
    try:
        assert said in (obstacle() or "")
    finally:
        bpf._library.cache_clear()
