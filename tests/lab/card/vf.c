// SPDX-License-Identifier: GPL-2.0
/*
 * The VF's driver: a netdev with the MAC that the PF gave, if the kind is a NIC
 * with netdevs.
 */
#include <linux/etherdevice.h>

#include "labcard.h"

static netdev_tx_t drop(struct sk_buff *skb, struct net_device *dev)
{
	dev_kfree_skb(skb);
	return NETDEV_TX_OK;
}

static const struct net_device_ops vf_ops = {
	.ndo_start_xmit = drop,
	.ndo_set_mac_address = eth_mac_addr,
};

int vf_probe(struct pci_dev *pdev)
{
	const struct kind *kind = card_of(pdev->bus)->kind;
	struct pf *pf = pci_get_drvdata(pci_physfn(pdev));
	struct net_device *dev;
	const u8 *mac;
	int err;

	if (kind->no_netdev || kind->infiniband)
		return 0;
	dev = alloc_etherdev(0);
	if (!dev)
		return -ENOMEM;
	dev->netdev_ops = &vf_ops;
	SET_NETDEV_DEV(dev, &pdev->dev);
	mac = pf ? pf->vfs[pci_iov_vf_id(pdev)].info.mac : NULL;
	if (mac && is_valid_ether_addr(mac))
		eth_hw_addr_set(dev, mac);
	else
		eth_hw_addr_random(dev); /* udev may set another */
	err = register_netdev(dev);
	if (err) {
		free_netdev(dev);
		return err;
	}
	pci_set_drvdata(pdev, dev);
	return 0;
}

void vf_remove(struct pci_dev *pdev)
{
	struct net_device *dev = pci_get_drvdata(pdev);

	if (!dev)
		return;
	unregister_netdev(dev);
	free_netdev(dev);
}
