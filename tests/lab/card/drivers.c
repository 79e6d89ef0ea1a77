// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI driver for each of kinds.c. As with the real ones, a driver can
 * have the VFs of several kinds (iavf), and PFs and VFs (mlx5_core).
 */
#include <linux/slab.h>

#include "labcard.h"

struct driver {
	struct pci_driver pci;
	struct pci_device_id *ids;
};

static struct driver *drivers;
static int count;

static int probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return pdev->is_virtfn ? vf_probe(pdev) : pf_probe(pdev);
}

static void remove(struct pci_dev *pdev)
{
	if (pdev->is_virtfn)
		vf_remove(pdev);
	else
		pf_remove(pdev);
}

/* With its lock held: drivers have come and gone. */
bool has_own_driver(struct pci_dev *pdev)
{
	return pdev->dev.driver && to_pci_driver(pdev->dev.driver)->probe == probe;
}

static bool registered(const char *name)
{
	for (int other = 0; other < count; other++)
		if (!strcmp(drivers[other].pci.name, name))
			return true;
	return false;
}

/* All PFs and VFs that have a driver of this name. */
static struct pci_device_id *ids_of(const char *name)
{
	struct pci_device_id *ids = kcalloc(2 * kinds_count + 1, sizeof(*ids), GFP_KERNEL);
	int next = 0;

	for (int kind = 0; ids && kind < kinds_count; kind++) {
		if (!strcmp(kinds[kind].driver, name))
			ids[next++] = (struct pci_device_id){ PCI_DEVICE(LABCARD_VENDOR, LABCARD_PF_ID + kind) };
		if (!strcmp(kinds[kind].vf_driver, name))
			ids[next++] = (struct pci_device_id){ PCI_DEVICE(LABCARD_VENDOR, LABCARD_VF_ID + kind) };
	}
	return ids;
}

static int register_name(const char *name)
{
	struct driver *driver = &drivers[count];
	int err;

	if (registered(name))
		return 0;
	driver->ids = ids_of(name);
	if (!driver->ids)
		return -ENOMEM;
	driver->pci.name = name;
	driver->pci.id_table = driver->ids;
	driver->pci.probe = probe;
	driver->pci.remove = remove;
	driver->pci.sriov_configure = pf_sriov_configure;
	err = pci_register_driver(&driver->pci);
	if (err)
		kfree(driver->ids);
	else
		count++;
	return err;
}

int drivers_register(void)
{
	int err = 0;

	drivers = kcalloc(2 * kinds_count, sizeof(*drivers), GFP_KERNEL);
	if (!drivers)
		return -ENOMEM;
	for (int kind = 0; kind < kinds_count && !err; kind++) {
		err = register_name(kinds[kind].driver);
		if (!err)
			err = register_name(kinds[kind].vf_driver);
	}
	if (err)
		drivers_unregister();
	return err;
}

void drivers_unregister(void)
{
	while (count--) {
		pci_unregister_driver(&drivers[count].pci);
		kfree(drivers[count].ids);
	}
	kfree(drivers);
}
