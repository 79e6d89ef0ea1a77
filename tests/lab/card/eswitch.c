// SPDX-License-Identifier: GPL-2.0
/*
 * The devlink eswitch of a PF, and in switchdev mode a representor for each VF:
 * a netdev on the PF's function, by phys_port_name and phys_switch_id as bnxt_en
 * has them (bnxt_vf_rep_get_phys_port_name(), bnxt_get_port_parent_id()).
 */
#include <linux/etherdevice.h>
#include <net/devlink.h>

#include "labcard.h"

struct eswitch {
	struct pf *pf;
	u16 mode;
	int count;
	struct net_device *representors[MAX_VFS];
};

struct representor {
	struct pf *pf;
	int index;
};

static netdev_tx_t drop(struct sk_buff *skb, struct net_device *dev)
{
	dev_kfree_skb(skb);
	return NETDEV_TX_OK;
}

bool in_switchdev_mode(struct pf *pf)
{
	return pf->eswitch && pf->eswitch->mode == DEVLINK_ESWITCH_MODE_SWITCHDEV;
}

int port_parent_id(struct pf *pf, struct netdev_phys_item_id *id)
{
	if (!in_switchdev_mode(pf))
		return -EOPNOTSUPP;
	id->id_len = 2;
	id->id[0] = pci_domain_nr(pf->pdev->bus);
	id->id[1] = pf->function->number;
	return 0;
}

static int representor_name(struct net_device *dev, char *name, size_t size)
{
	struct representor *own = netdev_priv(dev);

	return snprintf(name, size, "pf%dvf%d", own->pf->function->number, own->index) < size ? 0 : -EINVAL;
}

static int representor_parent_id(struct net_device *dev, struct netdev_phys_item_id *id)
{
	struct representor *own = netdev_priv(dev);

	return port_parent_id(own->pf, id);
}

static const struct net_device_ops representor_ops = {
	.ndo_start_xmit = drop,
	.ndo_get_phys_port_name = representor_name,
	.ndo_get_port_parent_id = representor_parent_id,
};

static int add_representor(struct eswitch *eswitch, int index)
{
	struct net_device *dev = alloc_etherdev(sizeof(struct representor));
	struct representor *own;
	int err;

	if (!dev)
		return -ENOMEM;
	own = netdev_priv(dev);
	own->pf = eswitch->pf;
	own->index = index;
	dev->netdev_ops = &representor_ops;
	SET_NETDEV_DEV(dev, &eswitch->pf->pdev->dev);
	eth_hw_addr_random(dev);
	err = register_netdev(dev);
	if (err)
		free_netdev(dev);
	else
		eswitch->representors[index] = dev;
	return err;
}

/* As many representors as this; the caller has the lock. */
static int set_representors(struct eswitch *eswitch, int count)
{
	int err = 0;

	while (eswitch->count > count) {
		struct net_device *dev = eswitch->representors[--eswitch->count];

		unregister_netdev(dev);
		free_netdev(dev);
	}
	while (!err && eswitch->count < count) {
		err = add_representor(eswitch, eswitch->count);
		eswitch->count += !err;
	}
	return err;
}

static int get_mode(struct devlink *devlink, u16 *mode)
{
	struct eswitch *eswitch = devlink_priv(devlink);

	*mode = eswitch->mode;
	return 0;
}

static bool any_bound(struct pf *pf)
{
	bool bound = false;

	for (int index = 0; index < pci_num_vf(pf->pdev) && !bound; index++) {
		struct pci_dev *vf = vf_device(pf, index);

		bound = vf && READ_ONCE(vf->dev.driver);
		pci_dev_put(vf);
	}
	return bound;
}

/* ice_eswitch_mode_set(): only without VFs. mlx5: the VFs' driver is in the way. */
static int set_mode(struct devlink *devlink, u16 mode, struct netlink_ext_ack *extack)
{
	struct eswitch *eswitch = devlink_priv(devlink);
	struct pf *pf = eswitch->pf;
	int count = pci_num_vf(pf->pdev), err = answer(pf, ESWITCH);

	if (err || mode == eswitch->mode)
		return err;
	if (mode != DEVLINK_ESWITCH_MODE_LEGACY && mode != DEVLINK_ESWITCH_MODE_SWITCHDEV)
		return -EINVAL;
	if (pf->kind->eswitch == WITHOUT_VFS && count)
		return -EOPNOTSUPP;
	if (any_bound(pf))
		return -EBUSY;
	set_representors(eswitch, 0);
	eswitch->mode = mode;
	return mode == DEVLINK_ESWITCH_MODE_SWITCHDEV ? set_representors(eswitch, count) : 0;
}

static const struct devlink_ops ops = {
	.eswitch_mode_get = get_mode,
	.eswitch_mode_set = set_mode,
};

/* Before the last VF goes, and once the new ones are there. */
int eswitch_set_vfs(struct pf *pf, int count)
{
	struct devlink *devlink;
	int err;

	if (!pf->eswitch)
		return 0;
	devlink = priv_to_devlink(pf->eswitch);
	devl_lock(devlink);
	err = set_representors(pf->eswitch, in_switchdev_mode(pf) ? count : 0);
	devl_unlock(devlink);
	return err;
}

int eswitch_add(struct pf *pf)
{
	struct devlink *devlink;

	if (pf->kind->eswitch == NO_ESWITCH)
		return 0;
	devlink = devlink_alloc(&ops, sizeof(struct eswitch), &pf->pdev->dev);
	if (!devlink)
		return -ENOMEM;
	pf->eswitch = devlink_priv(devlink);
	pf->eswitch->pf = pf;
	devlink_register(devlink);
	return 0;
}

void eswitch_remove(struct pf *pf)
{
	struct devlink *devlink;

	if (!pf->eswitch)
		return;
	devlink = priv_to_devlink(pf->eswitch);
	devlink_unregister(devlink);
	set_representors(pf->eswitch, 0);
	pf->eswitch = NULL;
	devlink_free(devlink);
}
