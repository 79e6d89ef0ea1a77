# SPDX-License-Identifier: Apache-2.0
"""What isolates a VF's user: MAC or GUIDs, VLAN, spoof check, trust. Without what its rule asks for it is not ready."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from vfagent.model.desired import DesiredPf, DesiredVf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf, Vf
from vfagent.model.vf_settings import Attribute, VfSettings
from vfagent.plan.link_layer import impossible, settable
from vfagent.plan.no_netdev import netdev_comes_with_vfs
from vfagent.plan.steps import ConfigureVf, Step, describe_settings, names, parts
from vfagent.plan.vf import Problem, difference, found, supported

Isolation = Mapping[int, tuple[str, ...]]  # attributes by VF


def demanded(vf: DesiredVf, reported: VfSettings | None = None) -> VfSettings:
    """The isolation that the rule asks for and does not call optional. VLAN 0 counts where the VF reports its VLAN."""
    wanted, vlan = vf.settings, vf.settings.vlan
    isolating = VfSettings(
        mac=wanted.mac,
        vlan=vlan if vlan and (vlan.id or (reported and reported.vlan)) else None,
        spoof_check=wanted.spoof_check or None,
        trust=False if wanted.trust is False else None,
        node_guid=wanted.node_guid,
        port_guid=wanted.port_guid,
    )
    return replace(isolating, **{name: None for name in vf.optional})


def less(settings: VfSettings, other: VfSettings) -> VfSettings:
    """The settings without those that `other` has, whatever their values."""
    return replace(settings, **{name: None for name in names(other)})


def plan_isolation(desired: DesiredPf, pf: Pf, driver_state: DriverState) -> Iterator[Problem]:
    """Isolation that cannot be set, or that the driver refused lately."""
    if netdev_comes_with_vfs(pf):
        return
    present = {vf.index: vf for vf in pf.vfs}
    for wanted in desired.vfs:
        asked = demanded(wanted)
        for name, text in impossible(asked, pf):
            yield Problem(text, wanted.index, name)
        if pf.netdev is None:
            for name, part in parts(settable(asked, pf)):
                hint = ": ib_ipoib makes it" if pf.is_infiniband else ""
                text = f"{describe_settings(part)} cannot be set: the PF has no netdev{hint}"
                yield Problem(text, wanted.index, name)
        elif wanted.index in present:
            yield from _refused(pf, present[wanted.index], wanted, driver_state)


def plan_other_impossible(desired: DesiredPf, pf: Pf) -> Iterator[Problem]:
    """Settings that isolate nobody and that no VF of such a PF has."""
    for wanted in desired.vfs:
        others = less(wanted.settings, demanded(replace(wanted, optional=())))
        yield from (Problem(text, wanted.index) for _, text in impossible(others, pf))


def _refused(pf: Pf, vf: Vf, wanted: DesiredVf, driver_state: DriverState) -> Iterator[Problem]:
    """What the driver refused and does not report to be so all the same."""
    reported, applied = vf.settings or VfSettings(), driver_state.applied.get(vf.index, VfSettings())
    asked = settable(demanded(wanted, reported), pf)
    refused = less(asked, supported(asked, driver_state))
    for name, part in parts(difference(refused, reported, applied)):
        answer = driver_state.unsupported.get(Attribute(name)) or driver_state.unsupported[Attribute.VLAN_PROTOCOL]
        text = f"{describe_settings(part)} does not hold ({found(part, vf.settings or applied)})"
        yield Problem(f"{text}: {pf.driver} refuses it: {answer}", vf.index, name)


def not_isolated(desired: DesiredPf, pf: Pf, steps: Iterable[Step], problems: Iterable[Problem]) -> Isolation:
    """The isolation that each VF is without: what is refused, and what pending or deferred steps would set."""
    missing = {(problem.vf, problem.lacks) for problem in problems if problem.vf is not None and problem.lacks}
    wanted, reported = {vf.index: vf for vf in desired.vfs}, {vf.index: vf.settings for vf in pf.vfs}
    for step in steps:
        if isinstance(step, ConfigureVf) and step.index in wanted:
            asked = names(demanded(wanted[step.index], reported.get(step.index)))
            missing |= {(step.index, name) for name in step.changes if name in asked}
    found_of: dict[int, tuple[str, ...]] = {}
    for index, name in sorted(missing):
        found_of[index] = (*found_of.get(index, ()), name)
    return found_of
