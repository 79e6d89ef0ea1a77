// SPDX-License-Identifier: GPL-2.0
/*
 * A netdev that does nothing but keep the bridge mode (VEB or VEPA) set on it,
 * as NICs with an embedded switch do: no emulated NIC has the operation.
 */
#include <linux/etherdevice.h>
#include <linux/if_bridge.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <net/netlink.h>

struct hwmode {
	u16 mode;
};

static struct net_device *netdev;

static netdev_tx_t hwmode_xmit(struct sk_buff *skb, struct net_device *dev)
{
	dev_kfree_skb(skb);
	return NETDEV_TX_OK;
}

static int hwmode_setlink(struct net_device *dev, struct nlmsghdr *nlh,
			  u16 flags, struct netlink_ext_ack *extack)
{
	struct hwmode *priv = netdev_priv(dev);
	struct nlattr *spec, *attr;
	u16 mode;
	int rem;

	spec = nlmsg_find_attr(nlh, sizeof(struct ifinfomsg), IFLA_AF_SPEC);
	if (!spec)
		return -EINVAL;
	nla_for_each_nested(attr, spec, rem) {
		if (nla_type(attr) != IFLA_BRIDGE_MODE)
			continue;
		mode = nla_get_u16(attr);
		if (mode != BRIDGE_MODE_VEB && mode != BRIDGE_MODE_VEPA)
			return -EINVAL;
		priv->mode = mode;
		return 0;
	}
	return -EINVAL;
}

static int hwmode_getlink(struct sk_buff *skb, u32 pid, u32 seq,
			  struct net_device *dev, u32 filter_mask, int nlflags)
{
	struct hwmode *priv = netdev_priv(dev);

	return ndo_dflt_bridge_getlink(skb, pid, seq, dev, priv->mode, 0, 0,
				       nlflags, filter_mask, NULL);
}

static const struct net_device_ops hwmode_ops = {
	.ndo_start_xmit = hwmode_xmit,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_bridge_setlink = hwmode_setlink,
	.ndo_bridge_getlink = hwmode_getlink,
};

static void hwmode_setup(struct net_device *dev)
{
	struct hwmode *priv = netdev_priv(dev);

	ether_setup(dev);
	eth_hw_addr_random(dev);
	dev->netdev_ops = &hwmode_ops;
	priv->mode = BRIDGE_MODE_VEB;
}

static int __init hwmode_init(void)
{
	int err;

	netdev = alloc_netdev(sizeof(struct hwmode), "hwmode%d",
			      NET_NAME_ENUM, hwmode_setup);
	if (!netdev)
		return -ENOMEM;
	err = register_netdev(netdev);
	if (err)
		free_netdev(netdev);
	return err;
}

static void __exit hwmode_exit(void)
{
	unregister_netdev(netdev);
	free_netdev(netdev);
}

module_init(hwmode_init);
module_exit(hwmode_exit);
MODULE_DESCRIPTION("A netdev that keeps its bridge mode");
MODULE_LICENSE("GPL");
