// SPDX-License-Identifier: GPL-2.0
/*
 * The PF's driver. sriov_numvfs goes the kernel's own way: its
 * sriov_numvfs_store() calls pf_sriov_configure(), and that pci_enable_sriov().
 */
#include <linux/delay.h>
#include <linux/if_bridge.h>
#include <linux/slab.h>

#include "labcard.h"

/* The errno with which the driver refuses this operation now; 0 if it does not. */
int answer(struct pf *pf, enum operation operation)
{
	const struct kind *kind = pf->kind;
	struct net_device *first = pf->netdevs[0];

	if (pf->function->refuse[operation])
		return -(int)pf->function->refuse[operation];
	if (operation != NUMVFS && kind->settings_down && !netif_running(first))
		return kind->settings_down;
	if (operation == VF_RATE && kind->rate_needs_carrier && !netif_carrier_ok(first))
		return -EINVAL;
	return 0;
}

int pf_sriov_configure(struct pci_dev *pdev, int count)
{
	struct pf *pf = pci_get_drvdata(pdev);
	int err = answer(pf, NUMVFS);

	msleep(pf->function->numvfs_ms);
	if (err)
		return err;
	if (pf->kind->vfs_need_up && !netif_running(pf->netdevs[0]))
		return pf->kind->vfs_down;
	if (!count) {
		eswitch_set_vfs(pf, 0);
		pci_disable_sriov(pdev);
		pf->hwmode = BRIDGE_MODE_VEB;
		return 0;
	}
	if (pf->kind->all_or_none)
		count = pci_sriov_get_totalvfs(pdev);
	count = min_t(int, count, pf->function->most);
	for (int index = 0; index < count; index++)
		vf_reset(pf, index);
	err = pci_enable_sriov(pdev, count);
	if (!err)
		err = eswitch_set_vfs(pf, count);
	return err ? err : count;
}

static void pf_remove_netdevs(struct pf *pf)
{
	for (int port = 0; port < pf->ports; port++)
		pf_netdev_remove(pf, port);
}

int pf_probe(struct pci_dev *pdev)
{
	struct function *function = function_of(pdev);
	struct card *card = function->card;
	struct pf *pf;
	int err = pci_enable_device(pdev);

	if (err)
		return err;
	pf = kvzalloc(sizeof(*pf), GFP_KERNEL);
	if (!pf) {
		err = -ENOMEM;
		goto disable;
	}
	pf->pdev = pdev;
	pf->function = function;
	pf->kind = card->kind;
	pci_set_drvdata(pdev, pf);
	if (card->limit != U32_MAX)
		pci_sriov_set_totalvfs(pdev, card->limit);
	while (!pf->kind->no_netdev && pf->ports < card->ports) {
		err = pf_netdev_add(pf, pf->ports);
		if (err)
			goto remove;
		pf->ports++;
	}
	err = eswitch_add(pf);
	if (err)
		goto remove;
	return 0;

remove:
	pf_remove_netdevs(pf);
	kvfree(pf);
disable:
	pci_disable_device(pdev);
	return err;
}

void pf_remove(struct pci_dev *pdev)
{
	struct pf *pf = pci_get_drvdata(pdev);

	eswitch_remove(pf);
	pci_disable_sriov(pdev);
	pf_remove_netdevs(pf);
	pci_disable_device(pdev);
	kvfree(pf);
}
