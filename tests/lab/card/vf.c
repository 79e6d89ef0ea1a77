// SPDX-License-Identifier: GPL-2.0
/*
 * The VF's driver. It makes what the kind says: a disk, a GPU, what vDPA devices
 * are made of, or a netdev with the MAC that the PF gave, if the kind is a NIC
 * with netdevs; later than its probe, if the PF's folder in debugfs says so.
 */
#include <linux/delay.h>
#include <linux/etherdevice.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "labcard.h"

/* The VF's driver data. */
struct vf {
	struct net_device *dev;
	struct delayed_work appear;
	bool appeared;
};

static netdev_tx_t drop(struct sk_buff *skb, struct net_device *dev)
{
	dev_kfree_skb(skb);
	return NETDEV_TX_OK;
}

static const struct net_device_ops vf_ops = {
	.ndo_start_xmit = drop,
	.ndo_set_mac_address = eth_mac_addr,
};

static void appear(struct work_struct *work)
{
	struct vf *vf = container_of(work, struct vf, appear.work);

	vf->appeared = !register_netdev(vf->dev);
}

static int make_netdev(struct pci_dev *pdev, unsigned int wait_ms)
{
	struct pf *pf = pci_get_drvdata(pci_physfn(pdev));
	struct net_device *dev = alloc_etherdev(sizeof(struct vf));
	struct vf *vf;
	const u8 *mac;

	if (!dev)
		return -ENOMEM;
	vf = netdev_priv(dev);
	vf->dev = dev;
	INIT_DELAYED_WORK(&vf->appear, appear);
	dev->netdev_ops = &vf_ops;
	dev->max_mtu = 9710;
	SET_NETDEV_DEV(dev, &pdev->dev);
	mac = pf ? pf->vfs[pci_iov_vf_id(pdev)].info.mac : NULL;
	if (mac && is_valid_ether_addr(mac))
		eth_hw_addr_set(dev, mac);
	else
		eth_hw_addr_random(dev); /* udev may set another */
	pci_set_drvdata(pdev, vf);
	if (wait_ms)
		schedule_delayed_work(&vf->appear, msecs_to_jiffies(wait_ms));
	else
		appear(&vf->appear.work);
	return 0;
}

int vf_probe(struct pci_dev *pdev)
{
	struct function *function = function_of(pci_physfn(pdev));
	const struct kind *kind = function->card->kind;

	function->counts.vf_probes++;
	if (function->refuse[VF_PROBE])
		return -(int)function->refuse[VF_PROBE];
	switch (kind->child) {
	case DISK:
		return disk_add(pdev);
	case GPU:
		return gpu_add(pdev);
	case VDPA:
		return vdpa_add(pdev);
	case NETDEV_OR_NOTHING:
		break;
	}
	return kind->no_netdev || kind->infiniband ? 0 : make_netdev(pdev, function->vf_netdev_ms);
}

static void remove_netdev(struct pci_dev *pdev)
{
	struct vf *vf = pci_get_drvdata(pdev);

	if (!vf)
		return;
	cancel_delayed_work_sync(&vf->appear);
	if (vf->appeared)
		unregister_netdev(vf->dev);
	free_netdev(vf->dev);
}

void vf_remove(struct pci_dev *pdev)
{
	struct function *function = function_of(pci_physfn(pdev));

	msleep(function->vf_unbind_ms);
	switch (function->card->kind->child) {
	case DISK:
		disk_remove(pdev);
		break;
	case GPU:
		gpu_remove(pdev);
		break;
	case VDPA:
		vdpa_remove(pdev);
		break;
	case NETDEV_OR_NOTHING:
		remove_netdev(pdev);
	}
}
