# SPDX-License-Identifier: Apache-2.0
"""Whether the service runs, and as what."""

from collections.abc import Iterator

from vfagent.doctor.checks.facts import Facts
from vfagent.doctor.checks.finding import Finding, Severity

_UNIT = "vfagent.service"


def service_absent(facts: Facts) -> Iterator[Finding]:
    if not facts.service.unit:
        yield Finding(
            "service-absent",
            Severity.NOTE if facts.policy is not None and not facts.policy.files else Severity.ERROR,
            _UNIT,
            "the unit is not installed",
            "nothing is done at boot or when a card comes",
            "install the package, or `make install && systemctl daemon-reload`",
        )


def service_down(facts: Facts) -> Iterator[Finding]:
    service = facts.service
    wanted = bool(facts.policy is None or facts.policy.files)
    if not service.unit or service.active in (None, "active", "activating", "reloading") or not wanted:
        return
    failed = service.active == "failed"
    masked = service.enabled == "masked"
    yield Finding(
        "service-failed" if failed else "service-down",
        Severity.ERROR,
        _UNIT,
        f"failed: {service.result}" if failed else f"is {service.active}{', and masked' if masked else ''}",
        "the policy is not applied; VFs stay as they are",
        "journalctl -u vfagent -b says why; then systemctl restart vfagent"
        if failed
        else f"{'systemctl unmask vfagent && ' if masked else ''}systemctl enable --now vfagent",
    )


def service_not_enabled(facts: Facts) -> Iterator[Finding]:
    service = facts.service
    if service.unit and service.enabled == "disabled" and service.active == "active":
        yield Finding(
            "service-disabled",
            Severity.WARNING,
            _UNIT,
            "runs, but is not enabled",
            "after the next boot nothing applies the policy",
            "systemctl enable vfagent",
        )


def service_outdated(facts: Facts) -> Iterator[Finding]:
    running = facts.service.version
    if running and running != facts.version:
        yield Finding(
            "service-outdated",
            Severity.WARNING,
            _UNIT,
            f"the process is vfagent {running}, installed is {facts.version}",
            "what you read in this version's manual need not hold for it",
            "systemctl restart vfagent: that disturbs no VF and no guest",
        )


def policy_not_loaded(facts: Facts) -> Iterator[Finding]:
    """A file that is invalid is another matter."""
    in_force = facts.service.digest
    if in_force is not None and facts.policy is not None and in_force != facts.policy.digest:
        yield Finding(
            "policy-not-loaded",
            Severity.WARNING,
            "policy",
            "was changed since the service read it",
            "the service goes by the older text",
            "vfagent plan shows what would follow; then systemctl reload vfagent",
        )


def pf_in_trouble(facts: Facts) -> Iterator[Finding]:
    for pf, text, hint in facts.service.troubles:
        yield Finding(
            "pf-failed",
            Severity.ERROR,
            pf,
            text,
            "the service has given up on this until something changes, or a reload",
            hint or "vfagent status shows the rest; journalctl -u vfagent -b the whole of it",
        )


def udev_rules_absent(facts: Facts) -> Iterator[Finding]:
    if facts.service.unit and not facts.service.udev_rules:
        yield Finding(
            "udev-rules-absent",
            Severity.ERROR,
            "70-vfagent.rules",
            "udev has no such rule",
            "the service hears of no card that comes or changes, and guests may not open their VFs",
            "install the package again; then udevadm control --reload && udevadm trigger",
        )


def hwdb_absent(facts: Facts) -> Iterator[Finding]:
    if not facts.service.hwdb:
        yield Finding(
            "hwdb-absent",
            Severity.NOTE,
            "udev's hardware database",
            "there is no hwdb.bin",
            "cards are shown by numbers instead of names; nothing else depends on it",
            "systemd-hwdb update",
        )
