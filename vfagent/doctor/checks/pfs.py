# SPDX-License-Identifier: Apache-2.0
"""Managed PFs that cannot be configured as the policy says. The texts are the plan's."""

from collections.abc import Iterator

from vfagent.doctor.checks.facts import Facts
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.model.evidence import is_vfio
from vfagent.model.network import Link
from vfagent.model.numvfs_lock import FIXED, NumvfsLock, numvfs_lock
from vfagent.plan.network_steps import CreateVlan
from vfagent.plan.no_netdev import netdev_may_come
from vfagent.plan.ports import belongs, instead, receiver_of
from vfagent.plan.vf_creation import how_back
from vfagent.policy.types import HwMode

# mlx5_eswitch_set_vepa() follows a null pointer while there are no VFs (fixed by b1d305abef46):
# the first release with the fix of each series. Every later series has it.
_MLX5_FIXED = ((5, 15, 168), (6, 1, 111), (6, 6, 52), (6, 10, 11))


def pf_stuck(facts: Facts) -> Iterator[Finding]:
    for address in facts.stuck:
        yield Finding(
            "pf-stuck",
            Severity.ERROR,
            address,
            "a kernel call for it did not return in time",
            "a process sleeps in the kernel and ignores signals: mostly a removal of VFs that waits for a guest",
            "end the guest that has one of its VFs open; `ps -eo pid,stat,wchan,args | grep ' D'` shows who waits",
        )


def pf_not_ready(facts: Facts) -> Iterator[Finding]:
    for pf_facts, desired in facts.managed:
        pf = pf_facts.pf
        if is_vfio(pf.driver) or not pf_facts.plan.waiting:
            continue
        if pf.netdev_away:
            yield _netdev_away(pf.name, desired.rule)
            continue
        dead = pf.unobserved is not None or (pf.initialized and pf.driver is None)
        yield Finding(
            "pf-not-ready",
            Severity.ERROR if dead else Severity.NOTE,
            pf.name,
            "; ".join(pf_facts.plan.waiting),
            f"rule {desired.rule!r} waits for that",
            f"journalctl -k -b | grep {pf.address} shows why"
            if dead
            else "nothing: the service continues at the next event",
        )


def vf_gone(facts: Facts) -> Iterator[Finding]:
    for pf_facts, _ in facts.managed:
        if gone := [vf for vf in pf_facts.pf.vfs if vf.gone]:
            names = ", ".join(f"VF {vf.index} ({vf.address})" for vf in gone)
            yield Finding(
                "vf-gone",
                Severity.ERROR,
                pf_facts.pf.name,
                f"{names} was removed from the PCI bus without its PF",
                "it cannot be used, and the number of VFs cannot be changed",
                how_back(pf_facts.pf),
            )


def _netdev_away(pf: str, rule: str) -> Finding:
    return Finding(
        "pf-away",
        Severity.NOTE,
        pf,
        "its netdev is in another network namespace",
        f"rule {rule!r} matches it and changes nothing of it, nor of its VFs",
        "let the rule's match name the host's own PFs; or move the netdev back: `lsns -t net` shows the namespaces,"
        " `nsenter -t PID -n ip link` what is in each",
    )


def pf_without_netdev(facts: Facts) -> Iterator[Finding]:
    for pf_facts, desired in facts.managed:
        pf = pf_facts.pf
        if netdev_may_come(pf) and not pf.is_infiniband:
            yield Finding(
                "pf-without-netdev",
                Severity.WARNING,
                pf.name,
                f"driver {pf.driver} has made no netdev for it",
                f"rule {desired.rule!r} makes its VFs without MAC, VLAN and what else is set through the netdev",
                f"journalctl -k -b | grep {pf.address} shows why, if the driver is known to make one",
            )


def too_many_vfs(facts: Facts) -> Iterator[Finding]:
    for pf_facts, desired in facts.managed:
        if desired.problem and pf_facts.pf.totalvfs:
            yield Finding(
                "too-many-vfs",
                Severity.ERROR,
                pf_facts.pf.name,
                desired.problem,
                "the rule is not applied to this card",
                'set a number that it supports, or "max"; or raise the limit in the card\'s firmware',
            )


def carries_administration(facts: Facts) -> Iterator[Finding]:
    for pf_facts, desired in facts.managed:
        netdev = next((netdev for netdev in pf_facts.pf.netdevs if netdev.management), None)
        deferred = (late.step for late in pf_facts.plan.deferred if netdev)
        # A VLAN interface on a port of a bridge is not permitted by allow_management either.
        late = [step.describe() for step in deferred if not isinstance(step, CreateVlan)]
        if late and netdev and not desired.allow_management:
            yield Finding(
                "management-pf",
                Severity.ERROR,
                pf_facts.pf.name,
                f"{netdev.name} {netdev.management}",
                f"deferred, because it could cut this host off: {'; '.join(late)}",
                f"allow_management = true in rule {desired.rule!r} permits it; have console access to the host",
            )


def macs_collide(facts: Facts) -> Iterator[Finding]:
    """One finding for each rule, with its first card that has a MAC of another."""
    seen: dict[str, str] = {}
    collisions: dict[str, list[tuple[str, str]]] = {}
    for pf_facts, desired in facts.managed:
        named = [(f"{pf_facts.pf.address}/vf{vf.index}", vf.settings.mac) for vf in desired.vfs if vf.settings.mac]
        if collision := next(((name, mac) for name, mac in named if mac in seen), None):
            collisions.setdefault(desired.rule, []).append(collision)
        seen |= {mac: name for name, mac in named if mac not in seen}
    for (name, mac), *others in collisions.values():
        more = f"; {len(others)} more cards collide likewise" if others else ""
        yield Finding(
            "macs-collide",
            Severity.ERROR,
            name,
            f"the policy gives it the MAC {mac}, which {seen[mac]} has too{more}",
            "in one network, neither can be reached reliably",
            'mac = "stable" differs between cards; or give each card its own rule',
        )


def no_machine_id(facts: Facts) -> Iterator[Finding]:
    stable = any(vf.mac == "stable" for rule in facts.rules for vf in rule.vf)
    if not stable or facts.identity.machine_id not in ("", "uninitialized"):
        return
    yield Finding(
        "no-machine-id",
        Severity.WARNING,
        "/etc/machine-id",
        "is missing or empty",
        'mac = "stable" depends on the card alone; hosts whose cards have no permanent MAC get the same MACs',
        "systemd-machine-id-setup; it changes the MACs once",
    )


def vepa_needs_a_switch(facts: Facts) -> Iterator[Finding]:
    for rule in facts.rules:
        if rule.hwmode is HwMode.VEPA:
            yield Finding(
                "vepa",
                Severity.NOTE,
                f"rule {rule.name!r}",
                'hwmode = "vepa"',
                "VFs of one card reach each other only through a switch that returns frames to the port they came from",
                "enable reflective relay (802.1Qbg, 'hairpin') on the switch port; vfagent cannot check it",
            )


def vlans_that_meet(facts: Facts) -> Iterator[Finding]:
    """openshift/dpu-operator#485."""
    for pf_facts, desired in facts.managed:
        vlans = {vf.settings.vlan.id for vf in desired.vfs if vf.settings.vlan}
        if pf_facts.pf.driver == "ice" and len(vlans) > 1 and desired.hwmode != HwMode.VEPA:
            yield Finding(
                "vlans-meet",
                Severity.WARNING,
                pf_facts.pf.name,
                f"its VFs are in VLANs {', '.join(map(str, sorted(vlans)))}, and its hwmode is not vepa",
                "the E810's embedded switch was seen to pass frames between VLANs: they do not isolate its guests",
                'hwmode = "vepa" where the external switch returns frames; or one VLAN for each card',
            )


def mlx5_without_its_fix(facts: Facts) -> Iterator[Finding]:
    version = facts.kernel.version
    for pf_facts, desired in facts.managed:
        if pf_facts.pf.driver == "mlx5_core" and version and not _fixed(version) and desired.numvfs:
            yield Finding(
                "mlx5-bridge-mode",
                Severity.WARNING,
                pf_facts.pf.name,
                f"kernel {'.'.join(map(str, version))} has a bug in mlx5 (fixed by b1d305abef46)",
                "setting the bridge mode of a card without VFs (`bridge link set dev … hwmode vepa`) crashes the host; "
                "vfagent sets it only where there are VFs",
                "update the kernel: 6.1.111, 6.6.52, 6.10.11 and 6.11 have the fix",
            )


def _fixed(version: tuple[int, ...]) -> bool:
    series = next((fixed for fixed in _MLX5_FIXED if fixed[:2] == version[:2]), None)
    return version >= series if series else version[:2] > _MLX5_FIXED[-1][:2]


def removal_deadlocks(facts: Facts) -> Iterator[Finding]:
    version = facts.kernel.version
    wanted = any(desired.numvfs for _, desired in facts.managed)
    if version and wanted and numvfs_lock(version) is NumvfsLock.DEADLOCKS:
        fixed = [".".join(map(str, release)) for release in FIXED]
        yield Finding(
            "removal-deadlocks",
            Severity.WARNING,
            f"kernel {'.'.join(map(str, version))}",
            "has commit 05703271c3cd without its revert (2fa119c0e5e5)",
            "the removal of a card with VFs (unplugged, or by its `remove` file) never ends, and after it no card on "
            "this host can create or remove VFs, until the host is reset",
            f"update the kernel: {', '.join(fixed)} and 7.0 have the revert; "
            "until then set vfs = 0 before you pull a card",
        )


def bridged_pf(facts: Facts) -> Iterator[Finding]:
    for pf_facts, desired in facts.managed:
        pf = pf_facts.pf
        if pf.netdev is None or pf.netdev.master is None or not desired.numvfs:
            continue
        master = (pf.network.named(pf.netdev.master) if pf.network else None) or Link(pf.netdev.master, 0)
        if desired.fdb and master.kind in (None, "bridge"):
            continue  # vfagent adds them itself
        consequence, advice = _of_a_port(pf.netdev.name, master)
        yield Finding(
            "bridged-pf",
            Severity.NOTE,
            pf.name,
            belongs(master),
            consequence,
            advice,
        )


def vlan_interface_on_a_port(facts: Facts) -> Iterator[Finding]:
    for pf_facts, desired in facts.managed:
        pf = pf_facts.pf
        if pf.netdev is None or pf.network is None:
            continue
        receiver = receiver_of(pf.netdev.ifindex, pf.netdev.master, pf.network)
        if receiver is None:
            continue
        for wanted in desired.vlan_interfaces:
            yield Finding(
                "vlan-on-a-port",
                Severity.ERROR,
                pf.name,
                f"{belongs(receiver)}, and rule {desired.rule!r} wants the VLAN interface {wanted.name} on it",
                f"no frame of VLAN {wanted.tag.id} would reach {receiver.name} and what is on it: {wanted.name} is not "
                "made, and guests on its VFs wait",
                f"{instead(pf.netdev.name, wanted.tag, receiver)}; or remove its [[pf.vlan]]",
            )


def _of_a_port(port: str, master: Link) -> tuple[str, str]:
    """What follows for the PF's VFs, and what to do."""
    bridge = "the bridge" if master.kind else master.name
    not_flooded = (
        f"the card does not flood to its PF: VFs reach guests on {bridge} only if the card's FDB has their MACs"
    )
    match master.kind:
        case "bond" | "team":
            return (
                f"{master.name} does not cover its VFs: when the link of {port} fails, they do not go to another port",
                f"give a guest a VF of each port of {master.name}, and bond them in the guest",
            )
        case "openvswitch":
            return not_flooded, "set its eswitch mode in Open vSwitch or here, not in both"
        case _:
            return not_flooded, (
                f'fdb = "auto" in the rule; or bridge fdb add MAC dev {port} for each guest on {master.name}'
            )
