# SPDX-License-Identifier: Apache-2.0
"""What `--json` prints: one object for each verb, with `format`. `vfagent schema VERB` prints the schema of each."""

import json
from typing import Any

from vfagent.doctor.checks.finding import Finding, NotChecked
from vfagent.frozen import frozen
from vfagent.guests.spec.rom import RomFacts
from vfagent.model.codec import encode
from vfagent.model.desired import DesiredPf
from vfagent.model.inventory import Pf
from vfagent.model.schema import schema_of
from vfagent.model.status import FORMAT, GuestStatus, PfStatus, Status
from vfagent.policy.json_schema import schema as policy_schema


@frozen(slots=True)
class List:
    """PFs and VFs as they are."""

    pfs: tuple[Pf, ...]
    format: int = FORMAT


@frozen(slots=True)
class PlanStep:
    """`kind`: the label `step` of the metrics; `values`: what the step sets, by kind."""

    kind: str
    text: str
    reason: str
    destroys: bool
    values: dict[str, object]


@frozen(slots=True)
class PlanDeferred:
    """A step that would disturb somebody, and whom."""

    text: str
    reason: str
    blocker: str


@frozen(slots=True)
class PlanPf:
    """A PF, and what would be done."""

    address: str | None
    interface: str | None
    desired: DesiredPf | None
    settled: bool
    more_steps_follow: bool
    steps: tuple[PlanStep, ...]
    deferred: tuple[PlanDeferred, ...]
    waiting: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


@frozen(slots=True)
class PlanGuest:
    """`argv`: of its QEMU."""

    name: str
    text: str
    settled: bool
    argv: tuple[str, ...]


@frozen(slots=True)
class PlanRule:
    """A rule that applies to no PF, and why."""

    rule: str
    shadowed_by: tuple[str, ...]
    unmet: str | None
    sriov_off: str | None


@frozen(slots=True)
class Plan:
    """`settled`: nothing is to be done."""

    settled: bool
    pfs: tuple[PlanPf, ...]
    rules: tuple[PlanRule, ...]
    guests: tuple[PlanGuest, ...]
    bridges: tuple[str, ...]
    format: int = FORMAT


@frozen(slots=True)
class Apply:
    """The PFs after `apply` without the service."""

    pfs: tuple[PfStatus, ...]
    format: int = FORMAT


@frozen(slots=True)
class Doctor:
    """The findings, causes first."""

    healthy: bool
    findings: tuple[Finding, ...]
    not_checked: tuple[NotChecked, ...]
    format: int = FORMAT


@frozen(slots=True)
class Guests:
    """The guests of the service's status."""

    guests: tuple[GuestStatus, ...]
    format: int = FORMAT


@frozen(slots=True)
class Guest:
    """One guest of the service's status."""

    guest: GuestStatus
    format: int = FORMAT


@frozen(slots=True)
class RomNeed:
    """`rom`: its path, if it is built."""

    guest: str
    target: str | None
    rom: str | None


@frozen(slots=True)
class RomDriver:
    """`hardware`: vendor:device of VFs here; `in_images`, by firmware, and `in_source`: whether they have a driver."""

    hardware: str
    driver: str | None
    in_images: dict[str, bool | None]
    in_source: bool | None


@frozen(slots=True)
class Roms:
    """ROMs, and who needs one."""

    roms: tuple[RomFacts, ...]
    guests: tuple[RomNeed, ...]
    vfs: tuple[RomDriver, ...]
    format: int = FORMAT


@frozen(slots=True)
class CheckProblem:
    """`key` has the number of the rule, `rule` its name; no file where the host is meant."""

    file: str | None
    line: int | None
    column: int | None
    key: str | None
    rule: str | None
    text: str


@frozen(slots=True)
class Check:
    """`digest`: of a valid policy; `notes`: what is allowed and rarely meant."""

    valid: bool
    digest: str | None
    files: tuple[str, ...]
    problems: tuple[CheckProblem, ...]
    notes: tuple[CheckProblem, ...]
    format: int = FORMAT


OUTPUTS: dict[str, type] = {
    "apply": Apply,
    "check": Check,
    "doctor": Doctor,
    "guest-list": Guests,
    "guest-status": Guest,
    "list": List,
    "plan": Plan,
    "rom-list": Roms,
    "status": Status,
}
POLICY = "policy"


def schema_named(name: str) -> dict[str, Any]:
    if name == POLICY:
        return policy_schema()
    return schema_of(OUTPUTS[name], f"vfagent {name.replace('-', ' ')} --json")


def print_json(output: object) -> None:
    print(json.dumps(encode(output), indent=2))
