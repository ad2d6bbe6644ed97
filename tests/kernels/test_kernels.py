"""What chooses, unpacks and judges Debian's kernels, without booting one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.kernels.__main__ import MODULES, judge, table
from tests.kernels.debian import NoSuchKernelError, choose
from tests.kernels.initramfs import initramfs, modules_needed
from tests.kernels.inside import DOCTOR, REPORT
from tests.kernels.machine import MachineError, Outcome

PACKAGES = [
    "linux-image-cloud-amd64",
    "linux-image-6.12-cloud-amd64",  # depends on the newest, and holds nothing
    "linux-image-6.1.0-9-cloud-amd64",
    "linux-image-6.1.0-57-cloud-amd64",
    "linux-image-6.12.99+deb12-cloud-amd64",
    "linux-image-6.12.118+deb13-cloud-amd64",
    "linux-image-6.12.119+deb13-cloud-amd64-unsigned",
    "linux-image-7.3.4+deb13-cloud-amd64",
    "linux-image-7.4.1+deb13-amd64",
]


@pytest.mark.parametrize(
    ("wanted", "found"), [("6.1", 3), ("6.12", 5), ("6.12.99", 4), ("7.3", 7), ("newest", 7)]
)
def test_a_version_is_its_newest_package(wanted: str, found: int) -> None:
    assert choose(wanted, PACKAGES) == PACKAGES[found]


@pytest.mark.parametrize("wanted", ["6.11", "latest", "6", ""])
def test_a_version_that_is_not_there_is_refused(wanted: str) -> None:
    with pytest.raises(NoSuchKernelError, match=r"expected one such as 6\.12, or newest"):
        choose(wanted, PACKAGES)


def test_modules_load_after_what_they_need(tmp_path: Path) -> None:
    (tmp_path / "6.1").mkdir()
    (tmp_path / "6.1" / "modules.dep").write_text(
        "k/virtio_pci.ko: k/ring.ko k/virtio.ko\nk/virtio.ko:\nk/ring.ko: k/virtio.ko\n"
        "k/virtiofs.ko: k/fuse.ko k/ring.ko k/virtio.ko\nk/fuse.ko:\n"
    )
    found = [path.stem for path in modules_needed(tmp_path, "6.1")]
    assert found == ["virtio", "ring", "virtio_pci", "fuse", "virtiofs"]


def test_cpio_reads_the_initramfs(tmp_path: Path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not installed")
    (tmp_path / "busybox").write_bytes(b"binary\n")
    (tmp_path / "first.ko").write_bytes(b"module")
    archive = initramfs(tmp_path / "busybox", [tmp_path / "first.ko"])
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["cpio", "-i", "--quiet"], input=archive, cwd=out, check=True)
    assert (out / "busybox").read_bytes() == b"binary\n"
    assert os.access(out / "init", os.X_OK)
    assert (out / "modules" / "00.ko").read_bytes() == b"module"


def left(report: str, **found: bool) -> Outcome:
    return Outcome({DOCTOR: json.dumps(found).encode(), REPORT: report.encode()}, 60.0, "tcg")


PASSED = '<testsuites><testsuite><testcase name="test_one"/></testsuite></testsuites>'
FAILED = PASSED.replace("/></", '><failure message="m">why</failure></testcase></')
ALL = dict.fromkeys(MODULES, True)


def test_a_kernel_is_good_with_all_modules_and_no_failure() -> None:
    assert judge("6.12", left(PASSED, **ALL)).good
    assert not judge("6.12", left(PASSED, **{**ALL, "sctp": False})).good
    bad = judge("6.12", left(FAILED, **ALL))
    assert not bad.good
    assert bad.failures == {"test_one": "why"}
    assert not judge("6.12", left("<testsuites/>", **ALL)).good
    with pytest.raises(MachineError, match=r"it left no doctor\.json"):
        judge("6.12", Outcome({}, 1.0, "tcg"))


def test_the_table_has_a_column_for_each_kernel() -> None:
    verdicts = [
        judge("6.1.0-57-cloud-amd64", left(PASSED, netem=True)),
        judge("7.3.4+deb13-cloud-amd64", left(FAILED, netem=True, sctp=False)),
    ]
    assert table(verdicts) == (
        "|  | 6.1.0 | 7.3.4 |\n| --- | --- | --- |\n| netem | yes | yes |\n| sctp | no | no |\n"
        "| *one* | passed | failed |\n"
    )
