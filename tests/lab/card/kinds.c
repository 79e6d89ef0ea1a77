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
#define ETHERNET (PCI_CLASS_NETWORK_ETHERNET << 8)
#define INFINIBAND 0x020700

const struct kind kinds[] = {
	/* All operations there are. */
	{ "labcard", "labcardvf", ETHERNET, ALL | BIT(VF_RSS) },
	/* igb_netdev_ops: no link state, no statistics */
	{ "igb", "igbvf", ETHERNET, COMMON | BIT(VF_TRUST) },
	/* ixgbe_netdev_ops: no statistics */
	{ "ixgbe", "ixgbevf", ETHERNET, COMMON | BIT(VF_TRUST) | BIT(VF_RSS) | BIT(VF_LINK_STATE) },
	/* i40e_netdev_ops */
	{ "i40e", "iavf", ETHERNET, ALL },
	/* ice_netdev_ops */
	{ "ice", "iavf", ETHERNET, ALL },
	/* mlx5e_netdev_ops */
	{ "mlx5_core", "mlx5_core", ETHERNET, ALL },
	/* bnxt_netdev_ops: no statistics */
	{ "bnxt_en", "bnxt_en", ETHERNET, COMMON | BIT(VF_TRUST) | BIT(VF_LINK_STATE) },
	/* bnx2x_netdev_ops: no rate, no trust, no statistics */
	{ "bnx2x", "bnx2x", ETHERNET, BIT(VF_MAC) | BIT(VF_VLAN) | BIT(VF_SPOOFCHK) | BIT(VF_LINK_STATE) },
	/* ipoib_netdev_ops_pf, by way of mlx5_ib: link state, GUIDs and statistics */
	{ "mlx5_ib", "mlx5_ib", INFINIBAND, BIT(VF_GUID) | BIT(VF_LINK_STATE) | BIT(VF_STATS), .infiniband = true },
	/* adf_sriov_configure(): no netdev, and all VFs or none */
	{ "4xxx", "4xxxvf", PCI_CLASS_PROCESSOR_CO << 8, 0, .no_netdev = true, .all_or_none = true },
	/* Chelsio's PF 0 to 3, ThunderX: a NIC whose PF has VFs and no netdev */
	{ "cxgb4", "cxgb4vf", ETHERNET, 0, .no_netdev = true },
};

const int kinds_count = ARRAY_SIZE(kinds);

const struct kind *kind_by_name(const char *name)
{
	for (int index = 0; index < kinds_count; index++)
		if (!strcmp(kinds[index].name, name))
			return &kinds[index];
	return NULL;
}
