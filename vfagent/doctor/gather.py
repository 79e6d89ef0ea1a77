# SPDX-License-Identifier: Apache-2.0
"""A host into `Facts`. What may hang is asked in workers; nothing is changed."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vfagent import __version__
from vfagent.doctor.checks.facts import Card, Facts, Kvm, PfFacts, Programs, Service
from vfagent.doctor.checks.finding import Unseen
from vfagent.doctor.checks.guests import wanted_guests
from vfagent.doctor.kernel_log import kernel_log
from vfagent.doctor.other_managers import other_managers
from vfagent.doctor.pci_config import sriov_capability
from vfagent.doctor.platform import listening_ports, own_addresses, read_iommu, read_kernel, read_kvm, read_memory
from vfagent.doctor.worker_calls import NoAnswer, ask, call_all
from vfagent.errors import PolicyError
from vfagent.guests.spec.files import files_of
from vfagent.guests.spec.kvm_probe import PROBE_S
from vfagent.guests.spec.qemu import QEMU
from vfagent.guests.spec.rom import RomImage, rom_images
from vfagent.guests.worker_calls import Outcome, probe
from vfagent.kernel.protocols import Host
from vfagent.model.codec import decode
from vfagent.model.pci import PciAddress, card_of, is_pci_address
from vfagent.model.status import Phase, Status
from vfagent.policy.match import HostIdentity
from vfagent.policy.types import Policy
from vfagent.reconcile.observe import DEVICES, group_blockers, observe_function, pf_addresses
from vfagent.reconcile.rounds import Task, observe_and_plan
from vfagent.store.host_files import HostFiles
from vfagent.store.identity import open_host, read_identity
from vfagent.store.policy_files import load
from vfagent.store.state import State
from vfagent.systemd.units import Systemd, UnitState

_WITHIN_S = 10.0
_KVM_S = PROBE_S + 30.0
_STATUS_MOST = 1 << 26
_NIC = "0x02"


def gather_facts(root: Path = Path("/")) -> Facts:
    files, host, identity, live = HostFiles(root), open_host(root), read_identity(root), root == Path("/")
    policy, problems, unseen = _policy(root)
    pfs = pf_addresses(host)
    questions: dict[str, Callable[[], Any]] = {"kernel log": lambda: kernel_log(root)}
    if live:
        questions |= {"vfagent.service": _ask_systemd, QEMU: _ask_qemu}
    questions |= {address: _pf_question(host, address, policy or Policy(), identity, root) for address in pfs}
    questions |= {address: _card_question(host, address, files) for address in _dark_nics(host)}
    answers = call_all(questions, _WITHIN_S)
    kernel = read_kernel(files, _or(answers["kernel log"], ()))
    facts = Facts(
        policy=policy,
        policy_problems=problems,
        identity=identity,
        version=__version__,
        service=_service(files, _or(answers.get("vfagent.service"), None)),
        kernel=kernel,
        iommu=read_iommu(files, kernel.cpu),
        kvm=read_kvm(files, root),
        memory=read_memory(files),
        programs=Programs(qemu=_or(answers.get(QEMU), None)),
        pfs=tuple(one for one in answers.values() if isinstance(one, PfFacts)),
        cards=tuple(one for one in answers.values() if isinstance(one, Card)),
        stuck=tuple(address for address in pfs if _is_late(answers[address])),
        others=tuple(other_managers(files)),
    )
    facts = replace(facts, programs=_programs(facts, files))
    if live and _may_try_kvm(facts):
        facts = replace(facts, kvm=_try_kvm(facts.kvm))
    return replace(facts, unseen=(*unseen, *_unanswered(answers), *_denied(files), *_of_a_copy(root)))


def _or(answer: Any, otherwise: Any) -> Any:
    return otherwise if isinstance(answer, NoAnswer) else answer


def _is_late(answer: object) -> bool:
    return isinstance(answer, NoAnswer) and answer.late


def _policy(root: Path) -> tuple[Policy | None, tuple[str, ...], tuple[Unseen, ...]]:
    try:
        return load(root), (), ()
    except PolicyError as error:
        denied = [problem for problem in error.problems if "EACCES" in problem]
        if denied and os.geteuid() != 0:
            return None, (), tuple(Unseen("policy", problem) for problem in denied)
        return None, error.problems, ()


def _pf_question(
    host: Host, address: PciAddress, policy: Policy, identity: HostIdentity, root: Path
) -> Callable[[], PfFacts | None]:
    def examine_pf() -> PfFacts | None:
        memory = State(root).driver_state(address)
        looked = observe_and_plan(Task(address, policy, identity, memory, dry=True), host, memory)
        if looked.pf is None:
            return None
        base = f"{DEVICES}/{address}"
        blockers = group_blockers(host, base, address)
        ari = host.sysfs.read(f"{base}/ari_enabled")
        return PfFacts(
            pf=looked.pf,
            desired=looked.desired,
            plan=looked.plan,
            companions=tuple(one for one in blockers if card_of(one) != card_of(address)),
            ari=None if ari is None else ari == "1",
            vf_device=host.sysfs.read(f"{base}/sriov_vf_device"),
        )

    return examine_pf


def _dark_nics(host: Host) -> list[PciAddress]:
    """NICs that are neither PF nor VF."""
    names = [name for name in host.sysfs.names(DEVICES) if is_pci_address(name)]
    return [PciAddress(name) for name in names if _is_dark_nic(host, f"{DEVICES}/{name}")]


def _is_dark_nic(host: Host, base: str) -> bool:
    is_nic = (host.sysfs.read(f"{base}/class") or "").startswith(_NIC)
    return is_nic and not any(host.sysfs.exists(f"{base}/{name}") for name in ("sriov_totalvfs", "physfn"))


def _card_question(host: Host, address: PciAddress, files: HostFiles) -> Callable[[], Card]:
    def examine_card() -> Card:
        offered, seen = sriov_capability(files, address)
        return Card(observe_function(host, address, 0), offered, seen)

    return examine_card


def _ask_systemd() -> UnitState:
    with Systemd() as systemd:
        return systemd.state("vfagent.service")


def _ask_qemu() -> tuple[int, ...] | None:
    """None where it is not there, or does not say."""
    try:
        done = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=False, timeout=_WITHIN_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"version (\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else None


def _service(files: HostFiles, state: UnitState | None) -> Service:
    status = _status(files)
    runs = status is not None and (state is None or state.active in ("active", "activating", "reloading"))
    known = status if runs else None
    return Service(
        unit=state.loaded if state else _any(files, "systemd/system/vfagent.service"),
        udev_rules=_any(files, "udev/rules.d/70-vfagent.rules"),
        hwdb=any(files.exists(f"{base}/udev/hwdb.bin") for base in ("etc", "usr/lib", "lib")),
        active=state.active if state else None,
        result=state.result if state else None,
        enabled=state.enabled if state else None,
        version=known.version if known else None,
        digest=known.policy.digest if known else None,
        troubles=tuple(_troubles(known)) if known else (),
    )


def _any(files: HostFiles, path: str) -> bool:
    return any(files.exists(f"{base}/{path}") for base in ("etc", "run", "usr/local/lib", "usr/lib", "lib"))


def _status(files: HostFiles) -> Status | None:
    text = files.read_bytes("run/vfagent/status.json", _STATUS_MOST)
    try:
        return decode(Status, json.loads(text)) if text else None
    except (ValueError, RecursionError):
        return None


def _troubles(status: Status) -> Iterator[tuple[str, str, str | None]]:
    for pf in status.pfs:
        if pf.phase in (Phase.FAILED, Phase.STUCK):
            name = f"{pf.address} ({pf.interface})" if pf.interface else pf.address
            prefix = f"{pf.address}: "
            yield from ((name, one.text.removeprefix(prefix), one.hint) for one in pf.failures)


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
    )


def _rom(files: HostFiles, path: str) -> tuple[RomImage, ...] | None:
    content = files.read_bytes(path.lstrip("/"), 1 << 24)
    return None if content is None else rom_images(content)


def _may_try_kvm(facts: Facts) -> bool:
    """As the service does before its first guest, where it has not yet."""
    there = facts.kvm.device and facts.kvm.permitted and facts.kvm.works is None and facts.programs.qemu is not None
    return there and facts.wants_guests and os.geteuid() == 0


def _try_kvm(kvm: Kvm) -> Kvm:
    print("trying whether KVM runs a guest …", file=sys.stderr)
    answer = ask(lambda: probe("SYSTEM"), _KVM_S)
    return replace(kvm, works=answer.kvm) if isinstance(answer, Outcome) else kvm


def _unanswered(answers: Mapping[str, Any]) -> Iterator[Unseen]:
    for name, answer in answers.items():
        if isinstance(answer, NoAnswer):
            yield Unseen(name, answer.why)


def _denied(files: HostFiles) -> Iterator[Unseen]:
    yield from (Unseen(path, "may be read by root alone") for path in sorted(files.denied))


def _of_a_copy(root: Path) -> Iterator[Unseen]:
    if root != Path("/"):
        yield Unseen("service, QEMU's version, permissions", f"{root} is a copy of a host's files")
