# SPDX-License-Identifier: Apache-2.0
"""PFs that the policy is about, and cannot be brought to what it says. The texts are the plan's."""

from collections.abc import Iterator

from vfagent.doctor.checks.facts import Facts
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.model.inventory import VFIO_DRIVER
from vfagent.policy.types import HwMode

# mlx5 follows a null pointer when asked for its bridge mode while it has no VFs (b1d305abef46): the first
# releases with the fix, by series; whatever is newer than the last has it.
_MLX5_FIXED = ((5, 15, 168), (6, 1, 111), (6, 6, 52), (6, 10, 11))


def pf_stuck(facts: Facts) -> Iterator[Finding]:
    for address in facts.stuck:
        yield Finding(
            "pf-stuck",
            Severity.ERROR,
            address,
            "the kernel did not answer for it in time",
            "something waits in the kernel, out of any signal's reach: mostly a removal of VFs, for a guest to let go",
            "end the guest that holds one of its VFs; `ps -eo pid,stat,wchan,args | grep ' D'` shows who waits",
        )


def pf_not_ready(facts: Facts) -> Iterator[Finding]:
    for one, desired in facts.managed:
        pf = one.pf
        if pf.driver == VFIO_DRIVER or not one.plan.waiting:
            continue
        dead = pf.unobserved is not None or (
            pf.initialized and (pf.driver is None or (pf.is_nic and pf.netdev is None))
        )
        yield Finding(
            "pf-not-ready",
            Severity.ERROR if dead else Severity.NOTE,
            pf.name,
            "; ".join(one.plan.waiting),
            f"rule {desired.rule!r} waits for that",
            f"journalctl -k -b | grep {pf.address} says why"
            if dead
            else "nothing: an event will tell when it is there",
        )


def too_many_vfs(facts: Facts) -> Iterator[Finding]:
    for one, desired in facts.managed:
        if desired.problem and one.pf.totalvfs:
            yield Finding(
                "too-many-vfs",
                Severity.ERROR,
                one.pf.name,
                desired.problem,
                "nothing of the rule is done on this card",
                'ask for fewer, or "max"; or raise the number in the card\'s firmware',
            )


def carries_administration(facts: Facts) -> Iterator[Finding]:
    for one, desired in facts.managed:
        netdev = one.pf.netdev
        late = [late.step.describe() for late in one.plan.deferred if netdev and netdev.management]
        if late and netdev and not desired.allow_management:
            yield Finding(
                "management-pf",
                Severity.ERROR,
                one.pf.name,
                f"{netdev.name} {netdev.management}",
                f"not done, because it could cut this host off: {'; '.join(late)}",
                f"allow_management = true in rule {desired.rule!r} permits it; have another way to the host at hand",
            )


def macs_collide(facts: Facts) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for one, desired in facts.managed:
        for vf in desired.vfs:
            name, mac = f"{one.pf.address}/vf{vf.index}", vf.settings.mac
            if mac and mac in seen:
                yield Finding(
                    "macs-collide",
                    Severity.ERROR,
                    name,
                    f"is to have the MAC {mac}, and so is {seen[mac]}",
                    "in one network, neither can be reached for long",
                    'mac = "stable" keeps cards apart; or give each card a rule of its own',
                )
                break
            if mac:
                seen[mac] = name


def no_machine_id(facts: Facts) -> Iterator[Finding]:
    stable = any(vf.mac == "stable" for rule in facts.rules for vf in rule.vf)
    if not stable or facts.identity.machine_id not in ("", "uninitialized"):
        return
    yield Finding(
        "no-machine-id",
        Severity.WARNING,
        "/etc/machine-id",
        "is missing or empty",
        'mac = "stable" hangs on the card alone; where a card tells no MAC of its own, hosts will have the same MACs',
        "systemd-machine-id-setup; the MACs change with it, once",
    )


def vepa_needs_a_switch(facts: Facts) -> Iterator[Finding]:
    for rule in facts.rules:
        if rule.hwmode is HwMode.VEPA:
            yield Finding(
                "vepa",
                Severity.NOTE,
                f"rule {rule.name!r}",
                'hwmode = "vepa"',
                "VFs of one card reach each other only by a switch that sends frames back out of the port they came by",
                "switch reflective relay (802.1Qbg, 'hairpin') on at the port; what cannot be seen from here",
            )


def vlans_that_meet(facts: Facts) -> Iterator[Finding]:
    """openshift/dpu-operator#485."""
    for one, desired in facts.managed:
        vlans = {vf.settings.vlan.id for vf in desired.vfs if vf.settings.vlan}
        if one.pf.driver == "ice" and len(vlans) > 1 and desired.hwmode != HwMode.VEPA:
            yield Finding(
                "vlans-meet",
                Severity.WARNING,
                one.pf.name,
                f"its VFs are in VLANs {', '.join(map(str, sorted(vlans)))}, and its hwmode is not vepa",
                "the E810's own switch was seen to pass frames between VLANs: they do not keep its VFs' guests apart",
                'hwmode = "vepa" where the port\'s switch reflects frames; or one VLAN on one card',
            )


def mlx5_without_its_fix(facts: Facts) -> Iterator[Finding]:
    version = facts.kernel.version
    for one, desired in facts.managed:
        if one.pf.driver == "mlx5_core" and version and not _fixed(version) and desired.numvfs:
            yield Finding(
                "mlx5-bridge-mode",
                Severity.WARNING,
                one.pf.name,
                f"kernel {'.'.join(map(str, version))} has a bug in mlx5 (b1d305abef46 mends it)",
                "whoever asks for the bridge mode of a card without VFs (`bridge link`) brings the host down; vfagent "
                "asks only where there are VFs",
                "update the kernel: 6.1.111, 6.6.52, 6.10.11 and 6.11 have the fix",
            )


def _fixed(version: tuple[int, ...]) -> bool:
    series = next((fixed for fixed in _MLX5_FIXED if fixed[:2] == version[:2]), None)
    return version >= series if series else version[:2] > _MLX5_FIXED[-1][:2]


def bridged_pf(facts: Facts) -> Iterator[Finding]:
    for one, desired in facts.managed:
        master = one.pf.netdev.master if one.pf.netdev else None
        if not master or not desired.numvfs:
            continue
        if master == "ovs-system":
            found, advice = "is a port of Open vSwitch", "leave its eswitch mode to one of the two"
        else:
            found = f"is a port of {master}"
            advice = f"bridge fdb add MAC dev {one.pf.netdev.name if one.pf.netdev else ''} for each guest on {master}"
        yield Finding(
            "bridged-pf",
            Severity.NOTE,
            one.pf.name,
            found,
            "the card does not flood to its PF: guests on the bridge are not reached from VFs unless the card knows "
            "their MACs",
            advice,
        )
