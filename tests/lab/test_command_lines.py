# SPDX-License-Identifier: Apache-2.0
"""QEMU of each Debian accepts the command line of every golden guest, with other devices in the place of VFs.

A small Linux then shows what a guest finds of its disk, seed, credentials and TPM.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.lab.cache import built
from tests.lab.debian import Root, bootstrap, entry, install_commands, run_in
from tests.lab.image import base, kernel_of
from tests.lab.initrd import initrd
from tests.lab.qmp import Qmp
from tests.unit.guest.hosts import PF, policy_of
from tests.unit.guest.test_units import CASES, guests
from vfagent.guests.seed import oem_strings, seed_image
from vfagent.guests.spec.qemu import FIRST_TAP, SEED, Guest, argv
from vfagent.kernel.tap import open_tap
from vfagent.store.policy_files import load_files

PACKAGES = ("qemu-system-x86", "qemu-utils", "seabios", "ovmf", "ipxe", "ipxe-qemu", "swtpm")
PLACE = "/lab"
TPM = Path(__file__).parents[2] / "systemd/vfagent-tpm@.service"
DRIVERS = ("virtio_pci", "virtio_blk", "isofs", "virtio_rng", "dmi_sysfs")
_FILE = re.compile(r"(?<![\w/.])/(?!usr/|lab/|dev/vd[a-z])[\w./@+-]+")
# With a loopback of its own, for VNC. `{taps}`: open what systemd opens for the unit.
_WIRE = ("unshare", "--net", "bash", "-c", '{taps}ip link set lo up; exec "$@"', "bash")


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def root(request: pytest.FixtureRequest) -> Path:
    install_commands()
    root = Root(request.param, PACKAGES, directories=(PLACE,))
    return built(f"qemu-{root.suite}", asdict(root), lambda work: bootstrap(root, work / "root")) / "root"


def without_hardware(guest: Guest) -> Iterator[str]:
    """The command line for a machine without KVM, VFs, huge pages and block devices, with files in the lab's folder."""
    for word in argv(guest):
        if word.startswith("{"):
            word = json.dumps(_stand_in(json.loads(word)), separators=(",", ":"))
        yield _FILE.sub(lambda match: PLACE + match[0], word)


def _stand_in(device: dict[str, object]) -> dict[str, object]:
    match device:
        case {"driver": "vfio-pci", "host": _, **rest}:
            return {"driver": "virtio-net-pci", "romfile": "", **rest}
        case {"hugetlb": True, **rest}:
            return {**rest, "prealloc": False}
        case {"file": {"driver": "host_device", "filename": path}, **rest}:
            return {**rest, "file": {"driver": "file", "filename": path}}
    return device


def make_files(words: list[str], root: Path, folder: Path) -> None:
    """Each file that the command line names: iPXE for a kernel, an empty image for qcow2."""
    binds = {folder: PLACE}
    for before, word in zip(["", *words], words, strict=False):
        for path in re.findall(rf"{PLACE}/[\w./@+-]+", word):
            place = folder / path.removeprefix(f"{PLACE}/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.name in ("qmp", "socket"):
                continue
            place.write_bytes(b"x" * 512)
            if before == "-kernel":
                run_in(root, ["cp", "/usr/lib/ipxe/ipxe.lkrn", path], binds)
            elif '"node-name":"variables"' in word:
                run_in(root, ["cp", f"/usr/share/OVMF/{place.name}", path], binds)
            elif '"driver":"qcow2"' in word:
                run_in(root, ["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], binds)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_qemu_accepts_the_command_line(root: Path, tmp_path: Path, case: Path) -> None:
    for number, guest in enumerate(guests(load_files([case]), kvm=False)):
        folder = tmp_path / str(number)
        words = list(without_hardware(guest))
        make_files(words, root, folder)
        with taps(len(guest.nics)) as fds, tpm(guest, root, folder):
            assert accepted(words, root, folder, guest.qmp, fds) == ""


@contextmanager
def tpm(guest: Guest, root: Path, folder: Path) -> Iterator[None]:
    """By the command line of its unit."""
    if not guest.rule.tpm:
        yield
        return
    [line] = re.findall("^ExecStart=(.*)", TPM.read_text(), re.MULTILINE)
    words = [_FILE.sub(lambda match: PLACE + match[0], word) for word in line.replace("%i", guest.rule.name).split()]
    sockets = folder / guest.tpm_folder.lstrip("/")
    for path in (sockets, folder / f"var/lib/private/vfagent/guests/{guest.rule.name}/tpm"):
        path.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen([*entry(root, {folder: PLACE}, network=False), *words]) as swtpm:
        try:
            while not (sockets / "socket").exists() and swtpm.poll() is None:
                time.sleep(0.05)
            yield
        finally:
            swtpm.kill()


@contextmanager
def taps(number: int) -> Iterator[tuple[int, ...]]:
    """Without a bridge, and gone with the test."""
    fds = tuple(open_tap(f"vfg-lab-{each}") for each in range(number))
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def accepted(words: list[str], root: Path, folder: Path, socket: str, fds: tuple[int, ...]) -> str:
    """What QEMU says until its machine is made and QMP ends it."""
    moves = "".join(f"exec {wanted}<&{fd}; " for wanted, fd in enumerate(fds, FIRST_TAP))
    wire = [word.replace("{taps}", moves) for word in _WIRE]
    command = [*wire, *entry(root, {folder: PLACE}, network=True), *words, "-S"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, pass_fds=fds) as qemu:
        path = folder / socket.lstrip("/")
        try:
            while qemu.poll() is None:
                try:
                    Qmp(path).execute("quit")
                    break
                except (FileNotFoundError, ConnectionError):
                    time.sleep(0.05)
            _, errors = qemu.communicate(timeout=60)
        finally:
            qemu.kill()
    return "".join(line for line in errors.splitlines(keepends=True) if "has no peer" not in line)  # a VF's stand-in


GUEST = """
[[guest]]
name = "db"
vfs = ["storage:0"]
memory = "256M"
tpm = true

[guest.kernel]
image = "/srv/vmlinuz"
initrd = "/srv/initrd"
cmdline = "console=ttyS0 quiet root=/dev/vda"

[[guest.disk]]
path = "/srv/disk"

[guest.seed]
user_data = "#cloud-config"

[guest.credentials]
"ssh.authorized_keys.root" = "ssh-ed25519 AAAA"
"firstboot.locale" = "C.UTF-8"
"""
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in $(cat /modules); do insmod $module; done
mkdir /seed
until mount -t iso9660 /dev/vdb /seed; do sleep 0.1; done
echo "lab: $(cat /proc/cmdline), $(head -c 8 /dev/vda), label $(dd if=/dev/vdb bs=1 skip=32808 count=6 2>/dev/null)"
(cd /seed; grep . *)
cat /sys/firmware/dmi/entries/11-0/raw | tr '\\0' '\\n'
cat /sys/class/misc/hw_random/rng_current
echo "TPM $(cat /sys/class/tpm/tpm0/tpm_version_major), PCR 0 $(cat /sys/class/tpm/tpm0/pcr-sha256/0)"
poweroff -f
"""


def test_a_linux_guest_has_its_disk_seed_credentials_entropy_and_tpm(root: Path, tmp_path: Path) -> None:
    [guest] = guests(policy_of(tmp_path, f"{PF.format(name='storage', pci='0000:01:*')}{GUEST}"), kvm=False)
    folder = tmp_path / "guest"
    words = list(without_hardware(guest))
    make_files(words, root, folder)
    host, seed = base("trixie"), guest.rule.seed
    assert seed is not None
    kernel = kernel_of(host)
    credentials = folder / f"run/credentials/{guest.unit}"
    (folder / "srv/vmlinuz").write_bytes((host / f"boot/vmlinuz-{kernel}").read_bytes())
    (folder / "srv/initrd").write_bytes(initrd(host, kernel, INIT, DRIVERS))
    (folder / "srv/disk").write_bytes(b"own disk".ljust(1 << 20))
    (credentials / SEED).write_bytes(seed_image(Path("/"), seed, guest))
    for name, text in oem_strings(Path("/"), guest):
        (credentials / name).write_bytes(text)
    (folder / guest.console_log.lstrip("/")).unlink()
    with tpm(guest, root, folder):
        run_in(root, words, {folder: PLACE})
    shown = (folder / guest.console_log.lstrip("/")).read_text(errors="replace")
    assert "root=/dev/vda, own disk, label cidata" in shown
    assert "meta-data:local-hostname: db" in shown
    assert "user-data:#cloud-config" in shown
    assert "io.systemd.credential.binary:firstboot.locale=Qy5VVEYtOA==" in shown
    assert "io.systemd.credential.binary:ssh.authorized_keys.root=c3NoLWVkMjU1MTkgQUFBQQ==" in shown
    assert "virtio_rng.0" in shown
    assert re.search("TPM 2, PCR 0 [0-9A-F]{64}\\b", shown), shown[-2000:]
