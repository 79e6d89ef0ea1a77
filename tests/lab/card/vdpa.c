// SPDX-License-Identifier: GPL-2.0
/*
 * A VF on which `vdpa dev add` makes a vDPA device, as ifcvf_vdpa_dev_add() does.
 * Nothing drives that device.
 */
#include <linux/slab.h>
#include <linux/vdpa.h>
#include <uapi/linux/virtio_ids.h>

#include "labcard.h"

#define QUEUES 2

static u32 device_id(struct vdpa_device *device)
{
	return VIRTIO_ID_NET;
}

static u32 vendor_id(struct vdpa_device *device)
{
	return LABCARD_VENDOR;
}

static u16 queue_size(struct vdpa_device *device)
{
	return 256;
}

static const struct vdpa_config_ops operations = {
	.get_device_id = device_id,
	.get_vendor_id = vendor_id,
	.get_vq_num_max = queue_size,
};

static int add_device(struct vdpa_mgmt_dev *manager, const char *name, const struct vdpa_dev_set_config *config)
{
	struct vdpa_device *device =
		__vdpa_alloc_device(manager->device, &operations, 1, 1, sizeof(*device), name, false);
	int err;

	if (IS_ERR(device))
		return PTR_ERR(device);
	device->mdev = manager;
	err = _vdpa_register_device(device, QUEUES);
	if (err)
		put_device(&device->dev);
	return err;
}

static void delete_device(struct vdpa_mgmt_dev *manager, struct vdpa_device *device)
{
	_vdpa_unregister_device(device);
}

static const struct vdpa_mgmtdev_ops manager_operations = {
	.dev_add = add_device,
	.dev_del = delete_device,
};

static struct virtio_device_id ids[] = {
	{ VIRTIO_ID_NET, VIRTIO_DEV_ANY_ID },
	{}
};

int vdpa_add(struct pci_dev *pdev)
{
	struct vdpa_mgmt_dev *manager = devm_kzalloc(&pdev->dev, sizeof(*manager), GFP_KERNEL);

	if (!manager)
		return -ENOMEM;
	manager->device = &pdev->dev;
	manager->ops = &manager_operations;
	manager->id_table = ids;
	manager->max_supported_vqs = QUEUES;
	pci_set_drvdata(pdev, manager);
	return vdpa_mgmtdev_register(manager);
}

void vdpa_remove(struct pci_dev *pdev)
{
	vdpa_mgmtdev_unregister(pci_get_drvdata(pdev));
}
