# SPDX-License-Identifier: Apache-2.0
"""A guest's whole unit as text, by policy: `pytest tests/unit --regenerate` writes the texts."""

import json
import socket
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.guest.firmware import DEBIAN
from tests.unit.guest.hosts import managed, pf, policy_of
from vfagent.frozen import frozen
from vfagent.guests.spec.boot import ASSUMED, boot_of
from vfagent.guests.spec.files import FileFacts, unfit_file
from vfagent.guests.spec.firmware import chosen
from vfagent.guests.spec.kvm_probe import kvm_probe
from vfagent.guests.spec.nics import nics_of
from vfagent.guests.spec.numa import NumaNode
from vfagent.guests.spec.placement import place
from vfagent.guests.spec.qemu import QEMU, Guest, argv, command, guest_uuid
from vfagent.guests.spec.rom import RomWish, build_unit
from vfagent.guests.spec.unit import rule_digest, unit_of
from vfagent.guests.spec.unit_values import translated
from vfagent.model.guest_unit import Property, UnitSpec
from vfagent.policy.types import GuestRule, Policy
from vfagent.store.policy_files import load_files

CASES = sorted((Path(__file__).parent / "cases").glob("*.toml"))
MAC = "02:00:00:00:00:01"
UUID = "4a8f9ab1-0000-5000-8000-000000000000"
HOSTILE = 'x"},"y":$HOME ${PATH} %i ; \\ `id`'


def guests(policy: Policy, *, kvm: bool = True, hardware: str = "8086:10ca") -> list[Guest]:
    placements = place(policy.guest, managed(policy, pf(1), pf(2, numa_node=1)), {})
    assert not any(placement.waits for placement in placements)
    with_vfs = [
        (placement.rule, tuple(replace(vf, hardware=hardware, mac=MAC) for vf in placement.vfs))
        for placement in placements
    ]
    return [
        _with_firmware(
            Guest(
                rule,
                vfs,
                boot_of(rule, (hardware,) * len(vfs), ASSUMED),
                kvm,
                UUID,
                machine="pc-q35-7.2",
                nics=nics_of(rule, vfs, "0123456789"),
                nodes=tuple(
                    NumaNode(node, 4, has_memory=True) for node in {vf.numa_node for vf in vfs} if node is not None
                ),
            )
        )
        for rule, vfs in with_vfs
    ]


def _with_firmware(guest: Guest) -> Guest:
    if guest.rule.firmware != "uefi":
        return guest
    firmware = chosen(DEBIAN, guest.machine, secure_boot=guest.rule.secure_boot)
    assert firmware is not None
    name = firmware.template.rpartition("/")[2]
    return replace(guest, firmware=firmware, variables=f"/var/lib/vfagent/guests/{guest.rule.name}/{name}")


def unit(guest: Guest) -> UnitSpec:
    return unit_of(guest, tuple(f"{vf.address}.device" for vf in guest.vfs))


def value(spec: UnitSpec, name: str) -> Any:
    return next(item.value for item in spec.properties if item.name == name)


def as_text(guest: Guest) -> str:
    lines = [guest.unit, ""]
    for word in argv(guest):
        lines.append(f"  {word}" if not word.startswith("-") else word)
    lines.append("")
    lines += [f"{item.name} ({item.signature}) {item.value!r}" for item in unit(guest).properties]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_unit_is_the_golden_text(case: Path, pytestconfig: pytest.Config) -> None:
    text = "\n".join(as_text(guest) for guest in guests(load_files([case]), hardware=_hardware(case)))
    golden = case.with_suffix(".txt")
    if pytestconfig.getoption("--regenerate", default=False):
        golden.write_text(text)
    assert text == golden.read_text()


def _hardware(case: Path) -> str:
    return "15b3:1018" if "kernel" in case.stem else "8086:10ca"


def test_a_guest_beside_udev_waits_for_no_device_unit(tmp_path: Path) -> None:
    spec = unit(replace(hostile(tmp_path, '[guest.ipxe]\naddress = "dhcp"\n'), beside_udev=True))
    assert value(spec, "StopPropagatedFrom") == ["vfagent-vf@0000:01:10.0.target"]
    assert value(spec, "Wants") == ["vfagent-vf@0000:01:10.0.target", "vfagent-guest@x.target"]
    assert not {"After", "BindsTo"} & {item.name for item in spec.properties}


def hostile(folder: Path, tables: str) -> Guest:
    start = '[[pf]]\nname = "a"\nmatch = { pci = "*" }\nvfs = 4\n[[pf.vf]]\nindex = "*"\ndriver = "vfio-pci"\n'
    return guests(policy_of(folder, f'{start}[[guest]]\nname = "x"\nvfs = ["a:0"]\n{tables}'))[0]


def test_no_unit_lets_its_output_set_a_level_or_reach_a_bus(tmp_path: Path) -> None:
    guest = hostile(tmp_path, '[guest.ipxe]\naddress = "dhcp"\n')
    build = build_unit(RomWish("8086:10ca", "bios"), "/script", "/usr/src/ipxe", "0", 1, "/rom", "/log")
    for spec in (unit(guest), kvm_probe(), build):
        assert value(spec, "SyslogLevelPrefix") is False
        assert value(spec, "SyslogLevel") == 6
        assert value(spec, "LogRateLimitBurst") <= 1000
        assert "-/run/dbus" in value(spec, "InaccessiblePaths")


def test_a_disk_path_cannot_add_qemu_options(tmp_path: Path) -> None:
    guest = hostile(tmp_path, "[[guest.disk]]\npath = '/x'\n")
    path = "/" + HOSTILE  # which the policy refuses
    words = argv(replace(guest, rule=replace(guest.rule, disk=(replace(guest.rule.disk[0], path=path),))))
    disk = json.loads(words[words.index("-blockdev") + 1])
    assert disk["file"]["filename"] == path


@pytest.mark.parametrize("text", [HOSTILE, "", "it's", "\N{SNOWMAN} \\n", "; ${x} $$y $z"])
def test_a_command_line_reaches_qemu_byte_for_byte(tmp_path: Path, text: str) -> None:
    guest = hostile(tmp_path, "[guest.kernel]\nimage = '/k'\ncmdline = 'x'\n")
    guest = replace(guest, boot=replace(guest.boot, cmdline=f"{text}\n{text}"))
    qemu = tmp_path / "qemu"
    qemu.write_text('#!/bin/sh\nprintf "%s\\0" "$0" "$@"\n: >console.log\n')
    qemu.chmod(0o755)
    printed = shell_output(guest, qemu)
    assert printed.split(b"\0")[1:-1] == [word.encode() for word in argv(guest)[1:]]


def shell_output(guest: Guest, qemu: Path) -> bytes:
    """The standard output of its unit with this program as QEMU."""
    words = ["/bin/sh", "-c", script(guest, qemu)]
    return subprocess.run(words, capture_output=True, check=True, timeout=20).stdout


def script(guest: Guest, qemu: Path) -> str:
    """Its unit's command with this program as QEMU."""
    pipe, start, qemu_line = command(guest).replace(QEMU.encode(), bytes(qemu)).partition(b"\nexec ")
    here = pipe.replace(guest.console_log.encode(), b"console.log")
    return f"cd {qemu.parent}\n" + (here + start + qemu_line).decode()


def test_what_a_guest_prints_on_its_console_is_the_units_output_at_each_start(tmp_path: Path) -> None:
    guest = hostile(tmp_path, '[guest.ipxe]\naddress = "dhcp"\n')
    qemu = tmp_path / "qemu"
    qemu.write_text('#!/bin/sh\ntest -p console.log && printf "lo\\033gin: " >>console.log\n')
    qemu.chmod(0o755)
    for _ in range(2):
        assert shell_output(guest, qemu) == b"lo\x1bgin: "
    assert "logfile=/run/vfagent-guest-x/console.log" in " ".join(argv(guest))


def test_a_journal_that_takes_nothing_does_not_stop_the_guest(tmp_path: Path) -> None:
    guest = hostile(tmp_path, '[guest.ipxe]\naddress = "dhcp"\n')
    qemu = tmp_path / "qemu"
    # As QEMU, which drops what it cannot write (qemu_chr_write_log()).
    qemu.write_text(
        f"#!{sys.executable}\nimport contextlib, os\nfd = os.open('console.log', os.O_WRONLY)\n"
        "for _ in range(256):\n    with contextlib.suppress(OSError): os.write(fd, b'x' * 4096)\n"
    )
    qemu.chmod(0o755)
    journal, output = socket.socketpair()
    with journal, output:
        subprocess.run(["/bin/sh", "-c", script(guest, qemu)], stdout=output.fileno(), check=True, timeout=20)
        assert journal.recv(1) == b"x"
    (tmp_path / "console.log").unlink()  # as its unit's end does: the reader ends


def test_no_helper_of_a_guest_has_its_taps_open(tmp_path: Path) -> None:
    guest = hostile(tmp_path, '[guest.ipxe]\naddress = "dhcp"\n[[guest.nic]]\nbridge = "br0"\n')
    qemu = tmp_path / "qemu"
    qemu.write_text("""#!/bin/sh
exec 5>console.log
for process in /proc/[0-9]*; do
    test "$(readlink $process/cwd)" = "$PWD" && readlink $process/fd/3 && echo ${process#/proc/} >>open
done
test "$(cat open)" = $$
""")
    qemu.chmod(0o755)
    with open(tmp_path / "tap", "wb") as tap:
        subprocess.run(["/bin/sh", "-c", script(guest, qemu)], stdin=tap, check=True, timeout=20)
    (tmp_path / "console.log").unlink()  # as its unit's end does: the reader ends


def test_a_unit_has_nothing_of_a_command_line_for_systemd_to_change(tmp_path: Path) -> None:
    guest = hostile(tmp_path, f"[guest.kernel]\nimage = '/k'\ncmdline = '{HOSTILE}'\n")
    path = "/run/credentials/vfagent-guest-x.service/command"
    assert value(unit(guest), "ExecStart") == [("/bin/sh", ["/bin/sh", path], False)]
    assert HOSTILE not in repr(unit(guest))


def test_a_guest_may_open_its_own_vfio_group_and_has_no_network(tmp_path: Path) -> None:
    spec = unit(hostile(tmp_path, '[guest.ipxe]\naddress = "dhcp"\n'))
    assert value(spec, "DeviceAllow") == [("/dev/vfio/vfio", "rw"), ("/dev/vfio/10", "rw"), ("/dev/kvm", "rw")]
    assert value(spec, "DevicePolicy") == "closed"
    assert value(spec, "CapabilityBoundingSet") == 0
    assert value(spec, "PrivateNetwork") is True


def test_a_guest_may_open_its_own_block_device_only(tmp_path: Path) -> None:
    spec = unit(hostile(tmp_path, '[[guest.disk]]\npath = "/dev/vg/x"\n'))
    assert ("/dev/vg/x", "rw") in value(spec, "DeviceAllow")
    assert value(spec, "SupplementaryGroups") == ["kvm", "disk"]


def test_a_shared_disk_is_neither_locked_nor_cached(tmp_path: Path) -> None:
    words = argv(hostile(tmp_path, '[[guest.disk]]\npath = "/dev/vg/x"\nshared = true\n'))
    disk = json.loads(words[words.index("-blockdev") + 1])
    assert disk["cache"] == {"direct": True}
    assert any('"share-rw":true' in word for word in words)
    own = argv(hostile(tmp_path, '[[guest.disk]]\npath = "/dev/vg/x"\n'))
    assert not any("share-rw" in word for word in own)
    assert "cache" not in own[own.index("-blockdev") + 1]


def seen(spec: UnitSpec, name: str) -> set[str]:
    return {path for path, inside, optional, _ in value(spec, name) if path == inside and optional}


def test_a_guest_sees_its_own_files_and_nothing_else_of_the_host(tmp_path: Path) -> None:
    disks = """
[[guest.disk]]
path = "/srv/own"
format = "qcow2"
backing = ["/srv/base"]
[[guest.disk]]
path = "/srv/tools"
readonly = true
[[guest.disk]]
path = "/dev/vg/x"
"""
    spec = unit(replace(hostile(tmp_path, disks), python=("/opt/vfagent",)))
    assert value(spec, "RootDirectory") == "/run/vfagent/guest-roots/x"
    assert seen(spec, "BindPaths") == {"/srv/own", "/dev/vg/x", "/dev/vfio/vfio", "/dev/vfio/10", "/dev/kvm"}
    system = {"/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/opt/vfagent"}
    assert seen(spec, "BindReadOnlyPaths") == {*system, "/srv/base", "/srv/tools"}
    assert value(spec, "PrivateDevices") is True


def test_a_disk_by_its_path_needs_all_of_dev(tmp_path: Path) -> None:
    """A `:` in BindPaths= does not survive a daemon-reload."""
    path = "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0"
    spec = unit(hostile(tmp_path, f"[[guest.disk]]\npath = '{path}'\n"))
    assert value(spec, "PrivateDevices") is False
    assert path not in seen(spec, "BindPaths")
    assert (path, "rw") in value(spec, "DeviceAllow")


def test_a_guest_sees_what_it_boots_from(tmp_path: Path) -> None:
    kernel = hostile(tmp_path, "[guest.kernel]\nimage = '/boot/k'\ninitrd = '/boot/i'\n")
    assert {"/boot/k", "/boot/i"} <= seen(unit(kernel), "BindReadOnlyPaths")
    ipxe = hostile(tmp_path, 'firmware = "uefi"\n[guest.ipxe]\naddress = "dhcp"\n')
    assert {"/usr/lib/ipxe/ipxe.efi", "/usr/share/OVMF/OVMF_CODE_4M.fd"} <= seen(unit(ipxe), "BindReadOnlyPaths")


def test_a_guest_has_its_memory_and_a_margin(tmp_path: Path) -> None:
    """What VFIO pins counts; huge pages do not."""
    boot = '[guest.ipxe]\naddress = "dhcp"\n'
    plain, huge = (hostile(tmp_path, f'memory = "8G"\nhugepages = {huge}\n{boot}') for huge in ("false", "true"))
    assert value(unit(plain), "MemoryMax") == (8192 + 1024 + 1024 + 64) << 20
    assert value(unit(huge), "MemoryMax") == (1024 + 1024 + 64) << 20
    assert value(unit(replace(plain, kvm=False)), "MemoryMax") == (8192 + 2048 + 1024 + 64) << 20


@pytest.mark.parametrize("text", ['MemoryMax = "50%"', 'MemoryHigh = "9G"', 'MemoryMax = "infinity"'])
def test_a_limit_of_the_rule_replaces_the_memory_limit(tmp_path: Path, text: str) -> None:
    spec = unit(hostile(tmp_path, f'[guest.ipxe]\naddress = "dhcp"\n[guest.unit]\n{text}\n'))
    assert len([item for item in spec.properties if item.name.startswith("Memory")]) == 1


def test_the_users_own_files_are_systemd_credentials(tmp_path: Path) -> None:
    guest = replace(hostile(tmp_path, '[guest.ipxe]\nscript = "/etc/s.ipxe"\n'), credentials=(("boot.ipxe", "/copy"),))
    assert value(unit(guest), "LoadCredential") == [("boot.ipxe", "/copy")]
    assert not [item for item in unit(guest).properties if item.name == "SetCredential"]
    table = '[guest.ipxe]\naddress = "dhcp"\nloader = "rom"\nrom = "/usr/r.rom"\n'
    rom = replace(hostile(tmp_path, table), rom="/checked.rom")
    assert value(unit(rom), "LoadCredential") == [("vf.rom", "/checked.rom")]
    assert any('"romfile":"/run/credentials/vfagent-guest-x.service/vf.rom"' in word for word in argv(rom))


@pytest.mark.parametrize("way", ['[guest.ipxe]\naddress = "dhcp"\n', '[guest.kernel]\nimage = "/k"\n'])
def test_a_chap_secret_reaches_the_guest_only_through_a_file(tmp_path: Path, way: str) -> None:
    table = f'{way}[guest.chap]\nuser = "me"\nsecret = "/etc/vfagent/secret"\n'
    guest = replace(hostile(tmp_path, table), credentials=(("chap-secret", "/copy"),))
    assert ("chap-secret", "/copy") in value(unit(guest), "LoadCredential")
    words = [word for word in argv(guest) if "chap-secret" in word]
    assert len(words) == 1
    assert words[0].endswith("=/run/credentials/vfagent-guest-x.service/chap-secret")


@pytest.mark.parametrize(
    ("vnc", "network", "words"),
    [
        ("", False, ["-display", "none"]),
        ('vnc = "unix"\n', False, ["-vnc", "unix:/run/vfagent-guest-x/vnc"]),
        ('vnc = "127.0.0.1:3"\n', True, ["-vnc", "127.0.0.1:3"]),
        (
            'vnc_remote = "[2001:db8::1]:3"\nvnc_password = "/p"\n',
            True,
            ["-vnc", "[2001:db8::1]:3,password-secret=vnc-password"],
        ),
        (
            'vnc = "unix"\nvnc_password = "/p"\n',
            False,
            ["-vnc", "unix:/run/vfagent-guest-x/vnc,password-secret=vnc-password"],
        ),
    ],
)
def test_only_a_screen_with_an_address_has_the_hosts_network(
    tmp_path: Path,
    vnc: str,
    network: bool,  # noqa: FBT001
    words: list[str],
) -> None:
    guest = hostile(tmp_path, f'{vnc}[guest.ipxe]\naddress = "dhcp"\n')
    spec, line = unit(guest), argv(guest)
    assert value(spec, "PrivateNetwork") is not network
    assert ("AF_INET" in value(spec, "RestrictAddressFamilies")[1]) is network
    at = line.index(words[0])
    assert line[at : at + 2] == words


def test_a_vnc_password_reaches_qemu_only_through_a_file(tmp_path: Path) -> None:
    table = 'vnc = "unix"\nvnc_password = "/etc/p"\n[guest.ipxe]\naddress = "dhcp"\n'
    guest = replace(hostile(tmp_path, table), credentials=(("vnc-password", "/copy"),))
    assert value(unit(guest), "LoadCredential") == [("vnc-password", "/copy")]
    line = argv(guest)
    [secret] = [json.loads(word) for word in line if '"secret"' in word]
    file = "/run/credentials/vfagent-guest-x.service/vnc-password"
    assert secret == {"qom-type": "secret", "id": "vnc-password", "file": file}
    assert not [word for word in line if "/etc/p" in word]


def test_with_uefi_the_script_is_ipxes_command_line(tmp_path: Path) -> None:
    guest = hostile(tmp_path, 'firmware = "uefi"\n[guest.ipxe]\naddress = "dhcp"\n')
    words = argv(guest)
    assert words[words.index("-kernel") + 1] == "/usr/lib/ipxe/ipxe.efi"
    assert words[words.index("-append") + 1] == f"ipxe {guest.boot.script}"
    assert "-initrd" not in words, "QEMU refuses one with an EFI program"


def test_the_stop_helper_ends_before_systemds_timeout(tmp_path: Path) -> None:
    spec = unit(hostile(tmp_path, '[guest.ipxe]\naddress = "dhcp"\n[guest.unit]\nTimeoutStopSec = "10s"\n'))
    [(_, words, _)] = value(spec, "ExecStop")
    assert (value(spec, "TimeoutStopUSec"), words[-1]) == (10_000_000, "8")


def test_the_rules_unit_properties_override_the_defaults(tmp_path: Path) -> None:
    spec = unit(hostile(tmp_path, '[guest.ipxe]\naddress = "dhcp"\n[guest.unit]\nDescription = "mine"\n'))
    assert [item.value for item in spec.properties if item.name == "Description"] == ["mine"]


def test_what_the_rule_adds_comes_to_the_dependencies_of_every_guest(tmp_path: Path) -> None:
    own = '[[guest.disk]]\npath = "/srv/a"\n[guest.unit]\nAfter = "zfs.target b.service"\nRequiresMountsFor = "/mnt"\n'
    spec = unit(hostile(tmp_path, own + 'RestartSec = "1min"\nStartLimitBurst = 0\nLimitNOFILE = 65536\n'))
    assert value(spec, "After") == ["0000:01:10.0.device", "dev-vfio-10.device", "zfs.target", "b.service"]
    assert value(spec, "RequiresMountsFor") == ["/srv/a", "/mnt"]
    assert (value(spec, "RestartUSec"), value(spec, "StartLimitBurst")) == (60_000_000, 0)
    assert sum(item.name == "After" for item in spec.properties) == 1


def test_a_tpm_is_a_unit_of_its_own_that_comes_first(tmp_path: Path) -> None:
    boot = '[guest.ipxe]\naddress = "dhcp"\n'
    guest = hostile(tmp_path, f"tpm = true\n{boot}")
    words = argv(guest)
    begin = words.index("socket,id=tpm,path=/run/vfagent/tpm/x/socket") - 1
    assert words[begin : begin + 6] == [
        *("-chardev", "socket,id=tpm,path=/run/vfagent/tpm/x/socket", "-tpmdev", "emulator,id=tpm0,chardev=tpm"),
        *("-device", '{"driver":"tpm-crb","tpmdev":"tpm0"}'),
    ]
    spec = unit(guest)
    assert value(spec, "Requires") == ["vfagent-tpm@x.service"]
    assert "vfagent-tpm@x.service" in value(spec, "After")
    assert "/run/vfagent/tpm/x" in seen(spec, "BindPaths")
    plain = hostile(tmp_path, boot)
    assert not [word for word in argv(plain) if "tpm" in word]
    assert "vfagent-tpm" not in repr(unit(plain))


def test_a_tpm_needs_swtpm(tmp_path: Path) -> None:
    guest = hostile(tmp_path, 'tpm = true\n[guest.ipxe]\naddress = "dhcp"\n')
    installed = {QEMU, "/usr/lib/ipxe/ipxe.lkrn"}
    absent = unfit_file(guest.rule, guest.boot, lambda path: FileFacts("file") if path in installed else None)
    assert absent == ("/usr/bin/swtpm (its TPM) does not exist", "install swtpm")


def test_huge_pages_have_the_size_that_the_rule_says(tmp_path: Path) -> None:
    sizes = {}
    for text in ('"1G"', '"2M"', "true"):
        words = argv(hostile(tmp_path, f'memory = "2G"\nhugepages = {text}\nipxe.address = "dhcp"\n'))
        sizes[text] = next(json.loads(word).get("hugetlbsize") for word in words if '"hugetlb":true' in word)
    assert sizes == {'"1G"': 1 << 30, '"2M"': 2 << 20, "true": None}


def test_the_uuid_differs_by_host_and_by_guest() -> None:
    uuids = {guest_uuid(name, machine_id) for name in ("x", "y") for machine_id in ("0123", "4567")}
    assert len(uuids) == 4
    assert guest_uuid("x", "0123") in uuids


def test_a_changed_rule_has_another_digest(tmp_path: Path) -> None:
    first, second = (hostile(tmp_path, f'cpus = {cpus}\n[guest.ipxe]\naddress = "dhcp"\n') for cpus in (1, 2))
    assert rule_digest(first.rule) == rule_digest(replace(first.rule))
    assert rule_digest(first.rule) != rule_digest(second.rule)


def test_keys_that_a_later_version_adds_keep_the_digest(tmp_path: Path) -> None:
    @frozen(slots=True, kw_only=True)
    class LaterRule(GuestRule):
        more: str | None = None

    rule = hostile(tmp_path, '[guest.ipxe]\naddress = "dhcp"\n').rule
    later = LaterRule(**{field.name: getattr(rule, field.name) for field in fields(rule)})
    assert rule_digest(later) == rule_digest(rule)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("AllowedCPUs", "0-2,9", Property("AllowedCPUs", "ay", b"\x07\x02")),
        ("CPUQuota", "200%", Property("CPUQuotaPerSecUSec", "t", 2_000_000)),
        ("MemoryMax", "2G", Property("MemoryMax", "t", 2 << 30)),
        ("MemoryMax", "50%", Property("MemoryMaxScale", "u", ((1 << 32) - 1) // 2)),
        ("MemoryHigh", "infinity", Property("MemoryHigh", "t", (1 << 64) - 1)),
        ("NUMAPolicy", "bind", Property("NUMAPolicy", "i", 2)),
        ("Nice", -5, Property("Nice", "i", -5)),
        ("TasksMax", "infinity", Property("TasksMax", "t", (1 << 64) - 1)),
        ("TimeoutStopSec", "5min", Property("TimeoutStopUSec", "t", 300_000_000)),
        ("TimeoutStopSec", "infinity", Property("TimeoutStopUSec", "t", (1 << 64) - 1)),
        ("CPUWeight", 50, Property("CPUWeight", "t", 50)),
    ],
)
def test_properties_have_the_types_of_systemds_bus_interface(name: str, text: str | int, expected: Property) -> None:
    assert list(translated(((name, text),))) == [expected]


def test_no_namespaces_is_not_sent_as_nothing(tmp_path: Path) -> None:
    """systemd writes 0 to the unit's file as `RestrictNamespaces=`, and reads that as no restriction."""
    assert value(unit(hostile(tmp_path, '[guest.ipxe]\naddress = "dhcp"\n')), "RestrictNamespaces") != 0
