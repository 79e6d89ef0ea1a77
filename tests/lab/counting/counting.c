// SPDX-License-Identifier: GPL-2.0
/*
 * A PF with one VF that sends back what it receives, and whose traffic the PF
 * counts, as the drivers of many NICs do: no emulated NIC's driver does.
 */
#include <linux/device.h>
#include <linux/etherdevice.h>
#include <linux/if_link.h>
#include <linux/module.h>
#include <linux/netdevice.h>

static struct ifla_vf_stats counted;
static struct net_device *netdev;

static int counting_num_vf(struct device *dev)
{
	return 1;
}

static const struct bus_type counting_bus = {
	.name = "counting",
	.num_vf = counting_num_vf,
};

static struct device *parent;

static netdev_tx_t counting_xmit(struct sk_buff *skb, struct net_device *dev)
{
	counted.rx_packets++;
	counted.rx_bytes += skb->len;
	if (is_broadcast_ether_addr(skb->data))
		counted.broadcast++;
	else if (is_multicast_ether_addr(skb->data))
		counted.multicast++;
	counted.tx_packets++;
	counted.tx_bytes += skb->len;
	skb_orphan(skb);
	skb->protocol = eth_type_trans(skb, dev);
	netif_rx(skb);
	return NETDEV_TX_OK;
}

static int counting_get_vf_config(struct net_device *dev, int vf,
				  struct ifla_vf_info *info)
{
	memset(info, 0, sizeof(*info));
	info->vf = vf;
	return 0;
}

static int counting_get_vf_stats(struct net_device *dev, int vf,
				 struct ifla_vf_stats *stats)
{
	*stats = counted;
	return 0;
}

static const struct net_device_ops counting_ops = {
	.ndo_start_xmit = counting_xmit,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_get_vf_config = counting_get_vf_config,
	.ndo_get_vf_stats = counting_get_vf_stats,
};

static void counting_setup(struct net_device *dev)
{
	ether_setup(dev);
	eth_hw_addr_random(dev);
	dev->netdev_ops = &counting_ops;
}

static void counting_release(struct device *dev)
{
	kfree(dev);
}

static int counting_add_parent(void)
{
	int err;

	parent = kzalloc(sizeof(*parent), GFP_KERNEL);
	if (!parent)
		return -ENOMEM;
	parent->bus = &counting_bus;
	parent->release = counting_release;
	dev_set_name(parent, "counting0");
	err = device_register(parent);
	if (err)
		put_device(parent);
	return err;
}

static int counting_add_netdev(void)
{
	int err;

	netdev = alloc_netdev(0, "counting%d", NET_NAME_ENUM, counting_setup);
	if (!netdev)
		return -ENOMEM;
	SET_NETDEV_DEV(netdev, parent);
	err = register_netdev(netdev);
	if (err)
		free_netdev(netdev);
	return err;
}

static int __init counting_init(void)
{
	int err = bus_register(&counting_bus);

	if (err)
		return err;
	err = counting_add_parent();
	if (err)
		goto no_parent;
	err = counting_add_netdev();
	if (!err)
		return 0;
	device_unregister(parent);
no_parent:
	bus_unregister(&counting_bus);
	return err;
}

static void __exit counting_exit(void)
{
	unregister_netdev(netdev);
	free_netdev(netdev);
	device_unregister(parent);
	bus_unregister(&counting_bus);
}

module_init(counting_init);
module_exit(counting_exit);
MODULE_DESCRIPTION("A PF that counts its VF's traffic");
MODULE_LICENSE("GPL");
