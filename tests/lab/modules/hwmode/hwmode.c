// SPDX-License-Identifier: GPL-2.0
/*
 * The bridge mode (VEB or VEPA) of a NIC with an embedded switch, which no
 * emulated NIC has. Without a parameter it makes a netdev that does nothing but
 * keep the mode set on it. With pf=NAME it gives the operation to that PF, with
 * the rules of real drivers: it is refused without VFs, and lost with the last.
 */
#include <linux/etherdevice.h>
#include <linux/if_bridge.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <linux/rtnetlink.h>
#include <net/netlink.h>

static char *pf;
module_param(pf, charp, 0444);
MODULE_PARM_DESC(pf, "the netdev of a PF that is to have the operation");

static u16 bridge_mode = BRIDGE_MODE_VEB;
static struct net_device *netdev;
static struct net_device_ops pf_ops;

static bool without_vfs(struct net_device *dev)
{
	return dev->dev.parent && !pci_num_vf(to_pci_dev(dev->dev.parent));
}

static netdev_tx_t hwmode_xmit(struct sk_buff *skb, struct net_device *dev)
{
	dev_kfree_skb(skb);
	return NETDEV_TX_OK;
}

static int hwmode_setlink(struct net_device *dev, struct nlmsghdr *nlh,
			  u16 flags, struct netlink_ext_ack *extack)
{
	struct nlattr *spec, *attr;
	u16 mode;
	int rem;

	if (without_vfs(dev))
		return -EOPNOTSUPP;
	spec = nlmsg_find_attr(nlh, sizeof(struct ifinfomsg), IFLA_AF_SPEC);
	if (!spec)
		return -EINVAL;
	nla_for_each_nested(attr, spec, rem) {
		if (nla_type(attr) != IFLA_BRIDGE_MODE)
			continue;
		mode = nla_get_u16(attr);
		if (mode != BRIDGE_MODE_VEB && mode != BRIDGE_MODE_VEPA)
			return -EINVAL;
		bridge_mode = mode;
		return 0;
	}
	return -EINVAL;
}

static int hwmode_getlink(struct sk_buff *skb, u32 pid, u32 seq,
			  struct net_device *dev, u32 filter_mask, int nlflags)
{
	if (without_vfs(dev))
		return -EOPNOTSUPP;
	return ndo_dflt_bridge_getlink(skb, pid, seq, dev, bridge_mode, 0, 0,
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
	ether_setup(dev);
	eth_hw_addr_random(dev);
	dev->netdev_ops = &hwmode_ops;
}

static int hwmode_device_gone(struct notifier_block *block, unsigned long event,
			      void *data)
{
	struct pci_dev *dev = to_pci_dev(data);

	if (event == BUS_NOTIFY_REMOVED_DEVICE && dev->is_virtfn &&
	    &pci_physfn(dev)->dev == netdev->dev.parent)
		bridge_mode = BRIDGE_MODE_VEB;
	return NOTIFY_DONE;
}

static struct notifier_block hwmode_notifier = {
	.notifier_call = hwmode_device_gone,
};

static int hwmode_give(void)
{
	netdev = dev_get_by_name(&init_net, pf);
	if (!netdev)
		return -ENODEV;
	if (!netdev->dev.parent || !dev_is_pci(netdev->dev.parent)) {
		dev_put(netdev);
		return -EINVAL;
	}
	rtnl_lock();
	pf_ops = *netdev->netdev_ops;
	pf_ops.ndo_bridge_setlink = hwmode_setlink;
	pf_ops.ndo_bridge_getlink = hwmode_getlink;
	netdev->netdev_ops = &pf_ops;
	rtnl_unlock();
	dev_put(netdev);
	/* The PF uses it from now on: it stays loaded. */
	__module_get(THIS_MODULE);
	return bus_register_notifier(&pci_bus_type, &hwmode_notifier);
}

static int __init hwmode_init(void)
{
	int err;

	if (pf)
		return hwmode_give();
	netdev = alloc_netdev(0, "hwmode%d", NET_NAME_ENUM, hwmode_setup);
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
MODULE_DESCRIPTION("The bridge mode of a NIC with an embedded switch");
MODULE_LICENSE("GPL");
