# SPDX-License-Identifier: Apache-2.0
"""Findings from facts that a copied tree does not have: unit states, permissions, stuck kernel calls."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.doctor.hosts import PF, healthy
from vfagent.doctor.checks.facts import Facts, Kernel, Kvm, Programs, Service, Source, TextFile
from vfagent.doctor.checks.finding import Diagnosis, Finding, Severity
from vfagent.doctor.checks.pfs import mlx5_without_its_fix
from vfagent.doctor.checks.registry import CHECKS, diagnose
from vfagent.doctor.gather import gather_facts
from vfagent.model.pci import PciAddress


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The facts of a host without findings."""
    return gather_facts(healthy(tmp_path_factory.mktemp("host")).root)


def only(facts: Facts) -> Finding:
    (finding,) = diagnose(facts).findings
    return finding


@pytest.mark.parametrize(
    ("service", "check", "advice"),
    [
        (Service(active="failed", result="exit-code"), "service-failed", "journalctl -u vfagent -b"),
        (Service(active="inactive", enabled="disabled"), "service-down", "systemctl enable --now vfagent"),
        (Service(active="inactive", enabled="masked"), "service-down", "systemctl unmask vfagent"),
        (Service(active="active", enabled="disabled"), "service-disabled", "systemctl enable vfagent"),
    ],
)
def test_a_service_that_does_not_run_is_reported_with_a_command(
    facts: Facts, service: Service, check: str, advice: str
) -> None:
    finding = only(replace(facts, service=service))
    assert finding.check == check
    assert advice in finding.advice


@pytest.mark.parametrize("active", ["active", "activating", "reloading", None])
def test_a_running_service_or_one_in_an_unknown_state_is_no_finding(facts: Facts, active: str | None) -> None:
    assert diagnose(replace(facts, service=Service(active=active, enabled="enabled"))).findings == ()


def test_an_inactive_service_without_a_policy_is_no_error(tmp_path: Path) -> None:
    tree = healthy(tmp_path)
    (tree.root / "etc/vfagent/policy.toml").unlink()
    diagnosis = diagnose(replace(gather_facts(tree.root), service=Service(active="inactive", enabled="disabled")))
    assert diagnosis.healthy
    assert [finding.check for finding in diagnosis.findings] == ["policy-absent"]


def test_a_pf_whose_kernel_call_does_not_return_is_an_error(facts: Facts) -> None:
    finding = only(replace(facts, stuck=(PciAddress(PF),)))
    assert (finding.check, finding.severity, finding.object) == ("pf-stuck", Severity.ERROR, PF)


def test_a_kvm_that_guests_cannot_open_is_a_warning(facts: Facts) -> None:
    finding = only(replace(facts, kvm=Kvm(permitted=False)))
    assert (finding.check, finding.severity) == ("kvm-denied", Severity.WARNING)


@pytest.mark.parametrize(("version", "checks"), [((6, 1), ["qemu-old"]), ((7, 2), []), ((10, 0), []), (None, [])])
def test_a_qemu_without_json_devices_is_too_old(
    facts: Facts, version: tuple[int, ...] | None, checks: list[str]
) -> None:
    diagnosis = diagnose(replace(facts, programs=Programs(qemu=version)))
    assert [finding.check for finding in diagnosis.findings] == checks


@pytest.mark.parametrize(
    ("version", "broken"),
    [
        ((6, 1, 106), True),
        ((6, 1, 111), False),
        ((6, 6, 51), True),
        ((6, 8, 0), True),
        ((6, 10, 11), False),
        ((6, 11, 0), False),
        ((6, 12, 48), False),
        ((5, 10, 200), True),
        ((), False),
    ],
)
def test_the_mlx5_bug_depends_on_the_kernel_version(facts: Facts, version: tuple[int, ...], broken: bool) -> None:  # noqa: FBT001
    pfs = tuple(replace(entry, pf=replace(entry.pf, driver="mlx5_core")) for entry in facts.pfs)
    findings = list(mlx5_without_its_fix(replace(facts, pfs=pfs, kernel=Kernel(version=version))))
    assert bool(findings) is broken


@pytest.mark.parametrize("second_port", [False, True])
def test_a_management_pf_is_reported_with_the_key_that_permits_it(tmp_path: Path, *, second_port: bool) -> None:
    tree = healthy(tmp_path)
    tree.make_vfs(PF, 0)
    facts = gather_facts(tree.root)
    (pf_facts,) = facts.pfs
    assert pf_facts.pf.netdev is not None
    assert pf_facts.desired is not None
    from vfagent.model.driver_state import DriverState
    from vfagent.plan.planner import plan_pf

    management = replace(pf_facts.pf.netdev, management="carries the default route")
    pf = replace(pf_facts.pf, ports=(management,)) if second_port else replace(pf_facts.pf, netdev=management)
    finding = only(replace(facts, pfs=(replace(pf_facts, pf=pf, plan=plan_pf(pf_facts.desired, pf, DriverState())),)))
    assert finding.check == "management-pf"
    assert "create 2 VFs" in finding.consequence
    assert "allow_management = true in rule 'storage'" in finding.advice


@pytest.mark.parametrize(("name", "reported"), [("enp1s0f0", True), ("enp9*", False)])
def test_a_network_file_that_names_an_alternative_name_is_reported(facts: Facts, name: str, *, reported: bool) -> None:
    (pf_facts,) = facts.pfs
    assert pf_facts.pf.netdev is not None
    pf = replace(pf_facts.pf, netdev=replace(pf_facts.pf.netdev, altnames=("enp1s0f0",)))
    text = f"[Match]\nName={name}\n[SR-IOV]\nVirtualFunction=0\n"
    others = ((Source.NETWORK, TextFile("/etc/systemd/network/1.network", text)),)
    findings = diagnose(replace(facts, pfs=(replace(pf_facts, pf=pf),), others=others)).findings
    assert [finding.check for finding in findings] == ["other-manager"] * reported


# The order


def _check_that_finds(check: str, severity: Severity) -> Callable[[Facts], list[Finding]]:
    return lambda _: [Finding(check, severity, "", "", "", "")]


def test_errors_come_first_in_the_order_of_the_checks(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = (
        _check_that_finds("a", Severity.NOTE),
        _check_that_finds("b", Severity.ERROR),
        _check_that_finds("c", Severity.WARNING),
        _check_that_finds("d", Severity.ERROR),
    )
    monkeypatch.setattr("vfagent.doctor.checks.registry.CHECKS", checks)
    assert [finding.check for finding in diagnose(facts).findings] == ["b", "d", "c", "a"]


@pytest.mark.parametrize("severity", Severity)
def test_only_errors_make_a_host_unhealthy(severity: Severity) -> None:
    assert Diagnosis((Finding("a", severity, "", "", "", ""),)).healthy is (severity is not Severity.ERROR)


def test_each_check_runs_once() -> None:
    assert len(set(CHECKS)) == len(CHECKS)
