# SPDX-License-Identifier: Apache-2.0
"""Whether the service is installed, enabled and running, with this version and this policy."""

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
            "the policy is not applied at boot or when a card is plugged in",
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
        "journalctl -u vfagent -b shows why; then systemctl restart vfagent"
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
            "after the next boot the policy is not applied",
            "systemctl enable vfagent",
        )


def service_outdated(facts: Facts) -> Iterator[Finding]:
    running = facts.service.version
    if running and running != facts.version:
        yield Finding(
            "service-outdated",
            Severity.WARNING,
            _UNIT,
            f"the running process is vfagent {running}, the installed version is {facts.version}",
            "the running version is older than its documentation",
            "systemctl restart vfagent: no VF and no guest is affected",
        )


def policy_not_loaded(facts: Facts) -> Iterator[Finding]:
    """An invalid policy file has its own finding."""
    active = facts.service.digest
    if active is not None and facts.policy is not None and active != facts.policy.digest:
        yield Finding(
            "policy-not-loaded",
            Severity.WARNING,
            "policy",
            "has changed since the service loaded it",
            "the previous version is active",
            "vfagent plan shows what would change; then systemctl reload vfagent",
        )


def pf_failed(facts: Facts) -> Iterator[Finding]:
    for pf, text, hint in facts.service.failures:
        yield Finding(
            "pf-failed",
            Severity.ERROR,
            pf,
            text,
            "the service does not retry until something changes or it is reloaded",
            hint or "vfagent status shows all failures; journalctl -u vfagent -b has their history",
        )


def udev_rules_absent(facts: Facts) -> Iterator[Finding]:
    if facts.service.unit and not facts.service.udev_rules:
        yield Finding(
            "udev-rules-absent",
            Severity.ERROR,
            "70-vfagent.rules",
            "the udev rules file is missing",
            "the service gets no event when a card is added or changes, and guests cannot open their VFs",
            "reinstall the package; then udevadm control --reload && udevadm trigger",
        )


def hwdb_absent(facts: Facts) -> Iterator[Finding]:
    if not facts.service.hwdb:
        yield Finding(
            "hwdb-absent",
            Severity.NOTE,
            "udev's hardware database",
            "there is no hwdb.bin",
            "cards are shown with IDs instead of names; nothing else depends on it",
            "systemd-hwdb update",
        )
