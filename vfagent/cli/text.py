# SPDX-License-Identifier: Apache-2.0
"""Values as text for people: `list`, `plan` and `status`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from vfagent.guests.dry_run import PlannedGuest
from vfagent.model.codec import decode, encode
from vfagent.model.inventory import Inventory, Pf, vf_in_use
from vfagent.model.printable import printable as printable
from vfagent.model.status import GuestStatus, PfStatus, Phase, Status, VfStatus
from vfagent.model.vf_settings import LinkState, Rate, VfSettings, Vlan
from vfagent.plan.steps import describe_settings
from vfagent.plan.vf import Deferred, Planned
from vfagent.policy.types import Policy
from vfagent.reconcile.reports import Observed

_PLAIN = VfSettings(
    mac="00:00:00:00:00:00",
    vlan=Vlan(0),
    rate=Rate(0, 0),
    spoof_check=True,
    trust=False,
    link_state=LinkState.AUTO,
)


NOTHING_MATCHES = "no rule matches a PF of this host; nothing to do"
NO_POLICY = (
    "no policy file: /etc/vfagent/policy.toml is not there, nor is a drop-in: every NIC is left as it is"
    " (see vfagent.toml(5), and /usr/share/doc/vfagent/examples)"
)


def columns(rows: Iterable[tuple[str, ...]], indent: str = "") -> list[str]:
    """A table without lines."""
    table = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))] if table else []
    return [
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in table
    ]


def inventory_lines(inventory: Inventory) -> list[str]:
    if not inventory.pfs:
        return ["no PCI function with SR-IOV found"]
    return [line for pf in inventory.pfs for line in _pf_lines(pf)]


def _pf_lines(pf: Pf) -> Iterator[str]:
    model = f": {pf.device_name}" if pf.device_name else f": {_bare(pf.vendor)}:{_bare(pf.device)}"
    yield printable(f"{pf.name}{model}")
    netdev = pf.netdev
    facts = [f"driver {pf.driver or 'none'}", f"{len(pf.vfs)} of {pf.totalvfs} VFs"]
    if netdev:
        facts += [f"mtu {netdev.mtu}", "up" if netdev.admin_up else "down", f"mac {netdev.permanent_mac or netdev.mac}"]
    yield printable("  " + ", ".join(facts))
    yield printable("  " + _known(("vendor", _bare(pf.vendor)), ("device", _bare(pf.device)), ("path", pf.path)))
    if modes := _known(("eswitch", pf.eswitch), ("hwmode", pf.hwmode), ("numa", pf.numa_node)):
        yield printable("  " + modes)
    rows = [
        (
            f"vf{vf.index}",
            vf.address,
            vf.driver or "no driver",
            _group(vf.iommu_group),
            _held(vf.settings),
            vf_in_use(vf, nic=pf.is_nic) or "",
        )
        for vf in pf.vfs
    ]
    yield from columns(rows, "  ")


def _known(*facts: tuple[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts if value is not None)


def _bare(hardware_id: str) -> str:
    """As `lspci -nn` and a rule's `match` have it."""
    return hardware_id.removeprefix("0x")


def _group(number: int | None) -> str:
    return "no group" if number is None else f"group {number}"


def _held(settings: VfSettings | None) -> str:
    """What is set of a VF; what stands as the kernel made it goes without saying."""
    if settings is None:
        return ""
    same = {one.name: None for one in fields(_PLAIN) if getattr(_PLAIN, one.name) == getattr(settings, one.name)}
    return describe_settings(replace(settings, **same))


def plan_lines(looks: list[Observed], policy: Policy) -> list[str]:
    lines = [line for one in looks if one.pf and (one.desired or one.plan.steps) for line in _look_lines(one)]
    lines += [_idle_line(name, by, "no PF here matches") for name, by in _idle_in_plan(looks, policy)]
    return lines or [NOTHING_MATCHES if policy.files else NO_POLICY]


def unmatched_rules_json(looks: list[Observed], policy: Policy) -> list[dict[str, Any]]:
    return [{"rule": name, "taken_by": list(by)} for name, by in _idle_in_plan(looks, policy)]


def _idle_in_plan(looks: list[Observed], policy: Policy) -> list[tuple[str, tuple[str, ...]]]:
    pfs = [(one.desired.rule, one.desired.shadowed_rules) for one in looks if one.desired]
    return _idle([rule.name for rule in policy.pf], pfs)


def _idle(rules: Iterable[str], pfs: list[tuple[str, tuple[str, ...]]]) -> list[tuple[str, tuple[str, ...]]]:
    """The rules that no PF is under, each with those that come first for the PFs that it matches."""
    used = {rule for rule, _ in pfs}
    return [
        (name, tuple(dict.fromkeys(rule for rule, shadowed_rules in pfs if name in shadowed_rules)))
        for name in rules
        if name not in used
    ]


def _idle_line(name: str, taken_by: tuple[str, ...], otherwise: str) -> str:
    taken = f"its PFs are taken by rules before it: {', '.join(map(repr, taken_by))}"
    return f"rule {name!r}: {taken if taken_by else otherwise}"


def _look_lines(one: Observed) -> Iterator[str]:
    assert one.pf is not None
    plan = one.plan
    yield printable(f"{one.pf.name}: {f'rule {one.desired.rule}' if one.desired else 'no rule'}")
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


def bridge_lines(items: Iterable[Planned | Deferred | str], looks: list[Observed]) -> list[str]:
    """What the policy's bridges lack, and no PF's plan says already."""
    logged = {planned.step.describe() for one in looks for planned in one.plan.steps}
    new = (item for item in items if not isinstance(item, Planned) or item.step.describe() not in logged)
    return [printable(f"bridges: {_bridge_word(item)}") for item in new]


def _bridge_word(item: Planned | Deferred | str) -> str:
    match item:
        case Planned():
            return f"{item.step.describe()} ({item.reason})"
        case Deferred():
            return f"deferred: {item.step.describe()} ({item.reason}): {item.blocker}"
        case _:
            return item


def plan_json(one: Observed) -> dict[str, Any]:
    plan = one.plan
    return {
        "pf": one.pf.address if one.pf else None,
        "desired": encode(one.desired),
        "settled": plan.settled,
        "horizon": plan.horizon,
        "steps": [
            {"kind": type(p.step).__name__, "text": p.step.describe(), "reason": p.reason, **encode(p.step)}
            for p in plan.steps
        ],
        "deferred": [{"text": d.step.describe(), "reason": d.reason, "blocker": d.blocker} for d in plan.deferred],
        "waiting": list(plan.waiting),
        "problems": list(map(str, plan.problems)),
        "notes": list(plan.notes),
    }


def status_lines(found: Mapping[str, Any], remark: str | None = None) -> list[str]:
    status = decode(Status, found)
    policy = status.policy
    lines = [
        f"vfagent {status.version}, pid {status.pid}, {'ready' if status.ready else 'starting'}",
        f"policy {policy.digest}: {', '.join(policy.files)}"
        if policy.files
        else "no policy: every NIC is left as it is",
        *((f"  {remark}",) if remark else ()),
        *(f"  refused: {problem}" for problem in policy.problems),
        *(f"bridges: {problem}" for problem in status.bridges),
        *(_idle_line(name, by, "waits for a PF that it matches") for name, by in _idle_in_status(status)),
    ]
    if not status.pfs:
        lines.append("no PCI function with SR-IOV found: waiting for one")
    lines = [printable(line) for line in lines] + [line for pf in status.pfs for line in _status_pf(pf)]
    return lines + (["guests:", *(f"  {line}" for line in guest_lines(status.guests))] if status.guests else [])


def _idle_in_status(status: Status) -> list[tuple[str, tuple[str, ...]]]:
    """A PF that was not looked at yet may be the one that is waited for."""
    pfs = [(pf.rule, pf.shadowed_rules) for pf in status.pfs if pf.rule]
    return _idle(status.policy.rules, pfs) if status.ready else []


def guest_lines(guests: Iterable[GuestStatus]) -> list[str]:
    """A line for each, and what there is to say of it."""
    rows = [(one.name, one.phase, " ".join(one.vfs), one.loader or "", _process(one), _remark(one)) for one in guests]
    return columns(rows)


def _process(guest: GuestStatus) -> str:
    return f"pid {guest.pid}" if guest.pid else ""


def _remark(guest: GuestStatus) -> str:
    return guest.detail or ("runs by an older rule: stop and start it to take the new one" if guest.outdated else "")


def guest_plan_json(guest: PlannedGuest) -> dict[str, Any]:
    return {"guest": guest.name, "text": guest.text, "to_do": guest.to_do, "argv": list(guest.argv)}


def _status_pf(pf: PfStatus) -> Iterator[str]:
    name = f"{pf.address} ({pf.interface})" if pf.interface else pf.address
    rule = f", rule {pf.rule}" if pf.rule else ""
    count = f"{pf.vfs_found} of {pf.vfs_wanted} VFs" if pf.vfs_wanted is not None else f"{pf.vfs_found} VFs"
    yield printable(f"{name}: {pf.phase}{rule}, {count}")
    if tried := attempts(pf):
        yield f"  {tried}"
    for title, lines in (
        ("doing", pf.doing),
        ("to do", pf.to_do if not pf.doing else ()),
        ("deferred", pf.deferred),
        ("waits", pf.waiting),
        ("problem", pf.problems),
        ("note", pf.notes),
        ("error", tuple(f"{one.text}{f' ({one.hint})' if one.hint else ''}" for one in pf.failures)),
    ):
        yield from (printable(f"  {title}: {line}") for line in lines)
    yield from columns((_status_vf(vf) for vf in pf.vfs), "  ")


def attempts(pf: PfStatus) -> str | None:
    """How often it failed, and whether that was it. With a problem of the policy's, it may be tried again or not."""
    if not (pf.failures and pf.attempts) or pf.problems:
        return None
    match pf.phase:
        case Phase.CONVERGING:
            from vfagent.reconcile.scheduler import MOST_ATTEMPTS

            return f"attempt {pf.attempts} of {MOST_ATTEMPTS} failed; it is tried again"
        case Phase.FAILED:
            return f"given up after {pf.attempts} attempt{'s' if pf.attempts > 1 else ''}; a reload tries again"
        case _:
            return None


def _status_vf(vf: VfStatus) -> tuple[str, ...]:
    return (f"vf{vf.index}", vf.address, vf.driver or "no driver", _held(vf.settings), vf.in_use or "")
