# SPDX-License-Identifier: Apache-2.0
"""A guest on a virtio VF boots from an iSCSI disk by iPXE, with no command after the host's boot; and its lifecycle."""

import json
import re
import shlex
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from tests.lab import guest_facts
from tests.lab.facts import hwmode, journal, netdev, now, status, vfs
from tests.lab.guest_facts import wait_printed
from tests.lab.hostile import replaced_qemu, report_of
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb, VirtioPf
from tests.lab.payload import Entry
from tests.lab.rom_tree import MARK as ROM_MARK
from tests.lab.rom_tree import SEEN, SOURCE, rom_tree
from tests.lab.target import EFI_IQN, EFI_MARK, IQN, MARK, Target
from tests.lab.vm import VM

PF = "0000:01:00.0"
UNIT = "vfagent-guest-cirros.service"
CGROUP = f"/sys/fs/cgroup/machine.slice/{UNIT}"
_PF = """
[[pf]]
name = "{name}"
match = {{ {match} }}
vfs = 2

[[pf.vf]]
index = "*"
driver = "vfio-pci"
"""
_GUEST = """
[[guest]]
name = "{name}"
vfs = ["{vfs}"]
memory = "128M"
firmware = "{firmware}"

[guest.ipxe]
address = "192.168.10.{host}/24"
gateway = "192.168.10.1"
sanboot = "iscsi:192.168.10.1::::{iqn}"

[guest.unit]
TimeoutStopSec = "10s"
"""
POLICY = _PF.format(name="storage", match=f'pci = "{PF}"') + _GUEST.format(
    name="cirros", vfs="storage:0", firmware="bios", host=10, iqn=IQN
)
USER, SECRET = "cirros", "open-sesame-12"
CHAP = f'[guest.chap]\nuser = "{USER}"\nsecret = "/etc/vfagent/cirros.chap"\n'
VNC_PASSWORD = "show-me8"
POLICY = POLICY.replace("[guest.ipxe]", 'vnc = "unix"\nvnc_password = "/etc/vfagent/cirros.vnc"\n\n[guest.ipxe]')
POLICY += CHAP
SECRETS = {
    "/etc/vfagent/cirros.chap": Entry(f"{SECRET}\n".encode(), 0o600),
    "/etc/vfagent/cirros.vnc": Entry(f"{VNC_PASSWORD}\n".encode(), 0o600),
}
# Its target asks for no login, but its script contains the variable with the secret.
EFI = _GUEST.format(name="efi", vfs="storage:1", firmware="uefi", host=11, iqn=EFI_IQN) + CHAP
ROM = _GUEST.format(name="rom", vfs="storage:1", firmware="bios", host=12, iqn=EFI_IQN).replace(
    "[guest.ipxe]", '[guest.ipxe]\nloader = "rom"'
)
# What systemd would expand, split or escape. iPXE takes the words for a script that fails. After a first start without
# `machine`, the next one has the name of the machine that it got.
CMDLINE = """; $HOME ${PATH} $$ %i %% \\x41 \\ "a  b" 'c' `d` #"""
ODD = f"""
[[guest]]
name = "odd"
vfs = ["storage:1"]
memory = "64M"
machine = "pc-q35-7.2"

[guest.kernel]
image = "/usr/lib/ipxe/ipxe.lkrn"
cmdline = {json.dumps(CMDLINE)}

[guest.unit]
TimeoutStopSec = "3s"
"""
DISK, OTHER_DISK = "/srv/a-b@c=d+e.img", "/srv/other.img"
BROKEN_OUT = f"""
[[guest]]
name = "broken-out"
vfs = ["storage:1"]
memory = "64M"
unit.TimeoutStopSec = "3s"

[[guest.disk]]
path = "{DISK}"
"""
# Its script is iPXE's shell, and its disk that of the target.
SHELL = """
[[guest]]
name = "shell"
vfs = ["storage:1"]
memory = "128M"
unit.TimeoutStopSec = "3s"
ipxe.script = "/etc/vfagent/shell.ipxe"
credentials."lab.answer" = "42"

[[guest.disk]]
path = "/srv/disk"
readonly = true

[guest.seed]
user_data = "#cloud-config"
"""
# Its disk has nothing to boot, so that the firmware starts its own shell.
VARIABLES = """
[[guest]]
name = "variables"
vfs = ["storage:1"]
memory = "256M"
firmware = "uefi"
unit.TimeoutStopSec = "3s"

[[guest.disk]]
path = "/srv/nothing"
readonly = true
"""
# Its iPXE finds nothing to boot and retries, which is enough of a guest for these tests.
LATE = _PF.format(name="late", match='driver = "igb"') + _GUEST.format(
    name="late", vfs="late", firmware="bios", host=20, iqn="iqn.2016-01.com.example:none"
)

NIC = """
[[bridge]]
name = "br7"
vlan_filtering = true

[[guest]]
name = "bridged"
memory = "128M"
ipxe = { address = "192.168.77.2/24", sanboot = "iscsi:192.168.77.1::::iqn.2016-01.com.example:none" }
unit.TimeoutStopSec = "3s"

[[guest.nic]]
bridge = "br7"
vlan = 10
"""
# The host's own end of that VLAN.
HOST_END = """
ip link add link br7 name br7.10 type vlan id 10 && bridge vlan add dev br7 vid 10 self
ip address add 192.168.77.1/24 dev br7.10 && ip link set br7.10 up
"""


@pytest.fixture(scope="module")
def vm(boot_module: Callable[..., VM]) -> VM:
    payload = vfagent_tree(POLICY, {**Target(PF, login=(USER, SECRET), efi=True).tree(), **SECRETS})
    return boot_module([VirtioPf("virtio0", vfs=2)], payload, hypervisor=True)


guest = partial(guest_facts.guest, name="cirros")
phase = partial(guest_facts.phase, name="cirros")


def load(vm: VM, policy: str) -> None:
    vm.put("/etc/vfagent/policy.toml", policy.encode())
    vm.run("systemctl start vfagent.service; systemctl reload vfagent.service", timeout=120)


@contextmanager
def with_guest(vm: VM, rules: str, *, undo: str = "true") -> Iterator[None]:
    """Beside the file's own guest. Afterwards it is stopped, `undo` is run, and the policy is as before."""
    with ExitStack() as afterwards:
        afterwards.callback(load, vm, POLICY)
        afterwards.callback(vm.run, undo, timeout=60)
        for rule in tomllib.loads(rules)["guest"]:
            afterwards.callback(stop_if_up, vm, rule["name"])
        load(vm, POLICY + rules)
        yield


def stop_if_up(vm: VM, name: str) -> None:
    """It may be starting where the test has failed. One that waits is not stopped: it would stay so with the rule."""
    if guest_facts.phase(vm, name) in ("starting", "running", "paused"):
        vm.run(f"vfagent guest stop {name}", check=False, timeout=60)


@contextmanager
def plugged(vm: VM, card: Igb) -> Iterator[str]:
    """The address of its PF. Afterwards it is unplugged, and its guest has ended."""
    pf = vm.hotplug(card)
    try:
        yield pf
    finally:
        vm.unplug(card, timeout=120)
        vm.wait_for(lambda: guest_facts.guest(vm, "late").get("pid") is None, 30)


def test_a_guest_boots_from_its_disk_through_a_vf(vm: VM) -> None:
    vm.wait_boot()
    wait_printed(vm, "cirros", MARK)
    assert phase(vm) == "running"
    assert guest(vm)["loader"] == "iPXE image"
    sockets = vm.run("ss -tnH state established '( sport = :3260 )'").stdout
    assert "192.168.10.10" in sockets
    sessions = vm.run(f"cat /sys/kernel/config/target/iscsi/{IQN}/tpgt_1/dynamic_sessions").stdout
    assert "iqn.2010-04.org.ipxe:cirros" in sessions
    assert vm.run("vfagent status").returncode == 0


def test_a_guests_console_is_text_of_one_level(vm: VM) -> None:
    """Its first line begins with the prefix of an emergency, which journald would write to every terminal."""
    lines = vm.run(f"journalctl -a -o json --output-fields=PRIORITY,MESSAGE -u {UNIT}").stdout.splitlines()
    printed = [json.loads(line) for line in lines]
    # journalctl gives a message with an escape character as a list of bytes.
    texts = [
        (bytes(entry["MESSAGE"]).decode() if isinstance(entry["MESSAGE"], list) else entry["MESSAGE"], entry)
        for entry in printed
    ]
    levels = {entry["PRIORITY"] for text, entry in texts if "all terminals" in text}
    assert levels == {"6"}


def test_the_chap_secret_is_visible_nowhere(vm: VM) -> None:
    shown = vm.run(
        f"ps -ww -eo args; journalctl --no-pager; systemctl show {UNIT}; cat /run/vfagent/status.json"
    ).stdout
    assert UNIT in shown
    assert SECRET not in shown
    assert VNC_PASSWORD not in shown


# RFC 6143, 7.1: the versions, then the types of authentication; 2 is that with a password.
_GREETING = """
import socket
try:
    screen = socket.socket(socket.AF_UNIX)
    screen.settimeout(20)
    screen.connect("/run/vfagent-guest-cirros/vnc")
    version = screen.recv(12)
    screen.sendall(version)
    print(version[:4], screen.recv(8))
except OSError as error:
    print(error.strerror)
"""


def test_a_guests_screen_opens_to_root_with_its_password(vm: VM) -> None:
    greeting = shlex.quote(_GREETING)
    assert vm.run(f"python3 -c {greeting}").stdout.strip() == r"b'RFB ' b'\x01\x02'"
    assert vm.run(f"setpriv --reuid nobody --clear-groups python3 -c {greeting}").stdout.strip() == "Permission denied"
    assert vm.run(f"systemctl show -P PrivateNetwork {UNIT}").stdout.strip() == "yes"


def test_qemu_is_unprivileged_and_cannot_open_another_vf(vm: VM) -> None:
    pid = guest(vm)["pid"]
    facts = vm.run(f"cat /proc/{pid}/status").stdout
    assert not re.search(r"^Uid:\s+0\b", facts, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", facts, re.MULTILINE)
    assert re.search(r"^CapBnd:\s+0+$", facts, re.MULTILINE)
    groups = [
        vm.run(f"basename $(readlink /sys/bus/pci/devices/{vf.address}/iommu_group)").stdout.strip()
        for vf in vfs(vm, PF)
    ]
    answers = [
        vm.run(f"sh -c 'echo $$ >{CGROUP}/cgroup.procs; exec 3<>/dev/vfio/{group}'", check=False).stderr
        for group in groups
    ]
    assert "busy" in answers[0]
    assert "Operation not permitted" in answers[1]


def typed(vm: VM, name: str, line: str) -> str:
    """What the console shows of a line that is typed as by hand: SeaBIOS reads the serial port, too, and at a machine's
    speed each gets a part of it.
    """
    keys = shlex.quote(
        f"""
import sys, time
for key in {line + chr(13)!r}:
    print(end=key, flush=True)
    time.sleep(0.3)
time.sleep(10)
print(end=chr(29), flush=True)
"""
    )
    return vm.run(f"python3 -c {keys} | vfagent guest console {name}", timeout=120).stdout


def test_a_console_is_typed_at_and_a_disk_of_the_host_booted(vm: VM) -> None:
    vm.put("/etc/vfagent/shell.ipxe", b"#!ipxe\nset tens 4\necho lab: ready\nshell\n")
    vm.run("chmod a+r /srv/disk")
    with with_guest(vm, SHELL):
        wait_printed(vm, "shell", "lab: ready")
        # OEM strings by their number: the count, at offset 4, is that of the last.
        shown = typed(vm, "shell", "echo lab: ${tens}2 and ${smbios/11.4.0}")
        assert "lab: 42 and io.systemd.credential.binary:lab.answer=NDI=" in shown
        wait_printed(vm, "shell", "lab: 42 and io.systemd.credential")
        typed(vm, "shell", "exit")  # the BIOS tries the disk
        wait_printed(vm, "shell", MARK)
        assert "lab: 42 and" in vm.run("vfagent guest log shell").stdout
        assert vm.run("setpriv --reuid nobody --clear-groups vfagent guest console shell", check=False).returncode == 1


# Its disk is on a mount that comes later.
LATE_DISK = """
[[guest]]
name = "late-disk"
vfs = ["storage:1"]
memory = "64M"
unit.TimeoutStopSec = "3s"

[[guest.disk]]
path = "/mnt/late/disk"
readonly = true
"""


def test_a_guest_whose_disk_is_mounted_late_starts_then(vm: VM) -> None:
    with with_guest(vm, LATE_DISK, undo="! mountpoint -q /mnt/late || systemctl stop mnt-late.mount"):
        vm.wait_for("vfagent guest list | grep -q '/mnt/late/disk (its disk) does not exist'", 30)
        assert guest_facts.phase(vm, "late-disk") == "waiting"
        vm.run("mkdir -p /mnt/late; systemd-mount --options=bind /srv /mnt/late; chmod a+r /srv/disk")
        vm.wait_for(lambda: guest_facts.phase(vm, "late-disk") == "running", 60)
        wait_printed(vm, "late-disk", MARK)
        unit = "vfagent-guest-late-disk.service"
        assert "mnt-late.mount" in vm.run(f"systemctl show -P After {unit}").stdout
        vm.run("systemctl stop mnt-late.mount", timeout=60)  # the guest ends first: else it would be busy
        assert vm.run(f"systemctl is-active {unit}", check=False).stdout.strip() != "active"


def settled(vm: VM, command: str) -> int:
    """The number that the command prints, once that is not zero and no longer changes."""
    seen = list[int]()

    def same_again() -> bool:
        time.sleep(3)
        seen.append(int(vm.run(command).stdout))
        return seen[-1] > 0 and seen[-2:] == [seen[-1]] * 2

    vm.wait_for(same_again, 120)
    return seen[-1]


def test_who_breaks_out_of_a_guest_reaches_its_own_files_only(vm: VM) -> None:
    unit = "vfagent-guest-broken-out.service"
    disks = f"{DISK} {OTHER_DISK}"
    vm.run(f"truncate --size=1M {disks}; chgrp kvm {disks}; chmod 660 {disks}")  # as the manual advises
    with replaced_qemu(vm), with_guest(vm, BROKEN_OUT):
        report = report_of(vm, unit)
        group = vm.run(f"basename $(readlink /sys/bus/pci/devices/{vfs(vm, PF)[1].address}/iommu_group)").stdout.strip()
        own = {DISK, "/etc/ld.so.cache", f"/run/credentials/{unit}/command"}
        assert {path for path in report["read"] if not path.endswith("/os-release")} == own
        assert (report["written"], report["connected"], report["called"]) == ([DISK], [], [])
        assert {*report["devices"]} == {"/dev/vfio/vfio", f"/dev/vfio/{group}"}
        # On systemd 252 /run itself, too; each is a file system of its own.
        own = {"/run/vfagent-guest-broken-out", "/tmp", "/var/tmp", "/dev/mqueue"}
        assert {*report["folders"]} - {"/run"} == own
        assert (report["processes"], report["interfaces"]) == ([], ["lo"])
        vm.run("journalctl --rotate; journalctl --vacuum-time=1s")
        vm.run(f"systemctl daemon-reload; systemctl kill --signal=SEGV {unit}")
        assert report_of(vm, unit) == report, "systemd has read the unit's file again"
        vm.run(f"systemctl kill --kill-whom=main --signal=USR1 {unit}")
        flood = f"journalctl -q -o cat -u {unit} --grep=flood"
        # journald multiplies a unit's limit of 1,000 by up to six while there is space.
        assert 900 <= settled(vm, f"journalctl --sync; {flood} | wc -l") <= 6000
        assert vm.run(f"{flood} --priority=emerg..notice | wc -l").stdout == "0\n"
        vm.run("vfagent guest stop broken-out", timeout=60)
        vm.wait_for(f"test $(stat -c %a /dev/vfio/{group}) = 600", 20)


def test_machined_and_systemctl_show_the_guest(vm: VM) -> None:
    vm.wait_for("machinectl list --no-legend | grep -q '^cirros .*vm.*vfagent'", 10)
    assert f"Guest cirros on {PF}/vf0" in vm.run(f"systemctl status {UNIT}").stdout
    assert f"Unit: {UNIT}" in vm.run("machinectl status cirros --no-pager").stdout


def test_the_end_of_the_agent_does_not_end_its_guests(vm: VM) -> None:
    """Nor does an upgrade, which replaces files and restarts the service."""
    before = guest(vm)["pid"]
    vm.run("systemctl restart vfagent.service")
    vm.run("systemctl kill --signal=KILL vfagent.service")
    vm.wait_for("systemctl is-active --quiet vfagent.service && vfagent status >/dev/null", 60)
    vm.run("systemctl stop vfagent.service; systemctl start vfagent.service")
    vm.wait_for(lambda: phase(vm) == "running", 30)
    assert guest(vm)["pid"] == before
    assert vm.run("vfagent plan").returncode == 0


def over_qmp(vm: VM, command: str) -> None:
    """As an administrator pauses a guest by hand."""
    lines = f'{{"execute":"qmp_capabilities"}}{{"execute":"{command}"}}'
    script = f"""
import socket, time
with socket.socket(socket.AF_UNIX) as qmp:
    qmp.connect("/run/vfagent-guest-cirros/qmp")
    qmp.sendall({lines.encode()!r})
    time.sleep(3)
"""
    vm.run(f"python3 -c {shlex.quote(script)}")


def test_a_paused_guest_is_not_running(vm: VM) -> None:
    """QEMU pauses a guest after a VFIO error; the service asks it over QMP, as the guest's own user."""
    before = guest(vm)["pid"]
    over_qmp(vm, "stop")
    try:
        vm.run("systemctl restart vfagent.service")
        vm.wait_for(lambda: phase(vm) == "paused", 60)
        assert guest(vm)["pid"] == before
    finally:
        over_qmp(vm, "cont")
    vm.run("systemctl restart vfagent.service")
    vm.wait_for(lambda: phase(vm) == "running", 60)
    assert guest(vm)["pid"] == before


def refused_by(vm: VM, name: str, pf: str, policy: str) -> str:
    """Loads a policy that waits for the guest, stops the service, and returns the error text of `vfagent apply`."""
    load(vm, policy)
    vm.wait_for(lambda: f"guest {name} has it open" in str(status(vm)[pf]["deferred"]), 20)
    vm.run("systemctl stop vfagent.service")
    applied = vm.run("vfagent apply", check=False)
    assert applied.returncode == 5
    assert f"guest {name} has it open" in applied.stderr
    return applied.stderr


def test_a_change_that_would_disturb_a_guest_is_refused_with_its_name(vm: VM) -> None:
    before, held = guest(vm)["pid"], vfs(vm, PF)
    released = vm.run(f"vfagent release {PF}", check=False)
    assert released.returncode == 5
    assert "guest cirros has it open" in released.stderr
    try:
        refused_by(vm, "cirros", PF, POLICY.replace("vfs = 2", "vfs = 1"))
    finally:
        load(vm, POLICY)
    vm.wait_for(lambda: phase(vm) == "running", 30)
    assert (guest(vm)["pid"], vfs(vm, PF)) == (before, held)


def test_a_guest_that_ignores_acpi_is_stopped_in_time_and_stays_stopped(vm: VM) -> None:
    started = time.monotonic()
    vm.run("vfagent guest stop cirros", timeout=60)
    assert 7 < time.monotonic() - started < 20
    assert phase(vm) == "stopped"
    vm.run("systemctl restart vfagent.service")
    vm.wait_for(lambda: phase(vm) == "stopped", 30)
    since = now(vm)
    vm.run("vfagent guest start cirros", timeout=60)
    wait_printed(vm, "cirros", MARK, since=since)


def test_a_guest_that_another_starts_after_is_stopped_and_started_while_that_runs(vm: VM) -> None:
    """systemd makes no transient unit of a name that another unit's keeps."""
    with with_guest(vm, ODD.replace('"odd"', '"later"\nafter = ["cirros"]')):
        vm.wait_for(lambda: guest_facts.phase(vm, "later") == "running", 60)
        later = guest_facts.guest(vm, "later")["pid"]
        assert "vfagent-guest@cirros.target" in vm.run("systemctl show -P After vfagent-guest-later.service").stdout
        assert vm.run("systemctl is-active vfagent-guest@cirros.target").stdout.strip() == "active"
        vm.run("vfagent guest stop cirros", timeout=60)
        vm.wait_for("! systemctl -q is-active vfagent-guest@cirros.target", 10)
        vm.run("vfagent guest start cirros", timeout=60)
        vm.wait_for(lambda: phase(vm) == "running", 30)
        assert guest_facts.guest(vm, "later")["pid"] == later


def command_of(vm: VM, name: str) -> bytes:
    path = f"/proc/{guest_facts.guest(vm, name)['pid']}/cmdline"
    vm.wait_for(f"grep -q ^/usr/bin/qemu {path}", 20)  # the shell has become QEMU
    return vm.get(path)


def test_a_daemon_reload_changes_no_command_line(vm: VM) -> None:
    with with_guest(vm, ODD):
        vm.wait_for(lambda: guest_facts.phase(vm, "odd") == "running", 60)
        first, command = guest_facts.guest(vm, "odd")["pid"], command_of(vm, "odd")
        assert CMDLINE.encode() in command.split(b"\0")
        sandbox = "^(Restrict|Protect|Private|Device|SystemCall|Capability|Load)"
        settings = f"systemctl show vfagent-guest-odd.service | grep -E '{sandbox}' | sort"
        before = vm.run(settings).stdout
        vm.run("systemctl daemon-reload")
        assert vm.run(settings).stdout == before
        vm.run("systemctl kill --signal=SEGV vfagent-guest-odd.service")
        vm.wait_for(lambda: guest_facts.guest(vm, "odd")["pid"] not in (first, None), 60)
        assert command_of(vm, "odd") == command


@pytest.mark.long
def test_a_guest_boots_under_uefi(vm: VM) -> None:
    with with_guest(vm, EFI):
        wait_printed(vm, "efi", EFI_MARK, timeout=240)
        assert guest_facts.guest(vm, "efi")["loader"] == "iPXE image"
        first, command = guest_facts.guest(vm, "efi")["pid"], command_of(vm, "efi")
        assert b"$" in command
        vm.run("systemctl daemon-reload; systemctl kill --signal=SEGV vfagent-guest-efi.service")
        vm.wait_for(lambda: guest_facts.guest(vm, "efi")["pid"] not in (first, None), 60)
        assert command_of(vm, "efi") == command


def in_the_efi_shell(vm: VM, name: str, command: str) -> str:
    """What the console shows of a command. The first key ends the shell's countdown."""
    wait_printed(vm, name, "Mapping table", since=now(vm), timeout=600)
    typed(vm, name, "")
    return typed(vm, name, command)


@pytest.mark.long
def test_uefi_variables_and_the_machine_type_outlive_a_power_off(vm: VM) -> None:
    vm.run("truncate --size=1M /srv/nothing; chmod a+r /srv/nothing")
    with with_guest(vm, VARIABLES):
        variable = "setvar Lab -guid 11111111-2222-3333-4444-555555555555"
        in_the_efi_shell(vm, "variables", f"{variable} -nv -bs =0x4142")
        machine = vm.get("/var/lib/vfagent/guests/variables/machine.json")
        vm.run("vfagent guest stop variables; vfagent guest start variables", timeout=120)
        assert "0002 Bytes" in in_the_efi_shell(vm, "variables", variable)
        assert b"pc-q35-" in machine
        assert machine == vm.get("/var/lib/vfagent/guests/variables/machine.json")
        assert machine.strip(b'"\n') in command_of(vm, "variables")


@pytest.mark.long
def test_a_rom_is_built_in_a_sandbox_and_the_guest_runs_it(vm: VM) -> None:
    vm.put_tree(rom_tree())
    rules = f'{ROM}\n[agent]\nipxe_source = "{SOURCE}"\n'
    vm.put("/etc/vfagent/policy.toml", (POLICY + rules).encode())
    assert "once that is built from" in vm.run("vfagent plan", check=False).stdout
    with with_guest(vm, rules):
        wait_printed(vm, "rom", ROM_MARK)
        assert guest_facts.guest(vm, "rom")["loader"] == "iPXE ROM"
        log = vm.get("/var/lib/vfagent/rom-cache/build.log").decode().splitlines()
        uid, touched, links, devices = (next(line for line in log if line.startswith(f"{key}:")) for key in SEEN)
        assert int(uid.rpartition(":")[2]) > 60000
        assert "Read-only file system" in touched
        assert links.endswith(": lo")
        assert devices.count("cannot access") == 2
        vm.run("vfagent rom build")
        roms = vm.run("vfagent rom list").stdout
        assert "guest rom: boots from /var/lib/vfagent/rom-cache/1af41041-bios-" in roms
        assert "; the image for bios has a driver" in roms  # read in the distribution's own


def test_a_guest_that_crashes_is_restarted(vm: VM) -> None:
    before = guest(vm)["pid"]
    vm.run(f"systemctl kill --signal=SEGV {UNIT}")
    vm.wait_for(lambda: phase(vm) == "running" and guest(vm)["pid"] != before, 60)


def resolved(vm: VM) -> bool:
    """Whether the guest's iPXE answers to ARP in its VLAN."""
    vm.run("ip neigh flush dev br7.10; echo >/dev/udp/192.168.77.2/9; sleep 1", check=False)
    return "lladdr" in vm.run("ip neigh show 192.168.77.2 dev br7.10").stdout


def test_a_nic_is_on_its_bridge_and_vlan_as_long_as_its_guest(vm: VM) -> None:
    with with_guest(vm, NIC, undo="! ip link show br7.10 || ip link del br7.10"):
        vm.wait_for(lambda: guest_facts.phase(vm, "bridged") == "running", 60)
        vm.run(HOST_END)
        vm.wait_for(lambda: resolved(vm), 180)  # iPXE boots in emulation
        first = guest_facts.guest(vm, "bridged")["pid"]
        assert vm.run(f"readlink /proc/{first}/ns/net").stdout != vm.run("readlink /proc/1/ns/net").stdout
        tap = vm.run("ls /sys/class/net/br7/brif").stdout.strip()
        [entry] = json.loads(vm.run(f"bridge -j vlan show dev {tap}").stdout)
        assert [vlan["vlan"] for vlan in entry["vlans"]] == [10]
        vm.run("systemctl kill --signal=SEGV vfagent-guest-bridged.service")
        vm.wait_for(lambda: guest_facts.guest(vm, "bridged")["pid"] not in (first, None), 60)
        vm.wait_for(lambda: resolved(vm), 180)  # iPXE boots in emulation
        vm.run("vfagent guest stop bridged", timeout=60)
        vm.wait_for(f"! test -e /sys/class/net/{tap}", 10)


# Debian's kernel has BRIDGE_VLAN_FILTERING; that of whoever runs the host tier may have none.
_VLANS_OF_TAPS = """
import subprocess
from vfagent.guests.spec.nics import Tap
from vfagent.guests.taps import open_taps
from vfagent.store.identity import open_host
for vlan in (None, 10):
    with open_taps((Tap("vfg-01234567-0", "br8", vlan, "fe:00:00:00:00:01"),), open_host()):
        subprocess.run(["bridge", "-json", "vlan", "show", "dev", "vfg-01234567-0"], check=True)
"""


def test_a_tap_is_in_its_vlan_alone(vm: VM) -> None:
    vm.run("ip link add br8 type bridge vlan_filtering 1 && ip link set br8 up")
    try:
        shown = vm.run(f"python3 -c {shlex.quote(_VLANS_OF_TAPS)}").stdout
    finally:
        vm.run("ip link del br8")
    vlans = [entry["vlans"] for [entry] in map(json.loads, shown.splitlines())]
    assert vlans == [[{"vlan": vlan, "flags": ["PVID", "Egress Untagged"]}] for vlan in (1, 10)]


def test_a_crash_loop_ends_and_is_reported(vm: VM) -> None:
    for _ in range(10):
        if phase(vm) == "failed":
            break
        vm.run(f"systemctl kill --signal=SEGV {UNIT}", check=False)
        vm.wait_for(lambda: phase(vm) in ("failed", "running"), 30)
        time.sleep(3)
    assert phase(vm) == "failed"
    assert "guest cirros: failed" in journal(vm)
    assert vm.run("vfagent status", check=False).returncode == 3
    vm.run("vfagent guest start cirros", timeout=60)
    assert phase(vm) == "running"


def test_a_hotplugged_nic_starts_its_guest_and_an_unplug_stops_it(vm: VM) -> None:
    vm.run("vfagent guest stop cirros", timeout=60)
    assert phase(vm) == "stopped"
    with with_guest(vm, LATE):
        vm.wait_for(lambda: guest_facts.phase(vm, "late") == "waiting", 20)
        for number in (1, 2):
            with plugged(vm, Igb(f"late{number}")):
                vm.wait_for(lambda: guest_facts.phase(vm, "late") == "running", 90)
            vm.wait_for(lambda: guest_facts.phase(vm, "late") == "waiting", 30)
        assert vm.run("ps -eo stat,args | grep '^D' || true").stdout == ""
        assert "guest late: one of its VFs is being removed: stopping the guest" in journal(vm)


def test_a_guest_starts_before_udev_has_its_vf_and_is_bound_to_it(vm: VM) -> None:
    """As at a boot, where udev has hundreds of devices to process before the VF."""
    since = now(vm)
    with ExitStack() as afterwards:
        afterwards.callback(load, vm, POLICY)
        pf = afterwards.enter_context(plugged(vm, Igb("behind")))
        vm.wait_for(f"test -d /sys/bus/pci/devices/{pf}/net", 30)
        afterwards.callback(vm.run, "udevadm control --start-exec-queue")
        vm.run("udevadm settle; udevadm control --stop-exec-queue")
        load(vm, POLICY + LATE)
        vm.wait_for(lambda: guest_facts.phase(vm, "late") == "running", 60)
        before, vf = guest_facts.guest(vm, "late")["pid"], vfs(vm, pf)[0].address
        device = vm.run(f"systemd-escape --path --suffix=device $(realpath /sys/bus/pci/devices/{vf})").stdout.strip()
        assert vm.run(f"systemctl is-active {device}", check=False).stdout == "inactive\n"
        group = vm.run(f"basename $(readlink /sys/bus/pci/devices/{vf}/iommu_group)").stdout.strip()
        assert vm.run(f"stat -c '%U:%G %a' /dev/vfio/{group}").stdout == "root:root 660\n"
        vm.run("systemctl daemon-reload; systemctl kill --signal=SEGV vfagent-guest-late.service")
        vm.wait_for(lambda: (late := guest_facts.guest(vm, "late"))["phase"] == "running" and late["pid"] != before, 60)
        before = guest_facts.guest(vm, "late")["pid"]
        vm.run("udevadm control --start-exec-queue; udevadm settle")
        vm.wait_for(f"systemctl is-active --quiet {device}", 30)
        assert guest_facts.guest(vm, "late")["pid"] == before
        assert vm.run(f"stat -c '%U:%G %a' /dev/vfio/{group}").stdout == "root:root 660\n"
        as_kvm = "setpriv --reuid=nobody --regid=kvm --clear-groups test -w"
        vm.run(f"{as_kvm} /dev/vfio/{group} && ! {as_kvm.replace('kvm', 'nogroup')} /dev/vfio/{group}")
        # The kernel announces the removal of a VF once its guest has closed it; for systemd its device unit ends.
        vm.run(f"echo remove >/sys/bus/pci/devices/{vf}/uevent")
        vm.wait_for("test $(systemctl is-active vfagent-guest-late.service) = inactive", 30)
        assert "one of its VFs is being removed" not in journal(vm, since)
        vm.run(f"echo add >/sys/bus/pci/devices/{vf}/uevent; udevadm settle; vfagent guest start late", timeout=60)
        assert guest_facts.phase(vm, "late") == "running"


def test_a_change_of_hwmode_waits_until_the_card_has_no_guest(vm: VM) -> None:
    """The lab's module adds hwmode to an 82576, with the rules of real drivers."""
    with with_guest(vm, LATE), plugged(vm, Igb("mode")) as pf:
        vm.wait_for(lambda: guest_facts.phase(vm, "late") == "running", 90)
        before, name = guest_facts.guest(vm, "late")["pid"], netdev(vm, pf)
        vm.run(f"modprobe hwmode pf={name}")
        other = LATE.replace("vfs = 2", 'vfs = 2\nhwmode = "vepa"')
        assert "set hwmode" in refused_by(vm, "late", pf, POLICY + other)
        vm.run("systemctl start vfagent.service")
        vm.wait_for(lambda: guest_facts.phase(vm, "late") == "running", 30)
        assert (guest_facts.guest(vm, "late")["pid"], hwmode(vm, name)) == (before, "VEB")
        vm.run("vfagent guest stop late", timeout=60)
        vm.wait_for(lambda: hwmode(vm, name) == "VEPA", 30)
