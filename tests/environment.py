# SPDX-License-Identifier: Apache-2.0
"""Installs what the tests need, and prints the Python to run them with; or the Python that has other REQUIREMENTS.

Only the standard library, so that a machine with nothing but Python can start here. The virtual environment is
kept by what it was made from; it sees Debian's own packages: PyPI has only the sources of systemd-python.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SYSTEM_PYTHON = "/usr/bin/python3"
# Only what has one of the hashes. No sources: what builds them has none.
REQUIREMENTS = ROOT / "tests/requirements.txt"
PINNED = ("--no-deps", "--require-hashes", "--only-binary=:all:", "--requirement")
PACKAGES = (
    "aspell",
    "aspell-en",
    "python3-venv",
    "python3-systemd",
    "libudev1",
    "dbus-daemon",
    "iproute2",
    "openssl",
    "systemd",
    "strace",
    "prometheus",  # for promtool
    "pandoc",
    "man-db",
    "bash-completion",
    "fish",
    "gcc",  # a ROM is not built without it
    "make",
    "rpm",
    "zsh",
)


def main() -> None:
    if len(sys.argv) > 1:
        print(environment(Path(sys.argv[1])) / "bin/python")
        return
    install_packages()
    print(environment() / "bin/python")


def install_packages() -> None:
    missing = [name for name in PACKAGES if not _installed(name)]
    if missing:
        _run("apt-get", "-qq", "update")
        _run("apt-get", "-qq", "install", "--yes", "--no-install-recommends", *missing)


def _run(*command: str) -> None:
    """Prints the output only if the command fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}")


def _installed(name: str) -> bool:
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"


def environment(requirements: Path = REQUIREMENTS) -> Path:
    """The virtual environment, created at the first use."""
    contents = f"{SYSTEM_PYTHON}\n{requirements.read_text()}"
    cache = Path(os.environ.get("VFAGENT_CACHE", Path.home() / ".cache/vfagent"))
    folder = cache / f"venv-{hashlib.sha256(contents.encode()).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _create(folder, requirements)
            (folder / "complete").touch()
    return folder


def _create(folder: Path, requirements: Path) -> None:
    _run(SYSTEM_PYTHON, "-m", "venv", "--system-site-packages", str(folder))
    pip = (str(folder / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    _run(*pip, *PINNED, str(requirements))


if __name__ == "__main__":
    main()
