# SPDX-License-Identifier: Apache-2.0
"""`vfagent init`: a policy for what this host has."""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from vfagent.cli.new_file import new_file
from vfagent.doctor.checks.facts import Source, TextFile
from vfagent.doctor.checks.other_managers import conflicts
from vfagent.doctor.other_managers import other_managers
from vfagent.exit_status import Exit
from vfagent.guests.dry_run import dry_runs
from vfagent.kernel.protocols import Host, Interface
from vfagent.model.inventory import Pf
from vfagent.model.network import Link
from vfagent.model.pci import PciAddress
from vfagent.model.printable import printable
from vfagent.plan.adopt import Draft, adopt, bridges_of
from vfagent.plan.planner import Plan
from vfagent.policy.toml_text import rule_lines
from vfagent.policy.types import Policy
from vfagent.reconcile.observe import observe, observe_pf
from vfagent.reconcile.observe_network import with_links_above
from vfagent.reconcile.rounds import Task, observe_and_plan
from vfagent.service.releases import find_pf
from vfagent.store.host_files import HostFiles
from vfagent.store.identity import open_host, read_identity
from vfagent.store.policy_files import load_text
from vfagent.store.state import State

SCHEMA = "#:schema /usr/share/vfagent/policy.schema.json"
_LIBVIRT = re.compile(r"virbr\d+")


def init(args: argparse.Namespace) -> int:
    root, host = args.root, open_host(args.root)
    pfs = _pfs(host, args.card)
    owners = {link.name: owner for pf in pfs for link in _links(pf) if (owner := _owner(link, host))}
    drafts = adopt(pfs, read_identity(root), owners, lambda policy, pf: _plan(policy, pf.address, host, root))
    others = tuple(other_managers(HostFiles(root)))
    drafts = tuple(replace(draft, comments=(*draft.comments, *_also_set(draft.pf, others))) for draft in drafts)
    text = "\n".join(policy_lines(drafts, copied=root != Path("/"))) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        hint = "--force overwrites it; without --output the policy is printed"
        with new_file(args.output, 0o644, force=args.force, hint=hint) as file:
            file.write(text.encode())
    unsettled = [
        run.pf.name for run in dry_runs(load_text("init", text), host, root) if run.pf and not run.plan.settled
    ]
    for name in unsettled:
        print(f"{name}: changed meanwhile: vfagent plan shows the difference; or run init again", file=sys.stderr)
    return Exit.NOT_CONVERGED if unsettled else Exit.OK


def _pfs(host: Host, card: str | None) -> list[Pf]:
    if card is None:
        pfs = observe(host).pfs
    else:
        pf = observe_pf(host, find_pf(host, card))
        pfs = (pf,) if pf else ()
    return [with_links_above(host, pf) for pf in pfs]


def _links(pf: Pf) -> tuple[Link, ...]:
    return pf.network.links if pf.network else ()


def _owner(link: Link, host: Host) -> str | None:
    """The program that makes it anew at each boot."""
    if link.kind == "bridge" and _LIBVIRT.fullmatch(link.name):
        return "libvirt"
    if link.managed:
        return None
    properties = host.udev.properties("net", link.name) or {}
    return host.owners.owner(Interface(link.name, (link.mac,), kind=link.kind, properties=properties))


def _also_set(pf: Pf, files: Iterable[tuple[Source, TextFile]]) -> Iterator[str]:
    """Who else sets its VFs, and goes on with that beside a policy."""
    for conflict in conflicts(pf, files):
        if conflict.writes:
            yield f"{conflict.program} {conflict.action}, too, and each undoes what the other does: {conflict.advice}"


def _plan(policy: Policy, address: PciAddress, host: Host, root: Path) -> Plan:
    state = State(root)
    driver_state = state.driver_state(address)
    task = Task(address, policy, read_identity(root), driver_state, dry=True, grace_over=True)
    return observe_and_plan(task, host, state, driver_state).plan


def policy_lines(drafts: Iterable[Draft], *, copied: bool = False) -> Iterator[str]:
    drafts = tuple(drafts)
    yield SCHEMA
    yield "# What vfagent init found: with this policy vfagent changes nothing. A rule after # is a proposal, or says"
    yield "# what it would change. vfagent.toml(5) documents all keys."
    if copied:
        yield "# From a copied tree, which shows neither VF settings nor addresses, VLANs and the modes of the switch."
    yield ""
    yield "version = 1"
    for bridge in bridges_of(drafts):
        yield ""
        yield from rule_lines("bridge", bridge)
    for draft in drafts:
        yield ""
        yield from _draft_lines(draft)
    if not drafts:
        yield ""
        yield "# No PCI function with SR-IOV was found: vfagent doctor may say why."


def _draft_lines(draft: Draft) -> Iterator[str]:
    pf = draft.pf
    model = pf.device_name or f"{pf.vendor.removeprefix('0x')}:{pf.device.removeprefix('0x')}"
    driver = f"driver {pf.driver}" if pf.driver else "no driver"
    yield _comment(f"{pf.name}: {model}, {driver}, {len(pf.vfs)} of {pf.totalvfs} VFs")
    yield from map(_comment, draft.comments)
    if draft.rule is not None:
        lines = rule_lines("pf", draft.rule)
        yield from lines if draft.adopted else (_comment(line) for line in lines)


def _comment(text: str) -> str:
    return f"# {printable(text)}".rstrip()
