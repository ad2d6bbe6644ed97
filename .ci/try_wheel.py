"""Try a wheel where nothing else is: its files, then what a user does, then tests against it.

    python .ci/try_wheel.py dist/mptcplab-*.whl [TEST ...]

The wheel goes into a fresh virtual environment made from requirements.lock; with tests named, the
developers' tools follow, after everything that must work without them has worked. Tests on the
kernel are not repeated: it is the sources that they try.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src"
# what the shell's own environment would bring in from outside of the wheel
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

SHARED = {
    "share/man/man1/mptcplab.1",
    "share/bash-completion/completions/mptcplab.bash",
    "share/fish/vendor_completions.d/mptcplab.fish",
    "share/zsh/site-functions/_mptcplab",
}


def check_files(wheel: Path) -> None:
    """Compare what is in a wheel with the sources; AssertionError for what lacks or is too much."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    shared = {name.rpartition("/data/")[2] for name in names if ".data/data/" in name}
    names = {name for name in names if ".data/data/" not in name}
    assert shared == SHARED, f"for share/ in the wheel: {sorted(shared)}"
    package = SOURCES / "mptcplab"
    wanted = {
        package / "py.typed",
        package / "__init__.pyi",
        *package.rglob("*.py"),
        *package.glob("scenario/data/**/*.toml"),
        *package.glob("scenario/data/**/*.csv"),
        *package.glob("report/page/assets/*"),
        *package.glob("linux/bpf/*.[ch]"),
        *package.glob("cli/completions/*"),
    }
    if shutil.which("clang"):
        wanted.add(package / "linux/bpf/coupled.bpf.o")
    expected = {path.relative_to(SOURCES).as_posix() for path in wanted}
    assert not expected - names, f"not in the wheel: {sorted(expected - names)}"
    others = {name for name in names - expected if not name.endswith((".so", "/COMMIT"))}
    assert not others, f"in the wheel, and not in the sources: {sorted(others)}"

    compiled = {name.split(".")[0] for name in names if name.endswith(".so")}
    if wheel.name.endswith("-none-any.whl"):
        assert not compiled, f"compiled modules in a wheel for any machine: {sorted(compiled)}"
        return
    patterns = runpy.run_path(str(ROOT / "setup.py"))["COMPILED"]
    modules = {path for pattern in patterns for path in package.glob(pattern)}
    modules = {path for path in modules if path.name != "__init__.py"}
    for path in modules:
        name = path.relative_to(SOURCES).with_suffix("").as_posix()
        assert name in compiled, f"{name} is not compiled"


def run(*command: str | Path, folder: Path, allowed: tuple[int, ...] = (0,)) -> None:
    """Run a command and end everything where its exit status is none of those allowed."""
    print("+", *command, flush=True)
    status = subprocess.run([*map(str, command)], cwd=folder, env=ENVIRONMENT, check=False)
    if status.returncode not in allowed:
        raise SystemExit(f"exit status {status.returncode}")


def main() -> None:
    """Try the wheel that the arguments name."""
    wheel, tests = Path(sys.argv[1]).resolve(), sys.argv[2:]
    check_files(wheel)
    with tempfile.TemporaryDirectory(prefix="mptcplab-wheel-") as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        programs = folder / "venv" / "bin"
        pip = (programs / "python", "-m", "pip", "-qq", "--disable-pip-version-check", "install")
        run(*pip, "--require-hashes", "-r", ROOT / "requirements.lock", folder=folder)
        run(*pip, "--no-deps", wheel, folder=folder)
        run(programs / "mptcplab", "--version", folder=folder)
        run(programs / "mptcplab", "doctor", folder=folder, allowed=(0, 3))  # 3: no Linux testbed
        for name in ("A", "examples/wifi-and-lte", "examples/video"):
            run(programs / "mptcplab", "run", name, "--duration", "1s", folder=folder)
        if tests:
            run(*pip, "--require-hashes", "-r", ROOT / "requirements-dev.lock", folder=folder)
            where = "import mptcplab, sys; assert mptcplab.__file__.startswith(sys.prefix)"
            run(programs / "python", "-c", where, folder=ROOT)
            pytest = (programs / "pytest", "-q", "-p", "no:cacheprovider", "-n", "auto")
            run(*pytest, "-m", "not kernel", *tests, folder=ROOT)


if __name__ == "__main__":
    main()
