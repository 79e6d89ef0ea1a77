// SPDX-License-Identifier: GPL-2.0
/* A VF with a DRM device, which renders nothing: a process can have it open. */
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_ioctl.h>

#include "labcard.h"

static const struct file_operations files = {
	.owner = THIS_MODULE,
	.open = drm_open,
	.release = drm_release,
	.unlocked_ioctl = drm_ioctl,
#ifdef FOP_UNSIGNED_OFFSET
	.fop_flags = FOP_UNSIGNED_OFFSET,
#endif
};

static const struct drm_driver driver = {
	.driver_features = DRIVER_RENDER,
	.fops = &files,
	.name = "labcard",
	.desc = "a GPU without hardware",
	.date = "20261201",
};

int gpu_add(struct pci_dev *pdev)
{
	struct drm_device *drm = drm_dev_alloc(&driver, &pdev->dev);
	int err;

	if (IS_ERR(drm))
		return PTR_ERR(drm);
	err = drm_dev_register(drm, 0);
	if (err)
		drm_dev_put(drm);
	else
		pci_set_drvdata(pdev, drm);
	return err;
}

void gpu_remove(struct pci_dev *pdev)
{
	struct drm_device *drm = pci_get_drvdata(pdev);

	drm_dev_unplug(drm);
	drm_dev_put(drm);
}
