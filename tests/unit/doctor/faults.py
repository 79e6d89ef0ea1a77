# SPDX-License-Identifier: Apache-2.0
"""Faults of a host: each is one change to the tree of a healthy one."""

import os
import shutil
from collections.abc import Callable

from tests.host.tree import Tree, point, put
from tests.unit.doctor.hosts import PF, POLICY, config_space, rom
from tests.unit.guest.firmware import descriptor
from vfagent import __version__
from vfagent.guests.spec.boot import IPXE_IMAGES
from vfagent.guests.spec.qemu import QEMU
from vfagent.model.codec import encode
from vfagent.model.status import FailureStatus, PfStatus, Phase, PolicyStatus, Status
from vfagent.store.state import write_json

Fault = Callable[[Tree], None]
FAULTS: dict[str, Fault] = {}
MLX5_POLICY = POLICY.replace('"igb"', '"mlx5_core"')


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def write(tree: Tree, path: str, text: str) -> None:
    put(tree.root / path, text)


def remove(tree: Tree, path: str) -> None:
    (tree.root / path).unlink()


def without_vfs(tree: Tree) -> None:
    tree.make_vfs(PF, 0)


def edit(tree: Tree, old: str, new: str) -> None:
    assert old in POLICY
    tree.policy(POLICY.replace(old, new))


@fault
def nothing_wrong(tree: Tree) -> None:
    pass


# The policy


@fault
def no_policy(tree: Tree) -> None:
    remove(tree, "etc/vfagent/policy.toml")


@fault
def drop_ins_of_everybody(tree: Tree) -> None:
    write(tree, "etc/vfagent/policy.d/20.toml", "")
    (tree.root / "etc/vfagent/policy.d").chmod(0o777)


@fault
def readable_secret(tree: Tree) -> None:
    edit(tree, 'memory = "512M"', 'memory = "512M"\nchap = { user = "me", secret = "/etc/vfagent/chap" }')
    write(tree, "etc/vfagent/chap", "opensesame\n")
    (tree.root / "etc/vfagent/chap").chmod(0o644)


@fault
def disk_that_all_users_can_write(tree: Tree) -> None:
    tree.policy(POLICY.partition("[guest.ipxe]")[0] + '[[guest.disk]]\npath = "/srv/cirros.img"\n')
    write(tree, "srv/cirros.img", "")
    (tree.root / "srv/cirros.img").chmod(0o666)


@fault
def screens_that_others_can_open(tree: Tree) -> None:
    guest = '\n[[guest]]\nname = "{name}"\nvfs = ["storage:1"]\n{vnc}\nipxe.address = "dhcp"\n'
    remote = 'vnc_remote = "192.0.2.10:0"\nvnc_password = "/etc/vfagent/vnc"'
    policy = POLICY.replace('memory = "512M"', 'vnc = "127.0.0.1:0"')
    tree.policy(policy + guest.format(name="far", vnc=remote))
    _vnc_password(tree)


def _vnc_password(tree: Tree) -> None:
    write(tree, "etc/vfagent/vnc", "opensesa\n")
    (tree.root / "etc/vfagent/vnc").chmod(0o600)


@fault
def screen_that_users_of_the_host_can_open_by_a_password(tree: Tree) -> None:
    edit(tree, 'memory = "512M"', 'vnc = "127.0.0.1:0"\nvnc_password = "/etc/vfagent/vnc"')
    _vnc_password(tree)


@fault
def screen_that_only_root_can_open(tree: Tree) -> None:
    edit(tree, 'memory = "512M"', 'vnc = "unix"')


@fault
def policy_with_two_mistakes(tree: Tree) -> None:
    tree.policy(POLICY.replace("vfs = 2", "vsf = 2").replace('"stable"', '"steady"'))


@fault
def rule_with_a_typo(tree: Tree) -> None:
    edit(tree, '"igb"', '"igbb"')


@fault
def rule_after_a_wider_one(tree: Tree) -> None:
    tree.policy(POLICY + f'[[pf]]\nname = "late"\nmatch = {{ pci = "{PF}" }}\nvfs = 1\n')


@fault
def policy_of_another_host(tree: Tree) -> None:
    """What another host needs causes no finding on this one."""
    edit(tree, '{ driver = "igb" }', '{ driver = "igb", host = "not-this-one" }')
    no_qemu_and_no_ipxe(tree)
    vfio_pci_not_loaded(tree)


# IOMMU


@fault
def intel_iommu_missing_on_the_command_line(tree: Tree) -> None:
    without_vfs(tree)
    _no_groups(tree)
    write(tree, "proc/cmdline", "root=/dev/sda1 quiet\n")


@fault
def iommu_off_in_the_firmware_of_an_amd_host(tree: Tree) -> None:
    without_vfs(tree)
    _no_groups(tree)
    write(tree, "proc/cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t\t: fpu svm\n")
    remove(tree, "sys/firmware/acpi/tables/DMAR")
    write(tree, "sys/firmware/acpi/tables/FACP", "")


@fault
def iommu_off_on_the_command_line(tree: Tree) -> None:
    without_vfs(tree)
    _no_groups(tree)
    write(tree, "proc/cmdline", "root=/dev/sda1 intel_iommu=on iommu=off\n")


@fault
def vm_without_an_iommu(tree: Tree) -> None:
    without_vfs(tree)
    _no_groups(tree)
    write(tree, "proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor\n")
    remove(tree, "sys/firmware/acpi/tables/DMAR")
    write(tree, "sys/firmware/acpi/tables/FACP", "")
    (tree.root / "sys/class/misc/kvm/dev").unlink()
    (tree.root / "sys/class/misc/kvm").rmdir()


def _no_groups(tree: Tree) -> None:
    for group in (tree.root / "sys/kernel/iommu_groups").iterdir():
        (group / "devices").rmdir()
        group.rmdir()


@fault
def arm_without_an_smmu(tree: Tree) -> None:
    without_vfs(tree)
    _no_groups(tree)
    write(tree, "proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 200.00\nCPU implementer\t: 0x43\n")
    (tree.root / "sys/class/misc/kvm/dev").unlink()
    (tree.root / "sys/class/misc/kvm").rmdir()
    remove(tree, "sys/firmware/acpi/tables/DMAR")
    write(tree, "sys/firmware/acpi/tables/FACP", "")


@fault
def arm_whose_smmu_did_not_start(tree: Tree) -> None:
    arm_without_an_smmu(tree)
    write(tree, "sys/firmware/acpi/tables/IORT", "")


@fault
def groups_of_no_iommu_mode(tree: Tree) -> None:
    """vfio makes a group for each device that is bound to it."""
    for group in (tree.root / "sys/kernel/iommu_groups").iterdir():
        put(group / "name", "vfio-noiommu\n")
    (tree.device(tree.vfs(PF)[1]) / "iommu_group").unlink()
    tree.bind(tree.vfs(PF)[1], None)
    write(tree, "sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n")


@fault
def intels_iommu_beside_amds_processor(tree: Tree) -> None:
    intel_iommu_missing_on_the_command_line(tree)
    write(tree, "proc/cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t\t: fpu svm hypervisor\n")


@fault
def interrupts_are_not_remapped(tree: Tree) -> None:
    write(tree, "proc/interrupts", "  24:  0  0  PCI-MSI-0000:00:1f.2  0-edge  ahci\n")


@fault
def interrupts_are_not_remapped_and_allowed(tree: Tree) -> None:
    interrupts_are_not_remapped(tree)
    write(tree, "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y\n")
    write(tree, "sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n")


@fault
def group_shared_by_a_vf_and_its_pf(tree: Tree) -> None:
    for vf in tree.vfs(PF):
        (tree.device(vf) / "iommu_group").unlink()
        point(tree.device(vf) / "iommu_group", "../../../../kernel/iommu_groups/100")
        tree.bind(vf, None)
    for address in (PF, *tree.vfs(PF)):
        point(tree.root / f"sys/kernel/iommu_groups/100/devices/{address}", f"../../../../bus/pci/devices/{address}")


@fault
def group_that_future_vfs_will_share(tree: Tree) -> None:
    without_vfs(tree)
    tree.add_device("0000:02:00.0", **{"class": "0x010601"})
    tree.bind("0000:02:00.0", "ahci")
    tree.add_device("0000:00:1c.0", **{"class": "0x060400"})
    tree.bind("0000:00:1c.0", "pcieport")
    for address in (PF, "0000:02:00.0", "0000:00:1c.0"):
        point(tree.root / f"sys/kernel/iommu_groups/7/devices/{address}", f"../../../../bus/pci/devices/{address}")
    point(tree.device(PF) / "iommu_group", "../../../../kernel/iommu_groups/7")


@fault
def iommu_refused_dma(tree: Tree) -> None:
    line = "DMAR: [DMA Write NO_PASID] Request device [01:10.0] fault addr 0xfee00000 [fault reason 0x05] PTE Write"
    write(tree, "var/log/dmesg", f"[  100.1] {line}\n[  101.2] {line}\n")


# vfio-pci and drivers


@fault
def vfio_pci_not_loaded(tree: Tree) -> None:
    without_vfs(tree)
    (tree.root / "sys/bus/pci/drivers/vfio-pci").rmdir()


@fault
def vfio_variant_not_loaded(tree: Tree) -> None:
    edit(tree, 'driver = "vfio-pci"', 'driver = "mlx5_vfio_pci"')


@fault
def vfio_variant_blocked(tree: Tree) -> None:
    vfio_variant_not_loaded(tree)
    write(tree, "etc/modprobe.d/hardening.conf", "blacklist mlx5_vfio_pci\n")


@fault
def vfio_pci_blocked(tree: Tree) -> None:
    vfio_pci_not_loaded(tree)
    write(tree, "etc/modprobe.d/hardening.conf", "# no passthrough\nblacklist vfio_pci\n")


@fault
def vfio_pci_replaced_by_false(tree: Tree) -> None:
    vfio_pci_not_loaded(tree)
    write(tree, "etc/modprobe.d/hardening.conf", "install vfio-pci /bin/false\n")


@fault
def vfio_pci_not_in_this_kernel(tree: Tree) -> None:
    vfio_pci_not_loaded(tree)
    write(tree, "lib/modules/6.12.48+deb13-amd64/modules.dep", "kernel/net/8021q/8021q.ko.xz:\n")


@fault
def pf_driver_blocked(tree: Tree) -> None:
    tree.bind(PF, None)
    without_vfs(tree)
    edit(tree, '{ driver = "igb" }', f'{{ driver = "igb", pci = "{PF}" }}')
    write(tree, "proc/cmdline", "intel_iommu=on module_blacklist=nouveau,igb\n")


@fault
def pf_without_a_driver(tree: Tree) -> None:
    without_vfs(tree)
    tree.bind(PF, None)
    edit(tree, '{ driver = "igb" }', f'{{ pci = "{PF}" }}')


@fault
def pf_without_a_netdev(tree: Tree) -> None:
    without_vfs(tree)
    for path in sorted((tree.device(PF) / "net").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tree.device(PF) / "net").rmdir()
    edit(tree, '{ driver = "igb" }', f'{{ pci = "{PF}" }}')


@fault
def pf_in_another_network_namespace(tree: Tree) -> None:
    """The folder of its netdev stays, and is empty in this one."""
    pf_without_a_netdev(tree)
    (tree.device(PF) / "net").mkdir()


@fault
def pf_bound_to_vfio_pci(tree: Tree) -> None:
    without_vfs(tree)
    tree.bind(PF, "vfio-pci")
    edit(tree, '{ driver = "igb" }', f'{{ pci = "{PF}" }}')
    write(tree, "etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:1b80,8086:10c9 disable_vga=1\n")


@fault
def accelerator_whose_pf_is_on_vfio_pci(tree: Tree) -> None:
    """A process drives the PF on purpose."""
    pf_bound_to_vfio_pci(tree)
    tree.add_device(PF, device="0x0d5c", **{"class": "0x120001"})
    write(tree, "etc/modprobe.d/vfio.conf", "options vfio-pci ids=8086:0d5c\n")


@fault
def accelerator_on_vfio_pci_with_enable_sriov(tree: Tree) -> None:
    accelerator_whose_pf_is_on_vfio_pci(tree)
    write(tree, "sys/module/vfio_pci/parameters/enable_sriov", "Y\n")


@fault
def pf_bound_to_a_vfio_variant(tree: Tree) -> None:
    without_vfs(tree)
    tree.bind(PF, "mlx5_vfio_pci")
    edit(tree, '{ driver = "igb" }', f'{{ pci = "{PF}" }}')


@fault
def vfs_in_vfio_pcis_denylist(tree: Tree) -> None:
    without_vfs(tree)
    tree.add_device(PF, sriov_vf_device="37c9")


@fault
def vfs_in_the_denylist_that_is_off(tree: Tree) -> None:
    vfs_in_vfio_pcis_denylist(tree)
    write(tree, "sys/module/vfio_pci/parameters/disable_denylist", "Y\n")


@fault
def vfs_in_the_denylist_of_a_module_to_come(tree: Tree) -> None:
    vfs_in_vfio_pcis_denylist(tree)
    vfio_pci_not_loaded(tree)
    write(tree, "etc/modprobe.d/vfio.conf", "options vfio_pci ids=8086:37c9 disable_denylist=1\n")


def _vf_driver_blocked(tree: Tree, driver: str | None) -> None:
    """VF 0 for the guest, VF 1 as said."""
    tree.bind(tree.vfs(PF)[1], None)
    second = f'[[pf.vf]]\nindex = "1"\ndriver = "{driver}"\n\n[[guest]]' if driver else "[[guest]]"
    tree.policy(POLICY.replace('index = "*"', 'index = "0"').replace("[[guest]]", second, 1))
    write(tree, "etc/modprobe.d/vf.conf", "blacklist igbvf\n")


@fault
def vf_driver_blocked(tree: Tree) -> None:
    _vf_driver_blocked(tree, "host")


@fault
def named_vf_driver_blocked(tree: Tree) -> None:
    _vf_driver_blocked(tree, "igbvf")


@fault
def vf_driver_blocked_and_no_vf_for_the_host(tree: Tree) -> None:
    _vf_driver_blocked(tree, None)


@fault
def vf_driver_blocked_and_all_vfs_for_guests(tree: Tree) -> None:
    write(tree, "etc/modprobe.d/vf.conf", "blacklist igbvf\n")


@fault
def vf_driver_loaded_in_spite_of_the_blacklist(tree: Tree) -> None:
    _vf_driver_blocked(tree, "host")
    (tree.root / "sys/bus/pci/drivers/igbvf").mkdir(parents=True)


@fault
def vfio_pci_binds_vfs_by_id(tree: Tree) -> None:
    write(tree, "proc/cmdline", "intel_iommu=on vfio-pci.ids=8086:10ca\n")


@fault
def driverctl_overrides_a_vf(tree: Tree) -> None:
    write(tree, f"etc/driverctl.d/pci-{tree.vfs(PF)[1]}", "igbvf\n")


# Firmware, BARs and bus numbers


def _without_sriov(tree: Tree, vendor: str, device: str, config: bytes | None) -> None:
    """The PF's card shows no SR-IOV."""
    without_vfs(tree)
    for name in ("sriov_totalvfs", "sriov_numvfs", "sriov_drivers_autoprobe", "sriov_vf_device"):
        remove(tree, f"sys/bus/pci/devices/{PF}/{name}")
    tree.add_device(PF, vendor=vendor, device=device)
    if config is not None:
        (tree.device(PF) / "config").write_bytes(config)


@fault
def sriov_off_in_the_cards_firmware(tree: Tree) -> None:
    _without_sriov(tree, "0x15b3", "0x1017", config_space(None))
    tree.bind(PF, "mlx5_core")
    tree.policy(MLX5_POLICY)


@fault
def firmware_that_offers_no_vfs(tree: Tree) -> None:
    _without_sriov(tree, "0x8086", "0x10c9", config_space(0))


@fault
def kernel_that_refuses_sriov(tree: Tree) -> None:
    _without_sriov(tree, "0x8086", "0x10c9", config_space(7))


@fault
def card_without_sriov(tree: Tree) -> None:
    tree.add_device("0000:03:00.0", vendor="0x8086", device="0x100e", **{"class": "0x020000"})
    (tree.device("0000:03:00.0") / "config").write_bytes(config_space(None))


@fault
def rule_for_a_card_without_sriov(tree: Tree) -> None:
    card_without_sriov(tree)
    edit(tree, '{ driver = "igb" }', '{ pci = "0000:03:00.0" }')


@fault
def sriov_off_without_a_policy(tree: Tree) -> None:
    sriov_off_in_the_cards_firmware(tree)
    no_policy(tree)


@fault
def vf_without_a_group(tree: Tree) -> None:
    vf = tree.vfs(PF)[1]
    (tree.device(vf) / "iommu_group").unlink()
    tree.bind(vf, None)


@fault
def no_bar_space_for_the_vfs(tree: Tree) -> None:
    without_vfs(tree)
    bar = f"[    1.10] pci {PF}: VF BAR 0 [mem size 0x0001c000 64bit pref]: can't assign; no space\n"
    write(tree, "var/log/dmesg", f"{bar}[    9.20] igb {PF}: not enough MMIO resources for SR-IOV\n")


@fault
def no_bus_numbers_for_the_vfs(tree: Tree) -> None:
    without_vfs(tree)
    tree.add_device(PF, ari_enabled="0")
    line = f"igb {PF}: can't enable 2 VFs (bus 02 out of range of [bus 01])"
    write(tree, "var/log/dmesg", f"[    9.20] {line}\n[   19.20] {line}\n")


@fault
def vfs_created_after_a_lack_of_bar_space(tree: Tree) -> None:
    write(tree, "var/log/dmesg", f"[    9.20] igb {PF}: not enough MMIO resources for SR-IOV\n")


@fault
def driver_that_creates_no_more_vfs(tree: Tree) -> None:
    write(tree, "var/log/dmesg", f"[    2.50] i40e {PF}: Limited to 32 VFs due to device resource constraints\n")


@fault
def other_kernel_log_lines(tree: Tree) -> None:
    lines = (
        f"igb {PF}: Only 0 MSI-X interrupts available for SR-IOV. Not enough to support minimum of 2 MSI-X",
        f"igb {PF}: Direct firmware load for intel/igb.pkg failed with error -2",
        f"vfio-pci {tree.vfs(PF)[0]}: BAR 0: can't reserve [mem 0xf0000000-0xf0003fff 64bit]",
        "igb 0000:09:00.0: not enough MMIO resources for SR-IOV",
    )
    write(tree, "var/log/dmesg", "".join(f"[    2.50] {line}\n" for line in lines))


@fault
def ice_in_safe_mode(tree: Tree) -> None:
    without_vfs(tree)
    line = "The DDP package file was not found or could not be read. Entering Safe Mode"
    write(tree, "var/log/dmesg", f"[    4.20] ice {PF}: {line}\n")


@fault
def resets_and_pcie_errors(tree: Tree) -> None:
    error = "AER: PCIe Bus Error: severity={}, type=Transaction Layer, (Requester ID)"
    lines = (
        f"vfio-pci {tree.vfs(PF)[0]}: not ready 65535ms after FLR; giving up",
        f"igb {PF}: {error.format('Uncorrectable (Non-Fatal)')}",
        f"igb {PF}: {error.format('Correctable')}",
    )
    write(tree, "var/log/dmesg", "".join(f"[   92.50] {line}\n" for line in lines))


def _mlx4(tree: Tree) -> None:
    tree.bind(PF, "mlx4_core")
    tree.policy(POLICY.replace('"igb"', '"mlx4_core"'))


@fault
def mlx4_loaded_without_its_parameter(tree: Tree) -> None:
    without_vfs(tree)
    _mlx4(tree)
    write(tree, "sys/module/mlx4_core/parameters/num_vfs", "\n")


@fault
def mlx4_whose_parameter_needs_a_reboot(tree: Tree) -> None:
    mlx4_loaded_without_its_parameter(tree)
    write(tree, "etc/modprobe.d/mlx4.conf", "options mlx4_core num_vfs=2 probe_vf=0\n")


@fault
def mlx4_with_its_parameter(tree: Tree) -> None:
    _mlx4(tree)
    write(tree, "sys/module/mlx4_core/parameters/num_vfs", "2\n")


@fault
def sriov_off_and_the_kernel_locked_down(tree: Tree) -> None:
    sriov_off_in_the_cards_firmware(tree)
    write(tree, "sys/kernel/security/lockdown", "none [integrity] confidentiality\n")


@fault
def no_lockdown_and_sriov_off(tree: Tree) -> None:
    sriov_off_in_the_cards_firmware(tree)
    write(tree, "sys/kernel/security/lockdown", "[none] integrity confidentiality\n")


@fault
def sriov_off_on_an_mlx4_and_the_kernel_locked_down(tree: Tree) -> None:
    sriov_off_and_the_kernel_locked_down(tree)
    tree.add_device(PF, vendor="0x15b3", device="0x1007")


@fault
def no_card_and_no_policy(tree: Tree) -> None:
    no_policy(tree)
    without_vfs(tree)
    shutil.rmtree(tree.device(PF))


@fault
def more_vfs_than_the_card_has(tree: Tree) -> None:
    edit(tree, "vfs = 2", "vfs = 9")


@fault
def share_of_a_card_that_allows_no_vfs(tree: Tree) -> None:
    edit(tree, "vfs = 2", 'vfs = "max"')
    (tree.device("0000:01:00.0") / "sriov_totalvfs").write_text("0\n")


# Other managers of the card


@fault
def networkd_creates_vfs(tree: Tree) -> None:
    write(
        tree,
        "etc/systemd/network/10-ens1.link",
        "[Match]\nPermanentMACAddress=02:00:00:00:00:01\n[Link]\nSR-IOVVirtualFunctions=4\n",
    )
    write(tree, "etc/systemd/network/20-ens1.network", "[Match]\nName=ens1\n")
    write(tree, "etc/systemd/network/20-ens1.network.d/vf.conf", "[SR-IOV]\nVirtualFunction=0\nVLANId=7\n")
    write(tree, "etc/systemd/network/30-other.link", "[Match]\nDriver=ice\n[Link]\nSR-IOVVirtualFunctions=4\n")


@fault
def netplan_creates_vfs(tree: Tree) -> None:
    ethernets = "    ens1:\n      virtual-function-count: 4\n    ens2:\n      virtual-function-count: 8\n"
    write(tree, "etc/netplan/50-nic.yaml", f"network:\n  version: 2\n  ethernets:\n{ethernets}")


@fault
def networkmanager_creates_vfs(tree: Tree) -> None:
    profile = "[connection]\nid=storage\ninterface-name=ens1\n[ethernet]\n[sriov]\ntotal-vfs=4\n"
    write(tree, "etc/NetworkManager/system-connections/storage.nmconnection", profile)
    write(tree, "run/NetworkManager/devices/1", "[device]\nmanaged=true\nconnection-uuid=0\n")
    write(tree, "run/NetworkManager/devices/2", "[device]\nmanaged=true\n")


@fault
def udev_rules_create_vfs(tree: Tree) -> None:
    rules = (
        '# ATTR{device/sriov_numvfs}="9"\n'
        'ACTION=="add", SUBSYSTEM=="net", KERNEL=="ens1", ATTR{device/sriov_numvfs}="4"\n'
        'ACTION=="add", SUBSYSTEM=="net", KERNEL=="ens9", ATTR{device/sriov_numvfs}="5"\n'
        'SUBSYSTEM=="pci", DRIVER=="igb", \\\n  ATTR{sriov_numvfs}!="0", TAG+="x"\n'
    )
    write(tree, "etc/udev/rules.d/99-vfs.rules", rules)


@fault
def scripts_create_vfs(tree: Tree) -> None:
    write(tree, "etc/rc.local", "#!/bin/sh\n# echo 9 > /sys/class/net/ens1/device/sriov_numvfs\n")
    write(tree, "etc/systemd/system/vfs.service", "[Service]\nExecStart=/bin/bash /usr/local/sbin/vfs ens1\n")
    write(tree, "usr/local/sbin/vfs", '#!/bin/bash\necho 4 > "/sys/class/net/$1/device/sriov_numvfs"\n')
    write(tree, "etc/tmpfiles.d/vfs.conf", f"w /sys/bus/pci/devices/{PF}/sriov_numvfs - - - - 4\n")
    write(tree, "etc/network/interfaces", "iface ens9\n  up echo 4 >/sys/class/net/ens9/device/sriov_numvfs\n")
    write(tree, "etc/modprobe.d/igb.conf", "options igb max_vfs=7\n")


@fault
def libvirt_uses_the_vfs(tree: Tree) -> None:
    network = "<network><forward mode='hostdev' managed='yes'><pf dev='ens1'/></forward></network>\n"
    write(tree, "etc/libvirt/qemu/networks/vfs.xml", network)
    bus, rest = tree.vfs(PF)[1].split(":")[1:]
    slot, function = rest.split(".")
    address = f"<address domain='0x0000' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"
    domain = f"<domain><hostdev mode='subsystem' type='pci'><source>{address}</source></hostdev></domain>\n"
    write(tree, "etc/libvirt/qemu/vm.xml", domain)


@fault
def kubernetes_operators(tree: Tree) -> None:
    write(tree, "etc/systemd/system/sriov-config.service", "[Unit]\n")
    write(tree, "etc/pcidp/config.json", "{}\n")


def enslave(tree: Tree, master: str) -> None:
    write(tree, f"sys/class/net/{master}/ifindex", "9\n")
    own = tree.device(PF) / "net/ens1"
    point(own / "master", os.path.relpath(tree.root / "sys/class/net" / master, own))


@fault
def pf_in_a_bridge(tree: Tree) -> None:
    pf_in_a_bridge_that_its_fdb_follows(tree)
    tree.policy(POLICY.replace("vfs = 2", 'vfs = 2\nfdb = "off"'))


@fault
def pf_in_a_bridge_that_its_fdb_follows(tree: Tree) -> None:
    write(tree, "sys/class/net/br0/bridge/vlan_filtering", "0\n")
    enslave(tree, "br0")


@fault
def pf_in_a_bond(tree: Tree) -> None:
    write(tree, "sys/class/net/lag/bonding/mode", "802.3ad 4\n")
    enslave(tree, "lag")


@fault
def pf_in_open_vswitch(tree: Tree) -> None:
    enslave(tree, "ovs-system")


@fault
def pf_in_something_unknown(tree: Tree) -> None:
    tree.policy(POLICY.replace("vfs = 2", 'vfs = 2\nfdb = "off"'))
    enslave(tree, "agg7")


@fault
def vlan_interface_wanted_on_a_port_of_a_bond(tree: Tree) -> None:
    enslave(tree, "bond0")  # known by its name, where the copy has no bonding folder
    edit(tree, "[[guest]]", '[[pf.vlan]]\nid = 10\nname = "vlan10"\n\n[[guest]]')


# The service


@fault
def service_not_installed(tree: Tree) -> None:
    remove(tree, "usr/lib/systemd/system/vfagent.service")


@fault
def udev_rules_missing(tree: Tree) -> None:
    remove(tree, "usr/lib/udev/rules.d/70-vfagent.rules")
    remove(tree, "usr/lib/udev/hwdb.bin")


@fault
def old_process_with_an_old_policy_and_a_failed_pf(tree: Tree) -> None:
    failure = FailureStatus(f"{PF}: cannot create 2 VFs: ENOSPC (No space left on device)", "ask for fewer VFs")
    pf = PfStatus(PF, "ens1", "igb", None, "storage", Phase.FAILED, 2, 0, 8, failures=(failure,))
    policy = PolicyStatus(("/etc/vfagent/policy.toml",), "abc", 0.0)
    status = Status(1, f"{__version__}~old", 1, 0.0, ready=True, policy=policy, pfs=(pf,))
    write_json(tree.root / "run/vfagent/status.json", encode(status))


@fault
def no_machine_id(tree: Tree) -> None:
    remove(tree, "etc/machine-id")


@fault
def one_mac_for_many_cards(tree: Tree) -> None:
    edit(tree, '"stable"', '"52:54:00:bb:00:{index:02x}"')
    for bus in range(5, 10):
        tree.add_pf(f"0000:{bus:02x}:00.0", vfs=2, interface=f"ens{bus}")
        for vf in tree.vfs(f"0000:{bus:02x}:00.0"):
            tree.bind(vf, "vfio-pci")


@fault
def representor_that_is_a_port_of_open_vswitch(tree: Tree) -> None:
    tree.bind(PF, "mlx5_core")
    rule = MLX5_POLICY.replace("vfs = 2", 'vfs = 2\neswitch = "switchdev"').replace('mac = "stable"', 'bridge = "br0"')
    tree.policy(rule + '[[bridge]]\nname = "br0"\n')
    tree.add_netdev("ovs-system", "0000:99:00.0")
    for name, port in (("ens1", "p0"), ("eth0", "pf0vf0"), ("eth1", "pf0vf1")):
        if name != "ens1":
            tree.add_netdev(name, PF)
            os.symlink("../..", tree.device(PF) / "net" / name / "device")
            os.symlink("../../../../../../class/net/ovs-system", tree.device(PF) / "net" / name / "master")
        put(tree.device(PF) / "net" / name / "phys_port_name", f"{port}\n")
        put(tree.device(PF) / "net" / name / "phys_switch_id", "aa\n")


@fault
def chelsio_by_the_netdev_of_its_ports(tree: Tree) -> None:
    """cxgb4's netdevs are function 4's, and its VFs those of 0 to 3."""
    tree.policy(POLICY.replace('driver = "igb"', 'interface = "enp5s0f4"'))
    without_vfs(tree)
    tree.add_device("0000:05:00.4", vendor="0x1425", device="0x5401", **{"class": "0x020000"})
    tree.bind("0000:05:00.4", "cxgb4")
    tree.add_netdev("enp5s0f4", "0000:05:00.4")


@fault
def one_mac_for_two_cards(tree: Tree) -> None:
    tree.add_pf("0000:05:00.0", vfs=2, interface="ens5")
    for vf in tree.vfs("0000:05:00.0"):
        tree.bind(vf, "vfio-pci")
    edit(tree, '"stable"', '"52:54:00:bb:00:{index:02x}"')


@fault
def vepa_and_an_old_mlx5(tree: Tree) -> None:
    tree.bind(PF, "mlx5_core")
    tree.policy(MLX5_POLICY.replace("vfs = 2", 'vfs = 2\nhwmode = "vepa"'))
    write(tree, "proc/version", "Linux version 6.1.0-25-amd64 (x) #1 SMP Debian 6.1.106-3 (2024-08-26)\n")


@fault
def kernel_that_deadlocks_when_a_card_is_removed(tree: Tree) -> None:
    write(tree, "proc/version", "Linux version 6.12.57+deb13-amd64 (x) #1 SMP Debian 6.12.57-1 (2025-11-05)\n")


@fault
def an_e810_with_vfs_in_two_vlans(tree: Tree) -> None:
    tree.bind(PF, "ice")
    second = '[[pf.vf]]\nindex = "*"\ndriver = "vfio-pci"\nvlan = 20\n\n[[guest]]'
    policy = POLICY.replace('"igb"', '"ice"').replace('index = "*"', 'index = "0"').replace("[[guest]]", second, 1)
    tree.policy(policy.replace('mac = "stable"', 'mac = "stable"\nvlan = 10'))


@fault
def isolation_that_the_driver_refuses(tree: Tree) -> None:
    edit(tree, 'mac = "stable"', 'vlan = 10\nspoof_check = true\ntrust = false\noptional = ["trust"]')
    refused = dict.fromkeys(("vlan", "spoof_check", "trust"), "EOPNOTSUPP (Operation not supported)")
    ifindex = int((tree.root / "sys/class/net/ens1/ifindex").read_text())
    state = {"driver": "igb", "ifindex": ifindex, "unsupported": refused}
    write_json(tree.root / f"run/vfagent/driver-state/{PF}.json", state)


# Guests


@fault
def no_qemu_and_no_ipxe(tree: Tree) -> None:
    remove(tree, QEMU.lstrip("/"))
    remove(tree, IPXE_IMAGES["bios"].lstrip("/"))


@fault
def no_kvm(tree: Tree) -> None:
    remove(tree, "sys/class/misc/kvm/dev")
    (tree.root / "sys/class/misc/kvm").rmdir()


@fault
def kvm_disabled_by_the_firmware(tree: Tree) -> None:
    no_kvm(tree)
    write(tree, "var/log/dmesg", "[    5.0] kvm: disabled by bios\n")


@fault
def kvm_that_runs_no_guest(tree: Tree) -> None:
    write(tree, "run/vfagent/kvm.json", "false")
    write(tree, "etc/group", "root:x:0:\n")


@fault
def vf_without_an_ipxe_driver(tree: Tree) -> None:
    tree.add_device(PF, vendor="0x15b3", sriov_vf_device="1018")


@fault
def rom_for_the_pf(tree: Tree) -> None:
    edit(tree, "sanboot", 'loader = "rom"\nrom = "/srv/pf.rom"\nsanboot')
    (tree.root / "srv").mkdir()
    (tree.root / "srv/pf.rom").write_bytes(rom("8086:10c9"))


@fault
def rom_for_the_other_firmware(tree: Tree) -> None:
    edit(tree, "sanboot", 'loader = "rom"\nrom = "/srv/vf.rom"\nsanboot')
    (tree.root / "srv").mkdir()
    (tree.root / "srv/vf.rom").write_bytes(rom("8086:10ca", code=3))


@fault
def no_rom_and_no_uefi(tree: Tree) -> None:
    tree.policy(
        POLICY.replace("sanboot", 'loader = "rom"\nrom = "/srv/vf.rom"\nsanboot').replace(
            'memory = "512M"', 'memory = "512M"\nfirmware = "uefi"'
        )
    )


@fault
def no_swtpm(tree: Tree) -> None:
    edit(tree, 'memory = "512M"', 'memory = "512M"\ntpm = true')


@fault
def uefi_rom_on_an_82599_with_the_spoof_check(tree: Tree) -> None:
    no_rom_and_no_uefi(tree)
    tree.add_device(PF, sriov_vf_device="10ed")
    write(tree, "usr/share/qemu/firmware/60-edk2-x86_64.json", descriptor("/code.fd", "/variables.fd"))
    (tree.root / "srv").mkdir()
    (tree.root / "srv/vf.rom").write_bytes(rom("8086:10ed", code=3))


@fault
def guests_with_more_memory_than_the_host(tree: Tree) -> None:
    edit(tree, 'memory = "512M"', 'memory = "20G"\nhugepages = true')


@fault
def guest_with_huge_pages_of_a_size_that_the_host_has_few_of(tree: Tree) -> None:
    edit(tree, 'memory = "512M"', 'memory = "4G"\nhugepages = "1G"')
    write(tree, "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "4096\n")
    write(tree, "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "2\n")


@fault
def guest_beside_huge_pages_that_take_all_memory(tree: Tree) -> None:
    write(tree, "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "7900\n")


@fault
def local_target_that_does_not_listen(tree: Tree) -> None:
    write(tree, "proc/net/fib_trie", "Local:\n  |-- 192.168.10.1\n        /32 host LOCAL\n")
    write(tree, "proc/net/tcp", "  sl  local rem st\n   0: 00000000:0016 00000000:0000 0A 0\n")


@fault
def local_target_that_listens(tree: Tree) -> None:
    local_target_that_does_not_listen(tree)
    write(tree, "proc/net/tcp", "  sl  local rem st\n   0: 00000000:0CBC 00000000:0000 0A 0\n")


def _without_sysfs_count(tree: Tree, driver: str) -> None:
    without_vfs(tree)
    tree.bind(PF, driver)
    tree.policy(POLICY.replace('"igb"', f'"{driver}"'))


@fault
def vfs_come_from_the_cards_profile(tree: Tree) -> None:
    _without_sysfs_count(tree, "enic")


@fault
def vfs_come_from_a_parameter_of_the_driver(tree: Tree) -> None:
    _without_sysfs_count(tree, "lpfc")


@fault
def a_gpu_that_allows_no_vfs(tree: Tree) -> None:
    _without_sysfs_count(tree, "i915")
    tree.add_device(PF, sriov_totalvfs="0")


@fault
def the_port_above_the_card_has_no_acs(tree: Tree) -> None:
    """Port and card are one IOMMU group, and so will the VFs be."""
    without_vfs(tree)
    port = "0000:00:01.0"
    tree.add_device(port, **{"class": "0x060400"})
    tree.bind(port, "pcieport")
    (tree.device(port) / PF).mkdir()
    group = tree.root / "sys/kernel/iommu_groups/1/devices"
    for address in (port, PF):
        point(group / address, os.path.relpath(tree.device(address), group))
        point(tree.device(address) / "iommu_group", os.path.relpath(group.parent, tree.device(address)))


@fault
def a_vf_was_removed_from_the_bus(tree: Tree) -> None:
    """`echo 1 >remove` of the VF: its PF keeps the link virtfn1."""
    shutil.rmtree(tree.device(tree.vfs(PF)[1]))


@fault
def other_programs_name_the_second_port(tree: Tree) -> None:
    """Both netdevs are of one PCI function; `options` of the driver is reported once."""
    tree.add_netdev("ens1d1", PF)
    put(tree.device(PF) / "net/ens1d1/dev_port", "1\n")
    write(tree, "etc/netplan/50-nic.yaml", "network:\n  ethernets:\n    ens1d1:\n      virtual-function-count: 4\n")
    write(tree, "etc/modprobe.d/igb.conf", "options igb max_vfs=7\n")
