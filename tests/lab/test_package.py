# SPDX-License-Identifier: Apache-2.0
"""The Debian package on a host: installed, booted, upgraded, downgraded, removed, purged.

The tests follow each other on one host. From the reboot on, a guest runs on one card, and a process has a VF of another
card open.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.lab.facts import VfFacts, vfs
from tests.lab.install import REPOSITORY
from tests.lab.nic import Igb, VirtioPf
from tests.lab.package import deb, package
from tests.lab.payload import Entry
from tests.lab.target import ADDRESS, IQN, MARK, Target
from tests.lab.test_one_card import hold
from tests.lab.vf_user import VF_USER
from tests.lab.vm import VM
from tests.rules.commands import command_of
from vfagent import __version__

NEWER = "99.0.0"
BESIDE = "192.168.10.20"
VIRTIO, IGB = "0000:01:00.0", "0000:02:00.0"
GUEST = "vfagent-guest-cirros.service"
MOST_EXPOSED = 1.7
READY_S = 100.0  # below the 300 s after which READY comes in any case; in software emulation Python takes most of it
POLICY = f"""
[[pf]]
name = "storage"
match = {{ pci = "{VIRTIO}" }}
vfs = 3

[[pf.vf]]
index = "0-1"
driver = "vfio-pci"

[[pf.vf]]
index = "2"
driver = "host"

[[pf]]
name = "tagged"
match = {{ driver = "igb" }}
vfs = 3

[[pf.vf]]
index = "*"
driver = "vfio-pci"
mac = "52:54:00:bb:00:{{index:02x}}"
vlan = 10

[[guest]]
name = "cirros"
vfs = ["storage:0"]
memory = "128M"

[guest.ipxe]
address = "192.168.10.10/24"
sanboot = "iscsi:192.168.10.1::::{IQN}"
"""
ABSENT = '[[pf]]\nname = "absent"\nmatch = { driver = "mlx5_core" }\nvfs = 8\n'
# The packages themselves, the lab's files, and udev's database, which lasts until the next boot.
NOT_OF_THE_PACKAGE = (
    "/root/",
    "/usr/lib/vf_user.py",
    "/usr/lib/lab-target",
    "/proc/",
    "/sys/",
    "/var/log/journal/",
    "/run/udev/",
)
# apt must not ask.
APT = {"/etc/apt/apt.conf.d/90lab": b'APT::Get::Assume-Yes "true";\n'}
SCRAPE = "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:9862/metrics\").read().decode())'"


pytestmark = pytest.mark.long  # apt and Python's compiler take their time in emulation


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def vm(request: pytest.FixtureRequest, boot_module: Callable[..., VM]) -> Iterator[VM]:
    files = [deb(package(version)) for version in (__version__, NEWER)]
    lab = {**APT, "/usr/lib/vf_user.py": Entry(VF_USER)}
    payload = {**lab, **{f"/root/build/{path.name}": path for path in files}}
    cards = [VirtioPf("virtio0", vfs=3), Igb("igb0")]
    machine = boot_module(cards, payload, suite=request.param, hypervisor=True)
    assert machine.wait_boot() == "running"
    # The lab's images exclude /usr/share/doc, where the examples are.
    machine.run("rm /etc/dpkg/dpkg.cfg.d/*")
    yield machine
    machine.kill()  # before the other release's VM starts


def type_apt(vm: VM, command: str) -> str:
    return vm.run(f"cd /root && DEBIAN_FRONTEND=noninteractive {command} 2>&1", timeout=300).stdout


def readme_commands() -> list[str]:
    """The commands in README after the build of the package."""
    section = (REPOSITORY / "README.md").read_text().partition("## Install it on a host\n")[2].partition("\n## ")[0]
    lines = [line.partition("#")[0].strip() for line in section.splitlines() if line.startswith("    ")]
    return lines[lines.index("make deb") + 1 :]


def shown(vm: VM, unit: str, name: str) -> str:
    return vm.run(f"systemctl show --value --property {name} {unit}").stdout.strip()


def seconds_to_ready(vm: VM) -> float:
    began, active = (shown(vm, "vfagent", f"{name}TimestampMonotonic") for name in ("InactiveExit", "ActiveEnter"))
    return (int(active) - int(began)) / 1e6


def wait_converged(vm: VM) -> None:
    vm.wait_for("vfagent status >/dev/null", 60)


@dataclass(frozen=True, slots=True)
class Running:
    """State that no operation on the package may change."""

    guest: tuple[str, str]
    user: str
    storage: tuple[VfFacts, ...]
    tagged: tuple[VfFacts, ...]


def running(vm: VM) -> Running:
    guest = (shown(vm, GUEST, "MainPID"), shown(vm, GUEST, "InvocationID"))
    assert guest[0] != "0"
    user = shown(vm, "vf-user.service", "MainPID")
    assert user != "0"
    return Running(guest, user, tuple(vfs(vm, VIRTIO)), tuple(vfs(vm, IGB)))


def send_traffic(vm: VM) -> None:
    """From a VF in a network namespace to the PF's address, five times a second."""
    vf = f"$(ls /sys/bus/pci/devices/{vfs(vm, VIRTIO)[2].address}/virtio*/net)"
    vm.run(
        f"ip netns add beside; ip link set {vf} netns beside name vf up; ip -n beside address add {BESIDE}/24 dev vf"
    )
    vm.run(f"systemd-run --quiet --unit=traffic ip netns exec beside busybox ping -i 0.2 {ADDRESS}")
    vm.wait_for(lambda: replies(vm) > 5, 30)


def replies(vm: VM) -> int:
    return int(vm.run("journalctl -q -u traffic.service -o cat --no-pager | grep -c seq=", check=False).stdout)


def lost(vm: VM) -> int:
    """Lost packets so far; the reply to the last may still come."""
    last = vm.run("journalctl -q -u traffic.service -o cat --no-pager -g seq= -n 1").stdout
    match = re.search(r"seq=(\d+)", last)
    assert match
    return max(0, int(match[1]) + 1 - replies(vm))


def test_the_readme_commands_install_it_and_touch_no_card(vm: VM) -> None:
    commands = readme_commands()
    assert commands[0].startswith("apt install ./build/")
    for command in commands:
        vm.run(f"cd /root; {command}", timeout=300)
    assert vm.run("systemctl is-active vfagent; systemctl is-enabled vfagent").stdout.split() == ["active", "enabled"]
    assert vfs(vm, VIRTIO) == vfs(vm, IGB) == []
    assert seconds_to_ready(vm) < READY_S
    text = vm.run("vfagent status")
    assert "no policy: every NIC is left as it is" in text.stdout
    assert vm.run("lsmod | grep -c ^vfio_pci").stdout.strip() != "0"


@pytest.mark.parametrize("name", ["idle", "netdevsim"])
def test_the_autopkgtests_pass(vm: VM, name: str) -> None:
    script = f"packaging/debian/tests/{name}"
    for path in (script, "tests/lab/adapter_netdevsim.py"):
        vm.put(f"/tmp/source/{path}", (REPOSITORY / path).read_bytes(), 0o755)
    vm.run(f"cd /tmp/source; {script} 2>&1", timeout=300)


def test_systemd_analyze_accepts_the_installed_unit(vm: VM) -> None:
    verified = vm.run("systemd-analyze verify --man=no vfagent.service 2>&1")
    assert "vfagent" not in verified.stdout
    table = vm.run("systemd-analyze security --no-pager vfagent.service").stdout
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", table)
    assert match
    assert float(match[1]) <= MOST_EXPOSED


@pytest.mark.parametrize(("policy", "text"), [("", "rule"), (ABSENT, "rule 'absent': waits for a PF that it matches")])
def test_without_its_hardware_the_service_is_ready_at_once_and_idle(vm: VM, policy: str, text: str) -> None:
    vm.put("/etc/vfagent/policy.toml", policy.encode())
    vm.run("systemctl restart vfagent.service")
    assert seconds_to_ready(vm) < READY_S
    status = vm.run("vfagent status").stdout
    assert (text in status) == bool(policy)
    assert vm.run("vfagent plan", check=False).returncode == 0
    assert vfs(vm, VIRTIO) == vfs(vm, IGB) == []


def test_needrestart_leaves_guests_alone(vm: VM) -> None:
    conf = "/etc/needrestart/conf.d/50-vfagent.conf"
    logged = f'map {{ "{GUEST}" =~ $_ ? "no" : "" }} keys %{{$nrconf{{override_rc}}}}'
    ask = f'undef $/; open F, "{conf}"; eval <F>; print {logged}'
    assert vm.run(f"perl -e {shlex.quote(ask)}").stdout == "no"


def test_a_policy_and_a_reboot_suffice(vm: VM) -> None:
    vm.put("/etc/vfagent/policy.toml", POLICY.encode())
    vm.run("vfagent check")
    vm.put_tree(Target(VIRTIO).tree())
    vm.reboot()
    assert vm.wait_boot() == "running"
    assert [vf.driver for vf in vfs(vm, VIRTIO)] == ["vfio-pci", "vfio-pci", "virtio-pci"]
    assert [(vf.driver, vf.mac, vf.vlan) for vf in vfs(vm, IGB)] == [
        ("vfio-pci", f"52:54:00:bb:00:{index:02x}", 10) for index in range(3)
    ]
    vm.wait_for(f"journalctl -a -o cat -u {GUEST} | grep -q '{MARK}'", 180)
    wait_converged(vm)
    page = vm.run(SCRAPE).stdout
    assert f'vfagent_pf_phase{{pf="{IGB}",phase="converged"}} 1.0' in page
    assert f'vfagent_vf_in_use{{pf="{VIRTIO}",vf="0"}} 1.0' in page
    hold(vm, vfs(vm, IGB)[0])
    send_traffic(vm)


def test_an_upgrade_changes_nothing_that_runs(vm: VM) -> None:
    before, agent = running(vm), shown(vm, "vfagent", "MainPID")
    type_apt(vm, f"apt install ./build/vfagent_{NEWER}-1_all.deb")
    assert vm.run("vfagent --version").stdout == f"vfagent {NEWER}\n"
    assert shown(vm, "vfagent", "MainPID") != agent
    wait_converged(vm)
    assert json.loads(vm.run("vfagent status --json").stdout)["version"] == NEWER
    assert vm.run("vfagent plan").returncode == 0
    assert running(vm) == before
    assert lost(vm) == 0


def test_a_downgrade_changes_nothing_that_runs(vm: VM) -> None:
    before = running(vm)
    type_apt(vm, f"apt install --allow-downgrades ./build/vfagent_{__version__}-1_all.deb")
    wait_converged(vm)
    assert json.loads(vm.run("vfagent status --json").stdout)["version"] == __version__
    assert running(vm) == before
    assert lost(vm) == 0


def test_a_removal_leaves_vfs_and_guests_unchanged(vm: VM) -> None:
    before = running(vm)
    files = vm.run("dpkg -L vfagent | grep -v ^/etc/").stdout.split()
    output = type_apt(vm, "apt remove vfagent")
    assert f"guests keep running: {GUEST}" in output
    assert vm.run(f"for file in {' '.join(files)}; do [ ! -f $file ] || echo $file; done").stdout == ""
    assert shown(vm, "vfagent", "ActiveState") == "inactive"
    # udev processes all devices again: the guest is bound to a device unit that exists because of vfagent's rule.
    vm.run("udevadm control --reload; udevadm trigger; udevadm settle")
    assert running(vm) == before
    assert lost(vm) == 0


def test_a_purge_removes_everything_except_the_vfs(vm: VM) -> None:
    vm.run(f"systemctl stop {GUEST} vf-user.service traffic.service")
    before = vfs(vm, VIRTIO), vfs(vm, IGB)
    type_apt(vm, command_of("docs/uninstall.md", "apt purge vfagent"))
    paths = vm.run("find / /run -name '*vfagent*' 2>/dev/null || true").stdout.split()
    left = [path for path in paths if not path.startswith(NOT_OF_THE_PACKAGE)]
    assert left == [], left
    # systemd 252 keeps a unit's name while another unit refers to it.
    units = vm.run("systemctl list-units --all --plain --no-legend '*vfagent*' | grep -v not-found", check=False)
    assert units.stdout == ""
    assert (vfs(vm, VIRTIO), vfs(vm, IGB)) == before
