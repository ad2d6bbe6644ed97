"""What pyproject.toml cannot say: what is compiled and when, and a build's commit.

A wheel, and so ``pip install .``, is compiled where there is a C compiler with Python's headers,
and interpreted elsewhere; an editable installation is interpreted. ``MPTCPLAB_COMPILE=1`` compiles
both and fails where that is not possible, ``MPTCPLAB_COMPILE=0`` leaves both interpreted. Both
builds write the same results; the compiled one simulates many times faster.

    MPTCPLAB_COMPILE=1 python setup.py build_ext --inplace      # or: make compile

Congestion controls for the kernel are compiled to BPF where there is clang, whatever the build;
with ``MPTCPLAB_COMPILE=1`` a wheel without them is an error.

In the compiled modules ``i64`` is a machine integer; uncompiled, and for callers, an ``int``. What
may need more bits (data sequence numbers, keys) stays ``int``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution, Extension, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

COMPILED = [
    "seq.py",
    "loop/timers.py",
    "loop/virtual.py",
    "loop/realtime.py",
    "network/channel.py",
    "network/drop_tail.py",
    "network/managed.py",
    "network/disciplines/*.py",
    "network/capacity.py",
    "network/flight.py",
    "network/jitter.py",
    "network/loss.py",
    "network/fates.py",
    "network/piece.py",
    "network/train.py",
    "network/wire.py",
    "network/counters.py",
    "simulated/fabric.py",
    "simulated/forwarding.py",
    "simulated/parcel.py",
    "simulated/stations.py",
    "simulated/host.py",
    "simulated/cpu.py",
    "simulated/applications.py",
    "simulated/datagrams.py",
    "simulated/exchanges.py",
    "simulated/transfer.py",
    "wire/checksum.py",
    "wire/icmp.py",
    "wire/segment.py",
    "wire/mptcp.py",
    "stack/fast_open.py",
    "stack/host_view.py",
    "stack/path_mtu.py",
    "stack/ready.py",
    "stack/reassembly.py",
    "stack/stack.py",
    "stack/syn_queue.py",
    "stack/congestion/*.py",
    "stack/schedulers/*.py",
    "stack/tcp/*.py",
    "stack/mptcp/*.py",
    "trace/decode/packet_loop.py",
    "trace/decode/truncated_options.py",
    "trace/files/record_chain.py",
]

# The modules become one library, in which functions are visible to others unless told: calls among
# them then go through the dynamic linker's table, and none is inlined.
LOCAL_CALLS = ["-fvisibility=hidden", "-fno-plt"] if os.name == "posix" else []

SWITCH = "MPTCPLAB_COMPILE"
BUILDS_A_WHEEL = {"bdist_wheel"}
BUILDS_ANYTHING = {*BUILDS_A_WHEEL, "build", "build_ext", "editable_wheel", "develop", "install"}

COMMIT_FILE = "mptcplab/COMMIT"

BPF_SOURCE = "mptcplab/linux/bpf/coupled.bpf.c"
# BTF, by which the kernel's types are found, comes with -g
BPF_OPTIONS = [
    "-target",
    "bpf",
    "-O2",
    "-g",
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Werror",
]


def write_commit(target: Path) -> None:
    """Write which commit this is, where git knows; a source distribution brought it along."""
    if Path(".git").exists() and shutil.which("git"):
        git = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
        asked = subprocess.run(git, capture_output=True, text=True, check=False)
        target.unlink(missing_ok=True)
        if asked.returncode == 0:
            target.write_text(asked.stdout)


def compile_bpf(root: Path, must: bool) -> None:
    """Compile the kernel's congestion controls beside their source below ``root``, with clang.

    Without it, say so, or SystemExit where they ``must`` be there.
    """
    source = Path("src", BPF_SOURCE)
    target = Path(root, BPF_SOURCE).with_suffix(".o")
    target.unlink(missing_ok=True)
    if not shutil.which("clang"):
        told = "no clang: this build has no congestion controls for the kernel (lia, olia, balia)"
        if must:
            raise SystemExit(told)
        print(f"mptcplab: {told}", file=sys.stderr)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["clang", *BPF_OPTIONS, "-c", str(source), "-o", str(target)], check=True)
    if shutil.which("llvm-strip"):  # the source's lines, for debuggers
        subprocess.run(["llvm-strip", "-g", str(target)], check=True)


class BuildWithCommit(build_py):
    """Copies the modules, compiles BPF, and notes the commit.

    An editable installation has its BPF object beside the source, and asks git when it runs.
    """

    def run(self) -> None:
        """Build."""
        super().run()
        if self.editable_mode:
            compile_bpf(Path("src"), must=False)
        else:
            compile_bpf(Path(self.build_lib), must=os.environ.get(SWITCH) == "1")
            write_commit(Path(self.build_lib, COMMIT_FILE))


class SourcesWithCommit(sdist):
    """Packs the sources, and the commit."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Fill the folder that is packed."""
        super().make_release_tree(base_dir, files)
        write_commit(Path(base_dir, "src", COMMIT_FILE))


def can_compile() -> bool:
    """Say whether the C compiler makes an extension of this Python."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <Python.h>\nPyMODINIT_FUNC PyInit_probe(void) { return 0; }\n")
        probe = Distribution({"ext_modules": [Extension("probe", [str(source)])]})
        command = probe.get_command_obj("build_ext")
        command.build_lib = command.build_temp = folder
        try:
            command.ensure_finalized()
            command.run()
        except Exception as error:
            print(f"mptcplab: {error}", file=sys.stderr)
            return False
    return True


def compiled_modules() -> list[Extension]:
    """Translate the modules above to C; SystemExit where that cannot be done."""
    if not can_compile():
        raise SystemExit("no C compiler that makes extensions of this Python")
    from mypyc.build import mypycify

    root = Path("src/mptcplab")
    paths = [path for pattern in COMPILED for path in sorted(root.glob(pattern))]
    modules = [str(path) for path in paths if path.name != "__init__.py"]
    extensions: list[Extension] = mypycify(modules, opt_level="3", group_name="mptcplab")
    for extension in extensions:
        extension.extra_compile_args += LOCAL_CALLS
    return extensions


def build(extensions: list[Extension]) -> None:
    """Run setuptools, with these extensions."""
    commands = {"build_py": BuildWithCommit, "sdist": SourcesWithCommit}
    setup(ext_modules=extensions, cmdclass=commands)


def build_compiled_if_possible() -> None:
    """Build compiled, or say why not and build interpreted."""
    try:
        build(compiled_modules())
    except (Exception, SystemExit) as error:
        why = "mypyc failed, see above" if error.args in ((1,), (2,)) else error
        print(
            f"mptcplab: not compiled ({why}): this build is interpreted, which gives the same "
            f"results and simulates many times slower. {SWITCH}=1 makes this an error.",
            file=sys.stderr,
        )
        build([])


def decide(switch: str, commands: list[str]) -> str:
    """Return "compile", "try" (where it is possible) or "interpret" for setuptools' commands."""
    if switch not in ("", "0", "1"):
        raise SystemExit(f'{SWITCH} is "{switch}"; expected 1 (compile or fail) or 0 (do not)')
    if switch == "1" and BUILDS_ANYTHING.intersection(commands):
        return "compile"
    if switch == "" and BUILDS_A_WHEEL.intersection(commands):
        return "try"
    return "interpret"  # and where nothing is built: metadata, a source distribution


if __name__ == "__main__":
    how = decide(os.environ.get(SWITCH, ""), sys.argv[1:])
    if how == "try":
        build_compiled_if_possible()
    else:
        build(compiled_modules() if how == "compile" else [])
