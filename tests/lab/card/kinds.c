// SPDX-License-Identifier: GPL-2.0
/*
 * The drivers that the card imitates: the name under which its driver is
 * registered, and the operations that the real one has in its net_device_ops.
 * What a driver does beyond that is set below its PF's folder in debugfs.
 */
#include <linux/string.h>

#include "labcard.h"

#define COMMON (BIT(VF_MAC) | BIT(VF_VLAN) | BIT(VF_RATE) | BIT(VF_SPOOFCHK))
#define ALL (COMMON | BIT(VF_TRUST) | BIT(VF_LINK_STATE) | BIT(VF_STATS))
#define SWITCH (BIT(HWMODE) | BIT(FDB))
#define ETHERNET (PCI_CLASS_NETWORK_ETHERNET << 8)
#define INFINIBAND 0x020700

const struct kind kinds[] = {
	/* All operations there are. */
	{ "labcard", "labcard", "labcardvf", ETHERNET, ALL | SWITCH | BIT(VF_RSS) },
	/* igb_netdev_ops: no link state, no statistics. igb_ndo_set_vf_bw(), igb_ndo_set_vf_vlan() */
	{ "igb", "igb", "igbvf", ETHERNET, COMMON | BIT(VF_TRUST), .rate_needs_carrier = true, .no_min_rate = true,
	  .only_8021q = true },
	/* ixgbe_netdev_ops: no statistics. ixgbe_ndo_set_vf_bw(), ixgbe_ndo_set_vf_vlan(), ixgbe_ndo_fdb_add() */
	{ "ixgbe", "ixgbe", "ixgbevf", ETHERNET, COMMON | SWITCH | BIT(VF_TRUST) | BIT(VF_RSS) | BIT(VF_LINK_STATE),
	  .rate_needs_carrier = true, .no_min_rate = true, .only_8021q = true },
	/* i40e_netdev_ops. i40e_ndo_set_vf_bw(); i40e_ndo_bridge_setlink() resets the PF */
	{ "i40e", "i40e", "iavf", ETHERNET, ALL | SWITCH, .no_min_rate = true, .hwmode_resets_vfs = true },
	/* ice_netdev_ops. ice_eswitch_mode_set(); ice_set_vf_bw() adds up the minima and compares with the link's speed */
	{ "ice", "ice", "iavf", ETHERNET, ALL | SWITCH, .rate_needs_carrier = true, .eswitch = WITHOUT_VFS },
	/* mlx5e_netdev_ops. mlx5_devlink_eswitch_mode_set() */
	{ "mlx5_core", "mlx5_core", "mlx5_core", ETHERNET, ALL | SWITCH, .eswitch = WITH_UNBOUND_VFS },
	/* bnxt_netdev_ops: no statistics. bnxt_sriov_configure(): "Reject SRIOV config request since if is down", and 0 */
	{ "bnxt_en", "bnxt_en", "bnxt_en", ETHERNET, COMMON | BIT(VF_TRUST) | BIT(VF_LINK_STATE) | BIT(HWMODE),
	  .vfs_need_up = true },
	/* bnx2x_netdev_ops: no rate, no trust, no statistics. bnx2x_sriov_configure() */
	{ "bnx2x", "bnx2x", "bnx2x", ETHERNET, BIT(VF_MAC) | BIT(VF_VLAN) | BIT(VF_SPOOFCHK) | BIT(VF_LINK_STATE),
	  .vfs_need_up = true, .vfs_down = -EINVAL },
	/* otx2_netdev_ops: no rate, no spoof check, no link state. otx2_set_vf_mac(), otx2_set_vf_vlan() */
	{ "rvu_nicpf", "rvu_nicpf", "rvu_nicvf", ETHERNET, BIT(VF_MAC) | BIT(VF_VLAN) | BIT(VF_TRUST), .settings_down = -EAGAIN },
	/* ipoib_netdev_ops_pf: link state, GUIDs and statistics, which mlx5_ib answers */
	{ "ipoib", "mlx5_core", "mlx5_core", INFINIBAND, BIT(VF_GUID) | BIT(VF_LINK_STATE) | BIT(VF_STATS), .infiniband = true },
	/* adf_sriov_configure(): no netdev, and all VFs or none */
	{ "4xxx", "4xxx", "4xxxvf", PCI_CLASS_PROCESSOR_CO << 8, 0, .no_netdev = true, .all_or_none = true },
	/* xe_pci_sriov_configure(): a GPU, of which the kernel does not show who uses it */
	{ "xe", "xe", "xe", PCI_CLASS_DISPLAY_OTHER << 8, 0, .no_netdev = true, .child = GPU },
	/* nvme_driver: pci_sriov_configure_simple(). Its class would have udev load the real nvme */
	{ "nvme", "nvme", "nvme", PCI_CLASS_STORAGE_OTHER << 8, 0, .no_netdev = true, .child = DISK },
	/* ifcvf_vdpa_mgmt_dev_ops */
	{ "ifcvf", "ifcvf", "ifcvf", PCI_CLASS_OTHERS << 16, 0, .no_netdev = true, .child = VDPA },
	/* Chelsio's PF 0 to 3, ThunderX: a NIC whose PF has VFs and no netdev */
	{ "cxgb4", "cxgb4", "cxgb4vf", ETHERNET, 0, .no_netdev = true },
};

const int kinds_count = ARRAY_SIZE(kinds);

const struct kind *kind_by_name(const char *name)
{
	for (int index = 0; index < kinds_count; index++)
		if (!strcmp(kinds[index].name, name))
			return &kinds[index];
	return NULL;
}
