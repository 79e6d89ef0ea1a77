# SPDX-License-Identifier: Apache-2.0
"""Whether KVM boots the lab's kernel, or software emulation (TCG) is needed."""

import os
import tempfile
import time
from pathlib import Path

from tests.lab.cache import cache_dir, say
from tests.lab.image import Image
from tests.lab.qemu import IMAGE, VM, Place

LIMIT_S = 20
MARK = b"lab: init reached"


def accelerator(image: Image) -> str:
    """kvm or tcg; probed once per boot of this machine."""
    if forced := os.environ.get("VFAGENT_LAB_ACCEL"):
        return forced
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = cache_dir() / f"accel-{boot}-{image.tools.parent.name}"
    if not known.exists():
        for old in cache_dir().glob("accel-*"):
            if boot not in old.name:
                old.unlink()
        known.write_text(_probe(image))
    return known.read_text()


def _probe(image: Image) -> str:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        say("no /dev/kvm: software emulation")
        return "tcg"
    works = _boots_under_kvm(image)
    say(f"KVM {'works' if works else f'boots nothing within {LIMIT_S} s: software emulation'}")
    return "kvm" if works else "tcg"


def _boots_under_kvm(image: Image) -> bool:
    """A nested KVM may open, start a guest and hang, so only a boot shows whether it works."""
    with tempfile.TemporaryDirectory(prefix="vfagent-lab-") as name:
        folder = Path(name)
        process = Place(image.tools, folder, {image.directory: IMAGE}).start(_arguments())
        try:
            deadline = time.monotonic() + LIMIT_S
            while time.monotonic() < deadline and process.poll() is None:
                if MARK in _console(folder):
                    break
                time.sleep(0.1)
            return MARK in _console(folder)
        finally:
            process.kill()
            process.wait()


def _console(folder: Path) -> bytes:
    path = folder / "console.log"
    return path.read_bytes() if path.exists() else b""


def _arguments() -> list[str]:
    machine = ["-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "1024", "-nodefaults"]
    boot = ["-kernel", f"{IMAGE}/vmlinuz", "-initrd", f"{IMAGE}/initrd"]
    kernel = ["-append", "console=ttyS0 panic=-1 lab.probe", "-no-reboot"]
    return [*machine, *boot, *kernel, "-display", "none", "-serial", f"file:{VM}/console.log"]
