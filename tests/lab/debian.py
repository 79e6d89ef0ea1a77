# SPDX-License-Identifier: Apache-2.0
"""Debian roots: created by mmdebstrap, entered in a mount namespace."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.cache import say

COMMANDS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}

# Mounts go into the caller's private namespace: they end with the process.
_ENTER = """
set -e
root=$1; shift
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec chroot "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Root:
    """The contents of a root; also its recipe."""

    suite: str
    packages: tuple[str, ...]
    backports: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StockRoot(Root):
    """A root in which packages are installed later without a network: apt has downloaded them."""

    downloaded: tuple[str, ...] = ()


def install_commands() -> None:
    """Installs missing programs that the lab runs on this machine."""
    missing = sorted({package for name, package in COMMANDS.items() if not shutil.which(name)})
    if not missing:
        return
    say(f"installing {' '.join(missing)}")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-qq", "--no-install-recommends", *missing]
    subprocess.run(["apt-get", "update", "-qq"], env=env, check=True)
    subprocess.run(install, env=env, check=True, stdout=subprocess.DEVNULL)


def mirror() -> str | None:
    """This machine's Debian mirror; None leaves the choice to mmdebstrap, whose apt has not what this machine has."""
    argv = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Label: Debian"]
    uris = subprocess.run(argv, check=False, capture_output=True, text=True).stdout.split()
    return next((uri for uri in uris if uri.startswith(("http://", "https://"))), None)


def bootstrap(root: Root, target: Path) -> None:
    """Creates the root in a folder."""
    uri = mirror()
    source = [f"deb {uri} {root.suite} main"] if uri else []
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=" + ",".join(root.packages)]
    if isinstance(root, StockRoot):
        argv += ["--skip=cleanup/apt"]
    else:
        argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    argv += [f"--customize-hook={hook}" for hook in _hooks(root, uri)]
    # The kernel package would create an initrd that is not used.
    env = os.environ | {"INITRD": "No"}
    done = subprocess.run(
        [*argv, root.suite, str(target), *source], env=env, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"mmdebstrap {root.suite}: exit {done.returncode}:\n{done.stderr[-4000:]}")


def _hooks(root: Root, uri: str | None) -> list[str]:
    hooks = [f'mkdir -p "$1{directory}"' for directory in root.directories]
    if root.backports:
        name = f"{root.suite}-backports"
        line = f"deb {uri or 'http://deb.debian.org/debian'} {name} main"
        install = f"apt-get install -qq --no-install-recommends -t {name} {' '.join(root.backports)}"
        hooks += [
            f'echo "{line}" > "$1/etc/apt/sources.list.d/backports.list"',
            'chroot "$1" apt-get update -qq',
            f'chroot "$1" {install}',
        ]
    if isinstance(root, StockRoot):
        fetch = f"apt-get install -qq --download-only {' '.join(root.downloaded)}"
        hooks += ['chroot "$1" apt-get clean', f'chroot "$1" {fetch}']
    return hooks


def entry(root: Path, binds: Mapping[Path, str], *, network: bool) -> list[str]:
    """The argv that runs a command in the root, with exec: the process keeps its pid."""
    unshare = ["unshare", "--mount", "--propagation", "private", *([] if network else ["--net"])]
    pairs = [word for source, place in binds.items() for word in (str(source), place)]
    return [*unshare, "sh", "-c", _ENTER, "sh", str(root), *pairs, "--"]


def run_in(root: Path, argv: Sequence[str], binds: Mapping[Path, str] | None = None) -> str:
    """Runs a command in the root and returns its output."""
    command = [*entry(root, binds or {}, network=False), *argv]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(argv)}: exit {result.returncode}: {result.stderr[-3000:]}")
    return result.stdout
