# SPDX-License-Identifier: Apache-2.0
"""Runs `make check` in a Debian VM with systemd as PID 1: `python3 -m tests.lab.check_in_vm`.

It shows that no test depends on the sysctls, mounts, modules or services of the machine that runs the checks. The VM
has no way out of its network: Debian packages are in its image, and Python packages are copied in as wheels.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from tests import environment
from tests.lab.cache import built, say
from tests.lab.debian import Root
from tests.lab.image import HOST_PACKAGES, Image, host_with
from tests.lab.install import REPOSITORY
from tests.lab.payload import Content, tree_of
from tests.lab.vm import VM

PACKAGES = (*environment.PACKAGES, "make", "git")
SOURCE, WHEELS = "/root/vfagent", "/root/wheels"
TIMEOUT_MIN = 180
# Emulated processors are some ten times slower: a host test may take five minutes instead of half of one.
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": WHEELS,
    "VFAGENT_TEST_LIMIT_S": "300",
}
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def check_image(suite: str) -> Image:
    return host_with("check", Root(suite, tuple(dict.fromkeys((*HOST_PACKAGES, *PACKAGES)))))


def sources() -> dict[str, Content]:
    """The working tree, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (REPOSITORY / name for name in listed.stdout.split("\0") if name)
    return {f"{SOURCE}/{path.relative_to(REPOSITORY)}": path for path in paths if path.is_symlink() or path.is_file()}


def wheels(python: str) -> dict[str, Content]:
    """The Python packages of the tests, for the VM's version of Python (3.13)."""
    # PyPI has no wheel of systemd-python. Debian's package is in the image.
    recipe = {"python": python, "requirements": environment.REQUIREMENTS.read_text(), "platforms": _PLATFORMS}
    folder = built("wheels", recipe, lambda work: _download(python, work))
    return {f"{WHEELS}/{path.name}": path for path in folder.iterdir()}


def _download(python: str, work: Path) -> None:
    pip = [str(environment.environment() / "bin/python"), "-m", "pip", "--quiet", "download", "--dest", str(work)]
    target = ["--implementation=cp", f"--python-version={python}"]
    platforms = [f"--platform={name}" for name in _PLATFORMS]
    subprocess.run([*pip, *target, *platforms, *environment.PINNED, str(environment.REQUIREMENTS)], check=True)


def python_of(root: Path) -> str:
    """Debian's version of Python in a root: 3.13."""
    names = sorted(path.name for path in (root / "usr/lib").glob("python3.[0-9]*"))
    return names[0].removeprefix("python")


def check(vm: VM, timeout_min: float) -> int:
    """Runs `make check`, prints its output as it comes, and returns its exit status."""
    # Without a date, files would be of 1970, which zip cannot store. git lists the files for some of the rules.
    vm.run(f"cd {SOURCE} && find . -exec touch -h {{}} + && git init --quiet && git add --all", timeout=300)
    variables = " ".join(f"{name}={value}" for name, value in _ENVIRONMENT.items())
    command = f"cd {SOURCE} && {variables} timeout {timeout_min}m make check 2>&1"
    return subprocess.run([*vm.remote.argv(), "--", command], check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.lab.check_in_vm", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--suite", default="trixie", help="Debian release of the VM")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_MIN, metavar="MINUTES")
    options = parser.parse_args()
    image = check_image(options.suite)
    files = {**sources(), **wheels(python_of(image.root))}
    with VM(image=image, suite=options.suite) as vm:
        state = vm.wait_boot(timeout=600)
        first = vm.run("cat /proc/1/comm").stdout.strip()
        say(f"{image.directory.name} by {vm.machine.accel}: PID 1 is {first}, the system is {state}")
        vm.put_tree(tree_of(files))
        status = check(vm, options.timeout)
    say(f"make check: exit {status}")
    return status


if __name__ == "__main__":
    sys.exit(main())
