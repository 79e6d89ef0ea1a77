# SPDX-License-Identifier: Apache-2.0
"""A guest as a transient systemd unit, property by property. Pure."""

import errno
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass

from vfagent.guests.spec.boot import Loader
from vfagent.guests.spec.numa import numa_properties
from vfagent.guests.spec.qemu import COMMAND, ROM, SHELL, Guest
from vfagent.guests.spec.unit_values import ADDED, seconds, translated
from vfagent.guests.spec.untrusted import UNTRUSTED_OUTPUT
from vfagent.guests.spec.view import devices, read_or_written, view
from vfagent.guests.spec.vnc import needs_network
from vfagent.model.guest_unit import ENV_RULE, ENV_VFS, Property, UnitSpec, escape_path
from vfagent.policy.types import GuestRule

VF_KNOWN = "vfagent-vf"  # systemd/vfagent-vf@.target
ORDER = "vfagent-guest"  # systemd/vfagent-guest@.target
STOP_S = 60.0  # for the guest to power down, where its rule does not set TimeoutStopSec
_MARGIN_S = 2.0  # the helper ends before systemd's timeout, which would kill it and QEMU
_RESTART_S = 2
_CRASHES, _WITHIN_S = 5, 600  # more is a crash loop
_STOP_HELPER = "/usr/libexec/vfagent/stop-guest"  # packaging/stop-guest; a package upgrade keeps it for guests that run
_ASK_HELPER = "/usr/libexec/vfagent/ask-guest"
_ALL = (1 << 64) - 1
_FILES = 1 << 16
_CLONE_NEWUTS = 0x04000000  # linux/sched.h
# What makes block devices, on Debian and Fedora. A unit that does not exist orders nothing.
_STORAGE = (
    *("blk-availability.service", "drbd.service", "iscsi.service", "iscsid.service", "mdmonitor.service"),
    *("multipathd.service", "open-iscsi.service", "zfs-import.target", "zfs-volumes.target"),
)


def rule_digest(rule: GuestRule) -> str:
    """Differs when the rule changes. Keys that are not set do not count: a later version may have more of them."""
    return hashlib.sha256(repr(_set_keys(rule)).encode()).hexdigest()[:16]


def _set_keys(value: object) -> object:
    if isinstance(value, tuple):
        return [_set_keys(item) for item in value]
    if not is_dataclass(value):
        return value
    values = ((field, getattr(value, field.name)) for field in fields(value))
    return {field.name: _set_keys(item) for field, item in values if item != field.default}


def unit_of(guest: Guest, vf_units: tuple[str, ...]) -> UnitSpec:
    """`vf_units`: the device units of its VFs, for BindsTo=. The rule's properties override vfagent's."""
    own = tuple(translated(guest.rule.unit))
    names = {item.name for item in own} - ADDED
    items = (*(item for item in _properties(guest, vf_units) if item.name not in names), *own)
    return UnitSpec(guest.unit, tuple(_added_up(items)))


def _added_up(items: Iterable[Property]) -> Iterator[Property]:
    """The lists of dependencies as one each, where the first of them stands."""
    lists: dict[str, list[str]] = {name: [] for name in ADDED}
    whole = tuple(items)
    for item in whole:
        if item.name in lists and isinstance(item.value, list):
            lists[item.name] += item.value
    for item in whole:
        if item.name not in ADDED:
            yield item
        elif words := lists.pop(item.name, None):
            yield Property(item.name, item.signature, list(dict.fromkeys(words)))


def _properties(guest: Guest, vf_units: tuple[str, ...]) -> Iterator[Property]:
    where = [*map(str, guest.vfs), *(f"bridge {nic.tap.bridge}" for nic in guest.nics)]
    yield Property("Description", "s", f"Guest {guest.rule.name} on {', '.join(where)}")
    yield from _lifetime(guest, vf_units)
    yield from _devices(guest)
    yield from _sandbox(guest)
    yield from view(guest)
    yield from _files(guest)
    yield from _memory(guest)
    yield from numa_properties(guest.rule, guest.nodes)


def _lifetime(guest: Guest, vf_units: tuple[str, ...]) -> Iterator[Property]:
    stop_s = next((seconds(value) for name, value in guest.rule.unit if name == "TimeoutStopSec"), STOP_S)
    # The helper ends by itself, also with TimeoutStopSec=infinity.
    wait_s = max(1, int(min(stop_s, 10 * 86400) - _MARGIN_S))
    helper = [_STOP_HELPER, guest.qmp, str(wait_s)]
    yield Property("Type", "s", "exec")
    yield Property("Slice", "s", "machine.slice")
    yield Property("IOAccounting", "b", value=True)  # io.stat, for the metrics
    # Not QEMU's own words: a daemon-reload reads the unit's file, where systemd 252 writes `;` and `${x}`, and 257 `$`,
    # as something else than it reads. The next start, after a crash, would then be another command.
    yield Property("ExecStart", "a(sasb)", [(SHELL, [SHELL, guest.credential(COMMAND)], False)])
    # It may fail, as the package may have been removed meanwhile. Then systemd's SIGTERM ends QEMU.
    yield Property("ExecStop", "a(sasb)", [(_STOP_HELPER, helper, True)])
    # A reload changes nothing: it asks QEMU for its state. The exit status is the answer, so none of them fails.
    yield Property("ExecReload", "a(sasb)", [(_ASK_HELPER, [_ASK_HELPER, guest.qmp], True)])
    yield Property("KillMode", "s", "mixed")
    yield Property("TimeoutStopUSec", "t", int(STOP_S * 1e6))
    # The unit is bound to its VFs, not to the service. Nor is it ordered after the service, which is ready only when
    # all PFs are, not just this guest's.
    yield from _beside_udev(vf_units) if guest.beside_udev else _after_udev(guest, vf_units)
    yield from _beside_files(guest)
    if guest.rule.tpm:
        yield Property("Requires", "as", [guest.tpm_unit])
        yield Property("After", "as", [guest.tpm_unit])
    own = _order_target(guest.rule.name)
    yield Property("Wants", "as", [own])
    yield Property("Before", "as", [own])
    # systemd restarts it, as the policy says, so that it also restarts while the agent is not running.
    yield Property("Restart", "s", guest.rule.restart)
    yield Property("RestartUSec", "t", _RESTART_S * 1_000_000)
    yield Property("StartLimitIntervalUSec", "t", _WITHIN_S * 1_000_000)
    yield Property("StartLimitBurst", "u", _CRASHES)
    # A failed unit is kept until the agent has read its result.
    yield Property("CollectMode", "s", "inactive")
    vfs = ",".join(vf.address for vf in guest.vfs)
    yield Property("Environment", "as", [f"{ENV_VFS}={vfs}", f"{ENV_RULE}={guest.digest or rule_digest(guest.rule)}"])


def _beside_files(guest: Guest) -> Iterator[Property]:
    """Its files and devices are there when it starts; at a shutdown the guest ends before they go."""
    paths = [path for path in read_or_written(guest) if not path.startswith(("/dev/", "/run/vfagent/", "/usr/"))]
    if paths:
        yield Property("RequiresMountsFor", "as", paths)
    devices = [path for disk in guest.rule.disk if (path := disk.path) and disk.is_device]
    after = [f"{escape_path(path)}.device" for path in dict.fromkeys(devices)] + (list(_STORAGE) if devices else [])
    after += [_order_target(name) for name in guest.rule.after]
    if after:
        yield Property("After", "as", after)


def _order_target(guest: str) -> str:
    """What stands for the guest in the order of others (systemd/vfagent-guest@.target).

    systemd keeps a unit that another one names, and refuses to make a transient unit of its name again
    (unit_is_pristine() in systemd's src/core/unit.c).
    """
    return f"{ORDER}@{guest}.target"


def _after_udev(guest: Guest, vf_units: tuple[str, ...]) -> Iterator[Property]:
    """Until udev has handled the group's node, kvm may not open it. Wants=, because a guest that starts late (where
    the udev rule is missing) is better than none.
    """
    groups = list(dict.fromkeys(f"dev-vfio-{vf.iommu_group}.device" for vf in guest.vfs if vf.iommu_group is not None))
    yield Property("BindsTo", "as", list(vf_units))
    yield Property("Wants", "as", groups)
    yield Property("After", "as", [*vf_units, *groups])


def _beside_udev(vf_units: tuple[str, ...]) -> Iterator[Property]:
    """At a boot udev handles VFs after all devices with earlier uevents: that takes seconds, on a large host more.

    A device unit that udev has not handled counts as inactive, unless a job waits for it that another job waits for
    (unit_is_bound_by_inactive(), job_may_gc() in systemd's src/core): jobs of targets do. If udev never handles it,
    these jobs fail, and the guest, which is not bound to the targets, keeps running.
    """
    targets = [f"{VF_KNOWN}@{unit.removesuffix('.device')}.target" for unit in vf_units]
    yield Property("Wants", "as", targets)
    yield Property("StopPropagatedFrom", "as", targets)


def _devices(guest: Guest) -> Iterator[Property]:
    allowed = [(path, "rw") for path in dict.fromkeys(devices(guest))]
    block = [(disk.path, "r" if disk.readonly else "rw") for disk in guest.rule.disk if disk.is_device]
    yield Property("DevicePolicy", "s", "closed")
    yield Property("DeviceAllow", "a(ss)", [*allowed, *block])
    yield Property("DynamicUser", "b", value=True)
    # Group disk may open every disk; DeviceAllow restricts it to the guest's own.
    yield Property("SupplementaryGroups", "as", ["kvm", "disk"] if block else ["kvm"])
    yield Property("LimitMEMLOCK", "t", _ALL)  # VFIO pins all of the guest's memory
    # systemd's 1,024 are few: QEMU has an eventfd or two for each interrupt vector of a VF, and a VF may have hundreds.
    yield Property("LimitNOFILE", "t", _FILES)


def _sandbox(guest: Guest) -> Iterator[Property]:
    yield Property("CapabilityBoundingSet", "t", 0)
    yield Property("AmbientCapabilities", "t", 0)
    yield Property("NoNewPrivileges", "b", value=True)
    yield Property("ProtectSystem", "s", "strict")
    yield Property("ProtectHome", "s", "yes")
    yield Property("ProtectProc", "s", "invisible")
    for name in ("Clock", "ControlGroups", "Hostname", "KernelLogs", "KernelModules", "KernelTunables"):
        yield Property(f"Protect{name}", "b", value=True)
    yield Property("ProcSubset", "s", "pid")
    for name in ("LockPersonality", "PrivateIPC", "PrivateTmp", "RestrictRealtime", "RestrictSUIDSGID"):
        yield Property(name, "b", value=True)
    # Not 0, none at all: systemd writes that to the unit's file as nothing, which is read as no restriction. To make a
    # UTS namespace takes CAP_SYS_ADMIN.
    yield Property("RestrictNamespaces", "t", _CLONE_NEWUTS)
    yield Property("SystemCallArchitectures", "as", ["native"])
    yield Property("SystemCallFilter", "(bas)", (True, ["@system-service", "seccomp"]))
    yield Property("SystemCallFilter", "(bas)", (False, ["@privileged", "@resources"]))
    # Without seccomp(), which 252's @system-service does not have, QEMU has no -sandbox. Not a signal: QEMU and its
    # libraries try what they can do without.
    yield Property("SystemCallErrorNumber", "i", errno.EPERM)
    network = needs_network(guest.rule)
    yield Property("PrivateNetwork", "b", value=not network)
    families = ["AF_UNIX", "AF_INET", "AF_INET6"] if network else ["AF_UNIX"]
    yield Property("RestrictAddressFamilies", "(bas)", (True, families))
    yield Property("UMask", "u", 0o077)


def _files(guest: Guest) -> Iterator[Property]:
    """Files that must not change while the guest reads them are credentials: copies, made by systemd."""
    yield Property("RuntimeDirectory", "as", [guest.unit.removesuffix(".service")])
    yield Property("RuntimeDirectoryMode", "u", 0o700)
    yield Property("StandardInput", "s", "null")
    yield Property("StandardOutput", "s", "journal")
    yield Property("SyslogIdentifier", "s", guest.rule.name)
    yield from UNTRUSTED_OUTPUT
    loaded = [*guest.credentials, *([(ROM, guest.rom)] if guest.boot.loader is Loader.ROM else [])]
    if loaded:
        yield Property("LoadCredential", "a(ss)", loaded)


def _memory(guest: Guest) -> Iterator[Property]:
    """What VFIO pins counts as the unit's memory, so the limit must be above all of the guest's, which is pinned.

    Huge pages do not count. The rest is QEMU itself, page tables (1/512 each for KVM and the IOMMU), the translations
    of an emulated guest (1 GiB at most), and for each disk qcow2's cache and the requests under way.
    """
    if {"MemoryMax", "MemoryHigh"} & {name for name, _ in guest.rule.unit}:
        return
    memory = 0 if guest.rule.hugepages else guest.rule.memory_mib
    margin = 1024 + guest.rule.memory_mib // 8 + 64 * (len(guest.rule.disk) + len(guest.vfs))
    yield Property("MemoryMax", "t", (memory + margin + (0 if guest.kvm else 1024)) << 20)
