# SPDX-License-Identifier: Apache-2.0
"""The checks, in the order in which to fix their findings: causes before their consequences. Pure."""

from collections.abc import Callable, Iterable

from vfagent.doctor.checks import (
    firmware,
    guests,
    iommu,
    isolation,
    kernel_log,
    memory,
    module_parameters,
    other_managers,
    pfs,
    policy,
    screens,
    service,
    vfio,
)
from vfagent.doctor.checks.facts import Facts
from vfagent.doctor.checks.finding import Diagnosis, Finding, Severity

Check = Callable[[Facts], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    policy.policy_invalid,
    policy.policy_untrusted,
    # Firmware and kernel command line: a fix needs a reboot.
    firmware.sriov_off,
    firmware.no_vfs_offered,
    iommu.iommu_off,
    iommu.interrupts_not_remapped,
    kernel_log.known_lines,
    iommu.group_absent,
    iommu.group_shared,
    iommu.group_will_be_shared,
    # Modules and drivers.
    vfio.vfio_absent,
    vfio.vfio_variant_absent,
    vfio.vfio_denies,
    vfio.pf_driver_blocked,
    vfio.vf_driver_blocked,
    vfio.pf_on_vfio,
    module_parameters.mlx4_parameters,
    module_parameters.vfs_made_at_load,
    # Other programs that use the card.
    other_managers.other_manager,
    vfio.driver_overridden,
    # The service, and its failures.
    service.service_absent,
    service.udev_rules_absent,
    service.service_down,
    service.pf_failed,
    pfs.pf_stuck,
    pfs.pf_not_ready,
    pfs.pf_without_netdev,
    pfs.too_many_vfs,
    pfs.vf_gone,
    isolation.vfs_not_isolated,
    isolation.vfs_as_asked_in_part,
    pfs.carries_administration,
    pfs.vlan_interface_on_a_port,
    pfs.macs_collide,
    # Guests.
    guests.qemu_absent,
    guests.qemu_too_old,
    guests.kvm_group_absent,
    guests.cannot_boot,
    guests.firmware_absent,
    guests.files_absent,
    guests.rom_unfit,
    memory.huge_pages_short,
    memory.memory_short,
    guests.kvm_absent,
    guests.kvm_unusable,
    guests.spoof_check_stops_rom,
    guests.target_silent,
    # Warnings and notes: it works today.
    screens.screen_open,
    policy.rule_matches_nothing,
    policy.rule_shadowed,
    service.service_outdated,
    service.policy_not_loaded,
    service.service_not_enabled,
    iommu.iommu_faults,
    iommu.interrupts_unsafe,
    iommu.no_iommu_mode,
    pfs.mlx5_without_its_fix,
    pfs.removal_deadlocks,
    pfs.vlans_that_meet,
    pfs.no_machine_id,
    vfio.vfio_binds_ids,
    pfs.bridged_pf,
    pfs.vepa_needs_a_switch,
    policy.policy_absent,
    policy.no_pf,
    service.hwdb_absent,
)

_ORDER = list(Severity)


def diagnose(facts: Facts) -> Diagnosis:
    findings = [finding for check in CHECKS for finding in check(facts)]
    return Diagnosis(tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.severity))), facts.not_checked)
