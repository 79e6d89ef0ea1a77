# SPDX-License-Identifier: Apache-2.0
"""`vfagent list` and `vfagent plan`: what there is, and what would be done. They change nothing."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from vfagent.cli.cards import chosen, files_and_cards, names_of_pf
from vfagent.cli.colour import coloured
from vfagent.cli.outputs import List, Plan, PlanDeferred, PlanGuest, PlanPf, PlanRule, PlanStep, print_json
from vfagent.cli.plan_page import Width, page
from vfagent.cli.text import (
    NO_POLICY,
    NOTHING_MATCHES,
    columns,
    describe_differing_settings,
    print_result,
)
from vfagent.doctor.checks.firmware import why_no_vfs
from vfagent.doctor.gather import cards_without_sriov
from vfagent.exit_status import Exit
from vfagent.frozen import frozen
from vfagent.guests.dry_run import PlannedGuest, dry_runs, plan_guests
from vfagent.kernel.protocols import Host
from vfagent.model.codec import encode
from vfagent.model.inventory import Inventory, Pf, Vf
from vfagent.model.printable import printable
from vfagent.model.vf_use import vf_in_use
from vfagent.plan.vf import Deferred, Planned
from vfagent.policy.match import HostIdentity, matches
from vfagent.policy.types import Policy
from vfagent.policy.unused import UnusedRule, unused_rules
from vfagent.reconcile.observe import observe
from vfagent.reconcile.reports import Observed
from vfagent.service.bridges import plan_bridges
from vfagent.store.host_files import HostFiles, is_copy
from vfagent.store.identity import open_host, read_identity
from vfagent.store.policy_files import load, load_files

_NOT_ROOT = "vfagent plan: not as root: guests' files in folders that root alone can enter count as missing"


def list_(args: argparse.Namespace) -> int:
    inventory = Inventory(tuple(chosen(args.cards, observe(open_host(args.root)).pfs, names_of_pf)))
    if args.json:
        print_json(List(inventory.pfs))
    else:
        print_result(inventory_lines(inventory))
    return Exit.OK


@frozen(slots=True)
class _Planned:
    """What would be done of each PF, rule, guest and bridge."""

    observations: list[Observed]
    unused: list[UnusedRule]
    guests: list[PlannedGuest]
    bridges: list[str]

    @property
    def settled(self) -> bool:
        pfs_settled = all(observed.plan.settled for observed in self.observations)
        guests_settled = not any(guest.to_do for guest in self.guests)
        return pfs_settled and guests_settled and not self.bridges and not any(rule.missed for rule in self.unused)


def plan(args: argparse.Namespace) -> int:
    files, cards = files_and_cards(args.words)
    policy = load_files(files) if files else load(args.root)
    planned = _planned(policy, open_host(args.root), args.root)
    if cards:
        of_pfs = [observed for observed in planned.observations if observed.pf]
        planned = _Planned(chosen(cards, of_pfs, _names), [], [], [])
    if planned.guests and os.geteuid() != 0 and not is_copy(args.root):
        print(_NOT_ROOT, file=sys.stderr)
    if args.json:
        print_json(plan_output(planned))
    else:
        observations = planned.observations
        lines = plan_lines(observations) if args.steps else page(observations, _width(args.color))
        guests = [printable(guest.describe()) for guest in planned.guests]
        print_result(lines_or_why_none(lines, policy, planned.unused) + planned.bridges + guests)
    return Exit.OK if planned.settled else Exit.NOT_CONVERGED


def plan_json(root: Path, host: Host) -> str:
    """Of this host's own policy, for the service. Raises PolicyError."""
    return json.dumps(encode(plan_output(_planned(load(root), host, root))))


def _planned(policy: Policy, host: Host, root: Path) -> _Planned:
    identity = read_identity(root)
    observations = dry_runs(policy, host, root)
    guests = list(plan_guests(policy, observations, host, root))
    bridges = bridge_lines(plan_bridges(policy, host), observations)
    return _Planned(observations, _unused_rules(observations, policy, identity, host, root), guests, bridges)


def _width(color: str) -> Width:
    return Width(shutil.get_terminal_size().columns if sys.stdout.isatty() else None, coloured(color))


def _names(observed: Observed) -> tuple[str, ...]:
    return names_of_pf(observed.pf) if observed.pf else ()


# The text of `list`


def inventory_lines(inventory: Inventory) -> list[str]:
    if not inventory.pfs:
        return ["no PCI function with SR-IOV found"]
    return [line for pf in inventory.pfs for line in _inventory_pf(pf)]


def _inventory_pf(pf: Pf) -> Iterator[str]:
    model = f": {pf.device_name}" if pf.device_name else f": {_short_id(pf.vendor)}:{_short_id(pf.device)}"
    yield printable(f"{pf.name}{model}")
    netdev = pf.netdev
    facts = [f"driver {pf.driver or 'none'}", f"{len(pf.vfs)} of {pf.totalvfs} VFs"]
    if netdev:
        facts += [f"mtu {netdev.mtu}", "up" if netdev.admin_up else "down", f"mac {netdev.permanent_mac or netdev.mac}"]
    elif pf.netdev_away:
        facts.append("its netdev is in another network namespace")
    yield printable("  " + ", ".join(facts))
    if pf.ports:
        others = (f"{port.name} (port {port.port})" if port.port else port.name for port in pf.ports)
        yield printable(f"  other netdevs {', '.join(others)}")
    ids = (("vendor", _short_id(pf.vendor)), ("device", _short_id(pf.device)), ("path", pf.path))
    yield printable("  " + _known(*ids))
    if modes := _known(("eswitch", pf.eswitch), ("hwmode", pf.hwmode), ("numa", pf.numa_node)):
        yield printable("  " + modes)
    rows = (
        (
            f"vf{vf.index}",
            vf.address,
            _driver(vf),
            "no group" if vf.iommu_group is None else f"group {vf.iommu_group}",
            describe_differing_settings(vf.settings),
            vf_in_use(vf, pf) or "",
        )
        for vf in pf.vfs
    )
    yield from columns(rows, "  ")


def _driver(vf: Vf) -> str:
    """With an override that names another: it decides at the next probe."""
    left = f" (driver_override {vf.driver_override})" if vf.driver_override not in (None, vf.driver) else ""
    return printable(f"{vf.driver or 'no driver'}{left}")


def _known(*facts: tuple[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts if value is not None)


def _short_id(hardware_id: str) -> str:
    """As `lspci -nn` and a rule's `match` have it."""
    return hardware_id.removeprefix("0x")


# The text of `plan`


def lines_or_why_none(lines: list[str], policy: Policy, unused: list[UnusedRule]) -> list[str]:
    """With the rules that apply to no PF; what to say where there is nothing to show."""
    lines = [*lines, *(rule.describe("no PF here matches") for rule in unused)]
    return lines or [NOTHING_MATCHES if policy.files else NO_POLICY]


def plan_lines(observations: list[Observed]) -> list[str]:
    """Of `plan --steps`."""
    return [
        line
        for observed in observations
        if observed.pf and (observed.desired or observed.plan.steps)
        for line in _pf_lines(observed.pf, observed)
    ]


def _pf_lines(pf: Pf, observed: Observed) -> Iterator[str]:
    plan = observed.plan
    yield printable(f"{pf.name}: {f'rule {observed.desired.rule}' if observed.desired else 'no rule'}")
    if plan.settled:
        yield "  nothing to do"
    numbered = columns((f"{n}.", p.step.describe(), p.reason) for n, p in enumerate(plan.steps, 1))
    yield from (f"  {line}" for line in numbered)
    for title, lines in (
        ("waits", plan.waiting),
        ("problem", tuple(map(str, plan.problems))),
        ("note", plan.notes),
        ("deferred", tuple(f"{d.step.describe()} ({d.reason}): {d.blocker}" for d in plan.deferred)),
    ):
        yield from (printable(f"  {title}: {line}") for line in lines)


def _unused_rules(
    observations: list[Observed], policy: Policy, identity: HostIdentity, host: Host, root: Path
) -> list[UnusedRule]:
    pfs = [(observed.pf, observed.desired) for observed in observations if observed.pf]
    unused = unused_rules(policy.pf, policy, identity, pfs)
    if not unused:
        return unused
    off = [(card, why) for card in cards_without_sriov(host, HostFiles(root)) if (why := why_no_vfs(card))]
    matched = {
        rule.name: f"{card.pf.name} {why}"
        for rule in policy.pf
        for card, why in reversed(off)
        if matches(rule.match, card.pf, identity)
    }
    return [rule if rule.shadowed_by else replace(rule, sriov_off=matched.get(rule.rule)) for rule in unused]


def bridge_lines(items: Iterable[Planned | Deferred | str], observations: list[Observed]) -> list[str]:
    """The changes of the policy's bridges that no PF's plan contains."""
    of_pfs = {planned.step.describe() for observed in observations for planned in observed.plan.steps}
    others = (item for item in items if not isinstance(item, Planned) or item.step.describe() not in of_pfs)
    return [printable(f"bridges: {_describe_bridge(item)}") for item in others]


def _describe_bridge(item: Planned | Deferred | str) -> str:
    match item:
        case Planned():
            return f"{item.step.describe()} ({item.reason})"
        case Deferred():
            return f"deferred: {item.step.describe()} ({item.reason}): {item.blocker}"
        case _:
            return item


# The JSON of `plan`


def plan_output(planned: _Planned) -> Plan:
    return Plan(
        settled=planned.settled,
        pfs=tuple(map(_pf_output, planned.observations)),
        rules=tuple(
            PlanRule(rule.rule, rule.shadowed_by, rule.unmet.describe() if rule.unmet else None, rule.sriov_off)
            for rule in planned.unused
        ),
        guests=tuple(PlanGuest(guest.name, guest.text, not guest.to_do, guest.argv) for guest in planned.guests),
        bridges=tuple(planned.bridges),
    )


def _pf_output(observed: Observed) -> PlanPf:
    plan, pf = observed.plan, observed.pf
    return PlanPf(
        address=pf.address if pf else None,
        interface=pf.netdev.name if pf and pf.netdev else None,
        desired=observed.desired,
        settled=plan.settled,
        more_steps_follow=plan.horizon,
        steps=tuple(
            PlanStep(p.step.KIND, p.step.describe(), p.reason, p.step.destroys, encode(p.step)) for p in plan.steps
        ),
        deferred=tuple(PlanDeferred(d.step.describe(), d.reason, d.blocker) for d in plan.deferred),
        waiting=plan.waiting,
        problems=tuple(map(str, plan.problems)),
        notes=plan.notes,
    )
