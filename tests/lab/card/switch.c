// SPDX-License-Identifier: GPL-2.0
/*
 * The embedded switch of a card in legacy mode: whether it passes frames between
 * VFs or sends all of them out (hwmode), and the FDB with its limit.
 */
#include <linux/if_bridge.h>
#include <linux/rtnetlink.h>
#include <net/netlink.h>

#include "labcard.h"

/* As ixgbe_ndo_bridge_setlink() without SR-IOV, and mlx5e_bridge_setlink() outside of legacy mode. */
static int hwmode_answer(struct pf *pf)
{
	int err = answer(pf, HWMODE);

	if (!err && (!pci_num_vf(pf->pdev) || in_switchdev_mode(pf)))
		err = -EOPNOTSUPP;
	return err;
}

int set_hwmode(struct net_device *dev, struct nlmsghdr *nlh, u16 flags, struct netlink_ext_ack *extack)
{
	struct pf *pf = pf_of(dev);
	int err = hwmode_answer(pf), rest;
	struct nlattr *spec, *attr;

	pf->function->counts.hwmodes_without_vfs += !pci_num_vf(pf->pdev);
	spec = nlmsg_find_attr(nlh, sizeof(struct ifinfomsg), IFLA_AF_SPEC);
	if (err || !spec)
		return err ?: -EINVAL;
	nla_for_each_nested(attr, spec, rest) {
		if (nla_type(attr) != IFLA_BRIDGE_MODE)
			continue;
		if (nla_get_u16(attr) != BRIDGE_MODE_VEB && nla_get_u16(attr) != BRIDGE_MODE_VEPA)
			return -EINVAL;
		pf->hwmode = nla_get_u16(attr);
		for (int index = 0; pf->kind->hwmode_resets_vfs && index < MAX_VFS; index++)
			vf_reset(pf, index);
		return 0;
	}
	return -EINVAL;
}

int get_hwmode(struct sk_buff *skb, u32 pid, u32 seq, struct net_device *dev, u32 filter, int nlflags)
{
	struct pf *pf = pf_of(dev);
	int err = hwmode_answer(pf);

	if (err)
		return err;
	return ndo_dflt_bridge_getlink(skb, pid, seq, dev, pf->hwmode, 0, 0, nlflags, filter, NULL);
}

/* As ixgbe_ndo_fdb_add(). */
int add_fdb(struct ndmsg *ndm, struct nlattr *tb[], struct net_device *dev, const unsigned char *address, u16 vid,
	    u16 flags, struct netlink_ext_ack *extack)
{
	int err = answer(pf_of(dev), FDB);

	if (err)
		return err;
	if (netdev_uc_count(dev) >= pf_of(dev)->function->fdb_limit)
		return -ENOMEM;
	return ndo_dflt_fdb_add(ndm, tb, dev, address, vid, flags);
}
