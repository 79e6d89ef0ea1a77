# SPDX-License-Identifier: Apache-2.0
"""VFs in use by what their driver made of them: nothing takes them, and the change follows the release."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.lab.facts import SYSFS
from tests.lab.install import vfagent_tree
from tests.lab.labcard import PfFacts, complaints, facts, labcard_tree, load
from tests.lab.module import kernel_module
from tests.lab.payload import Entry
from tests.lab.vf_user import VF_USER
from tests.lab.warm import WarmVM

VARIANT = "igbvf_vfio_pci"
# A file system that is unmounted makes no uevent: the resync finds it.
AGENT = '[agent]\nresync = "10s"\n'
RULE = """
[[pf]]
name = "{kind}"
match = {{ pci = "{pf}" }}
vfs = 2
{more}
[[pf.vf]]
driver = "{driver}"
"""


@dataclass(frozen=True, slots=True)
class User:
    """Someone who uses vf0 of a PF: commands in which VF stands for its address. `driver`: what has the VF by its rule.

    `shown`: the kernel shows when the use ends.
    """

    pf: str
    driver: str
    take: str
    release: str
    words: str  # what the deferred step says of it
    shown: bool = True


USERS = {
    "labcard": User(
        "0001:01:00.0",
        VARIANT,
        f"systemd-run --quiet --unit=opener hold-vf VF && until grep -q 1 {SYSFS}/VF/enable; do sleep 0.2; done",
        "systemctl stop opener",
        f"has it open through {VARIANT}",
    ),
    "nvme": User(
        "0002:01:00.0",
        "host",
        f"cd {SYSFS}/VF/nvme/*/nvme*n1; disk=/dev/$(basename $PWD); mkdir -p /srv; busybox mke2fs $disk; "
        "mount -t ext4 $disk /srv; echo kept >/srv/file",
        "grep -q kept /srv/file && umount /srv",
        "mounted at /srv",
    ),
    "xe": User(
        "0003:01:00.0",
        "host",
        f"cd {SYSFS}/VF/drm/renderD*; "
        'systemd-run --quiet --unit=renderer sh -c "exec sleep infinity </dev/dri/$(basename $PWD)"',
        "systemctl stop renderer",
        "nothing shows whether it is used",
        shown=False,
    ),
    "ifcvf": User("0004:01:00.0", "host", "vdpa dev add name vdpa0 mgmtdev pci/VF", "vdpa dev del vdpa0", "vdpa0"),
}


def policy(changed: str = "", more: str = "") -> str:
    """The rule of one card asks for vfio-pci."""
    drivers = {kind: "vfio-pci" if kind == changed else user.driver for kind, user in USERS.items()}
    rules = (
        RULE.format(kind=kind, pf=user.pf, driver=drivers[kind], more=more if kind == changed else "")
        for kind, user in USERS.items()
    )
    return AGENT + "".join(rules)


@pytest.fixture(scope="module")
def vm(warm_module: Callable[..., WarmVM]) -> WarmVM:
    variant = {f"/usr/lib/{VARIANT}.ko": Entry(kernel_module(VARIANT, "variant", "trixie"))}
    extra = labcard_tree() | variant | {"/usr/local/bin/hold-vf": Entry(VF_USER, 0o755)}
    machine = warm_module([], vfagent_tree(policy(), extra, enabled=False))
    machine.run(f"modprobe -a vfio_pci_core vfio_pci && insmod /usr/lib/{VARIANT}.ko")
    load(machine, *USERS)
    machine.run("systemctl start vfagent.service", timeout=240)
    return machine


def await_drivers(vm: WarmVM, user: User, drivers: list[str]) -> PfFacts:
    vm.wait_for(lambda: (pf := facts(vm)[user.pf]).drivers == drivers and pf.phase == "converged", 60)
    return facts(vm)[user.pf]


def reload_with(vm: WarmVM, text: str) -> None:
    vm.put("/etc/vfagent/policy.toml", text.encode())
    vm.run("systemctl reload vfagent.service", timeout=120)


@pytest.mark.parametrize("kind", USERS)
def test_a_new_driver_waits_for_whoever_uses_what_the_old_one_made(vm: WarmVM, kind: str) -> None:
    user = USERS[kind]
    own = user.driver if user.driver != "host" else kind
    first = await_drivers(vm, user, [own] * 2).vfs[0]["address"]
    vm.run(user.take.replace("VF", first))
    reload_with(vm, policy(kind))
    vm.wait_for(lambda: facts(vm)[user.pf].phase == "deferred", 30)
    used = facts(vm)[user.pf]
    assert used.status
    assert used.drivers == ([own, "vfio-pci"] if user.shown else [own] * 2)
    assert user.words in str(used.status["deferred"])
    vm.run(user.release)
    if not user.shown:
        reload_with(vm, policy(kind, "assume_idle = true\n"))
    await_drivers(vm, user, ["vfio-pci"] * 2)


def test_the_kernel_has_nothing_to_warn_of(vm: WarmVM) -> None:
    assert not complaints(vm)
