# SPDX-License-Identifier: Apache-2.0
"""Reads the facts of a host, and changes nothing. Calls that may hang run in workers."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vfagent import __version__
from vfagent.doctor.checks.facts import Card, Facts, Kvm, PfFacts, Programs, Service
from vfagent.doctor.checks.finding import NotChecked
from vfagent.doctor.checks.guests import wanted_guests
from vfagent.doctor.kernel_log import kernel_log
from vfagent.doctor.other_managers import other_managers
from vfagent.doctor.pci_config import sriov_capability
from vfagent.doctor.platform import listening_ports, own_addresses, read_iommu, read_kernel, read_kvm, read_memory
from vfagent.doctor.worker_calls import NoResult, call, call_all
from vfagent.errors import PolicyError
from vfagent.guests.board import descriptors
from vfagent.guests.ipxe_images import images_for
from vfagent.guests.spec.boot import ASSUMED
from vfagent.guests.spec.files import files_of
from vfagent.guests.spec.kvm_probe import PROBE_S
from vfagent.guests.spec.qemu import QEMU
from vfagent.guests.spec.rom import RomImage, rom_images
from vfagent.guests.worker_calls import Outcome, probe
from vfagent.kernel.protocols import Host
from vfagent.model.codec import decode
from vfagent.model.pci import PciAddress, is_pci_address
from vfagent.model.status import Phase, Status
from vfagent.policy.match import HostIdentity
from vfagent.policy.types import Policy
from vfagent.reconcile.observe import DEVICES, group_blockers, observe_card, observe_function, pf_addresses
from vfagent.reconcile.rounds import Task, observe_and_plan
from vfagent.store.host_files import HostFiles
from vfagent.store.identity import open_host, read_identity
from vfagent.store.policy_files import load
from vfagent.store.policy_trust import untrusted_files
from vfagent.store.state import State
from vfagent.systemd.units import Systemd, UnitState

_TIMEOUT_S = 10.0
_KVM_S = PROBE_S + 30.0
_STATUS_LIMIT = 1 << 26
_NIC = "0x02"
_IPXE = "iPXE's images"


def gather_facts(root: Path = Path("/")) -> Facts:
    files, host, identity, live = HostFiles(root), open_host(root), read_identity(root), root == Path("/")
    policy, problems, not_checked = _policy(root)
    pfs = pf_addresses(host)
    calls: dict[str, Callable[[], Any]] = {"kernel log": lambda: kernel_log(root)}
    calls[_IPXE] = partial(images_for, policy.guest if policy else (), root)
    if live:
        calls |= {"vfagent.service": _unit_state, QEMU: _qemu_version}
    calls |= {address: partial(_pf_facts, host, address, policy or Policy(), identity, root) for address in pfs}
    calls |= {address: partial(_card, host, address, files) for address in _nics_without_sriov(host)}
    results = call_all(calls, _TIMEOUT_S)
    kernel = read_kernel(files, _or(results["kernel log"], ()))
    facts = Facts(
        policy=policy,
        policy_problems=problems,
        untrusted=_untrusted(policy, root) if policy else (),
        identity=identity,
        version=__version__,
        service=_service(files, _or(results.get("vfagent.service"), None)),
        kernel=kernel,
        iommu=read_iommu(files, kernel.cpu),
        kvm=read_kvm(files, root),
        memory=read_memory(files),
        programs=Programs(qemu=_or(results.get(QEMU), None), images={**ASSUMED, **_or(results[_IPXE], {})}),
        pfs=tuple(result for result in results.values() if isinstance(result, PfFacts)),
        cards=tuple(result for result in results.values() if isinstance(result, Card)),
        stuck=tuple(address for address in pfs if _timed_out(results[address])),
        others=tuple(other_managers(files)),
    )
    facts = replace(facts, programs=_programs(facts, files))
    if live and _may_probe_kvm(facts):
        facts = replace(facts, kvm=_probe_kvm(facts.kvm))
    not_checked += tuple(
        NotChecked(name, result.reason) for name, result in results.items() if isinstance(result, NoResult)
    )
    not_checked += tuple(NotChecked(path, "only root may read it") for path in sorted(files.denied))
    if not live:
        not_checked += (NotChecked("service, QEMU's version, permissions", f"{root} is a copy of a host's files"),)
    return replace(facts, not_checked=not_checked)


def _or(result: Any, default: Any) -> Any:
    return default if isinstance(result, NoResult) else result


def _timed_out(result: object) -> bool:
    return isinstance(result, NoResult) and result.timed_out


def _policy(root: Path) -> tuple[Policy | None, tuple[str, ...], tuple[NotChecked, ...]]:
    try:
        return load(root), (), ()
    except PolicyError as error:
        denied = [problem for problem in error.problems if "EACCES" in problem]
        if denied and os.geteuid() != 0:
            return None, (), tuple(NotChecked("policy", problem) for problem in denied)
        return None, error.problems, ()


def _untrusted(policy: Policy, root: Path) -> tuple[tuple[str, str], ...]:
    return tuple((file.path, f"{file.purpose}: {file.why}") for file in untrusted_files(policy, root))


def _pf_facts(host: Host, address: PciAddress, policy: Policy, identity: HostIdentity, root: Path) -> PfFacts | None:
    state = State(root)
    driver_state = state.driver_state(address)
    task = Task(address, policy, identity, driver_state, dry=True, grace_over=True)
    observed = observe_and_plan(task, host, state, driver_state)
    if observed.pf is None:
        return None
    base = f"{DEVICES}/{address}"
    blockers = group_blockers(host, base, address)
    ari, card = host.sysfs.read(f"{base}/ari_enabled"), observe_card(host, address)
    return PfFacts(
        pf=observed.pf,
        desired=observed.desired,
        plan=observed.plan,
        companions=tuple(blocker for blocker in blockers if observe_card(host, blocker) != card),
        ari=None if ari is None else ari == "1",
        vf_device=host.sysfs.read(f"{base}/sriov_vf_device"),
    )


def _nics_without_sriov(host: Host) -> list[PciAddress]:
    """NICs that are neither PF nor VF."""
    addresses = [PciAddress(name) for name in host.sysfs.names(DEVICES) if is_pci_address(name)]
    nics = [address for address in addresses if (host.sysfs.read(f"{DEVICES}/{address}/class") or "").startswith(_NIC)]
    sriov = ("sriov_totalvfs", "physfn")
    return [nic for nic in nics if not any(host.sysfs.exists(f"{DEVICES}/{nic}/{name}") for name in sriov)]


def cards_without_sriov(host: Host, files: HostFiles) -> list[Card]:
    """For `plan`, which asks them only where a rule applies to nothing."""
    return [_card(host, address, files) for address in _nics_without_sriov(host)]


def _card(host: Host, address: PciAddress, files: HostFiles) -> Card:
    offered, readable = sriov_capability(files, address)
    return Card(observe_function(host, address, 0), offered, readable)


def _unit_state() -> UnitState:
    with Systemd() as systemd:
        return systemd.state("vfagent.service")


def _qemu_version() -> tuple[int, ...] | None:
    """None if QEMU is missing or prints no version."""
    try:
        done = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"version (\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else None


def _service(files: HostFiles, state: UnitState | None) -> Service:
    status = _status(files)
    runs = status is not None and (state is None or state.active in ("active", "activating", "reloading"))
    running = status if runs else None
    return Service(
        unit=state.loaded if state else _is_installed(files, "systemd/system/vfagent.service"),
        udev_rules=_is_installed(files, "udev/rules.d/70-vfagent.rules"),
        hwdb=any(files.exists(f"{base}/udev/hwdb.bin") for base in ("etc", "usr/lib", "lib")),
        active=state.active if state else None,
        result=state.result if state else None,
        enabled=state.enabled if state else None,
        version=running.version if running else None,
        digest=running.policy.digest if running else None,
        failures=tuple(_failures(running)) if running else (),
    )


def _is_installed(files: HostFiles, path: str) -> bool:
    return any(files.exists(f"{base}/{path}") for base in ("etc", "run", "usr/local/lib", "usr/lib", "lib"))


def _status(files: HostFiles) -> Status | None:
    text = files.read_bytes("run/vfagent/status.json", _STATUS_LIMIT)
    try:
        return decode(Status, json.loads(text)) if text else None
    except (ValueError, RecursionError):
        return None


def _failures(status: Status) -> Iterator[tuple[str, str, str | None]]:
    for pf in status.pfs:
        if pf.phase in (Phase.FAILED, Phase.STUCK):
            name = f"{pf.address} ({pf.interface})" if pf.interface else pf.address
            prefix = f"{pf.address}: "
            yield from ((name, failure.text.removeprefix(prefix), failure.hint) for failure in pf.failures)


def _programs(facts: Facts, files: HostFiles) -> Programs:
    guests = wanted_guests(facts)
    paths = {QEMU} | {path for guest in guests for path, _ in files_of(guest.rule, guest.boot)}
    roms = {guest.rule.ipxe.rom for guest in guests if guest.rule.ipxe and guest.rule.ipxe.rom}
    return replace(
        facts.programs,
        absent=frozenset(path for path in paths if not files.exists(path.lstrip("/"))),
        roms=tuple((path, images) for path in sorted(roms) if (images := _rom(files, path)) is not None),
        listening=listening_ports(files),
        addresses=own_addresses(files),
        firmware=descriptors(files),
    )


def _rom(files: HostFiles, path: str) -> tuple[RomImage, ...] | None:
    content = files.read_bytes(path.lstrip("/"), 1 << 24)
    return None if content is None else rom_images(content)


def _may_probe_kvm(facts: Facts) -> bool:
    """The service probes KVM before its first guest; doctor does so only if the service has not."""
    possible = facts.kvm.device and facts.kvm.permitted and facts.programs.qemu is not None
    return possible and facts.kvm.works is None and facts.wants_guests and os.geteuid() == 0


def _probe_kvm(kvm: Kvm) -> Kvm:
    print("probing whether KVM runs a guest …", file=sys.stderr)
    outcome = call(lambda: probe("SYSTEM"), _KVM_S)
    return replace(kvm, works=outcome.kvm) if isinstance(outcome, Outcome) else kvm
