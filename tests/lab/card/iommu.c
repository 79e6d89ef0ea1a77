// SPDX-License-Identifier: GPL-2.0
/*
 * An IOMMU for the cards, so that vfio-pci takes their VFs. The cards do no DMA:
 * a mapping is only remembered. The groups are the kernel's own, from
 * pci_device_group(): without ACS, a card is one group.
 *
 * Another IOMMU may serve the rest of the host. __iommu_probe_device() finds a
 * device's IOMMU by its fwspec, which firmware tables give; here a notifier
 * gives it, called before the notifier of the IOMMU core.
 */
#include <linux/iommu.h>
#include <linux/property.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "labcard.h"
#include "linux_6_1.h"

struct io_space {
	struct iommu_domain domain;
	struct xarray pages;
};

static struct iommu_device iommu;
static const struct iommu_ops ops;

static struct io_space *io_space(struct iommu_domain *domain)
{
	return container_of(domain, struct io_space, domain);
}

static int attach(struct iommu_domain *domain, struct device *dev)
{
	return 0;
}

static void free_pages_and_domain(struct iommu_domain *domain)
{
	xa_destroy(&io_space(domain)->pages);
	kfree(io_space(domain));
}

static int map(struct iommu_domain *domain, unsigned long iova, phys_addr_t address, size_t size, size_t count,
	       int protection, gfp_t gfp, size_t *mapped)
{
	for (size_t done = 0; done < size * count; done += PAGE_SIZE) {
		unsigned long page = (iova + done) >> PAGE_SHIFT;
		int err = xa_err(xa_store(&io_space(domain)->pages, page, xa_mk_value((address + done) >> PAGE_SHIFT), gfp));

		if (err)
			return err;
		*mapped += PAGE_SIZE;
	}
	return 0;
}

static size_t unmap(struct iommu_domain *domain, unsigned long iova, size_t size, size_t count,
		    struct iommu_iotlb_gather *gather)
{
	size_t done = 0;

	while (done < size * count && xa_erase(&io_space(domain)->pages, (iova + done) >> PAGE_SHIFT))
		done += PAGE_SIZE;
	return done;
}

static phys_addr_t physical(struct iommu_domain *domain, dma_addr_t iova)
{
	void *page = xa_load(&io_space(domain)->pages, iova >> PAGE_SHIFT);

	return page ? (xa_to_value(page) << PAGE_SHIFT) + offset_in_page(iova) : 0;
}

#if !IS_6_1
static const struct iommu_domain_ops identity_ops = { .attach_dev = attach };
static struct iommu_domain identity = { .type = IOMMU_DOMAIN_IDENTITY, .ops = &identity_ops };
static struct iommu_domain blocked = { .type = IOMMU_DOMAIN_BLOCKED, .ops = &identity_ops };
#endif

#if IS_6_1
/* Of any type: none is mapped by hardware. */
static struct iommu_domain *alloc(unsigned int type)
#else
static struct iommu_domain *alloc(struct device *dev)
#endif
{
	struct io_space *space = kzalloc(sizeof(*space), GFP_KERNEL);

	if (!space)
		return NULL;
	xa_init(&space->pages);
	space->domain.geometry.aperture_end = ~0UL;
	space->domain.geometry.force_aperture = true;
	return &space->domain;
}

/* VFIO wants coherent caches (vfio_group_use_iommu()). */
static bool can(struct device *dev, enum iommu_cap cap)
{
	return cap == IOMMU_CAP_CACHE_COHERENCY;
}

static struct iommu_device *probe(struct device *dev)
{
	return dev_is_pci(dev) && is_ours(to_pci_dev(dev)) ? &iommu : ERR_PTR(-ENODEV);
}

static int default_domain(struct device *dev)
{
	return IOMMU_DOMAIN_IDENTITY;
}

static const struct iommu_ops ops = {
	.owner = THIS_MODULE,
	.capable = can,
	.probe_device = probe,
	.device_group = pci_device_group,
	.def_domain_type = default_domain,
#if IS_6_1
	.domain_alloc = alloc,
#else
	.identity_domain = &identity,
	.blocked_domain = &blocked,
	.domain_alloc_paging = alloc,
#endif
	.pgsize_bitmap = PAGE_SIZE,
	.default_domain_ops = &(const struct iommu_domain_ops){
		.attach_dev = attach,
		.map_pages = map,
		.unmap_pages = unmap,
		.iova_to_phys = physical,
		.free = free_pages_and_domain,
	},
};

static int device_added(struct notifier_block *block, unsigned long action, void *data)
{
	struct device *dev = data;
	int err;

	if (action != BUS_NOTIFY_ADD_DEVICE || !is_ours(to_pci_dev(dev)) || !card_of(to_pci_dev(dev)->bus)->iommu)
		return NOTIFY_DONE;
#if IS_6_1
	err = iommu_fwspec_init(dev, iommu.fwnode, &ops);
#else
	err = iommu_fwspec_init(dev, iommu.fwnode);
#endif
	if (err)
		dev_err(dev, "no IOMMU for the lab's card\n");
	return NOTIFY_DONE;
}

static struct notifier_block notifier = { .notifier_call = device_added, .priority = INT_MAX };

int card_iommu_register(void)
{
	int err;

	iommu.fwnode = fwnode_create_software_node(NULL, NULL);
	if (IS_ERR(iommu.fwnode))
		return PTR_ERR(iommu.fwnode);
	err = iommu_device_sysfs_add(&iommu, NULL, NULL, "labcard");
	if (err)
		goto node;
	err = iommu_device_register(&iommu, &ops, NULL);
	if (err)
		goto sysfs;
	err = bus_register_notifier(&pci_bus_type, &notifier);
	if (err)
		goto unregister;
	return 0;

unregister:
	iommu_device_unregister(&iommu);
sysfs:
	iommu_device_sysfs_remove(&iommu);
node:
	fwnode_remove_software_node(iommu.fwnode);
	return err;
}

void card_iommu_unregister(void)
{
	bus_unregister_notifier(&pci_bus_type, &notifier);
	iommu_device_unregister(&iommu);
	iommu_device_sysfs_remove(&iommu);
	fwnode_remove_software_node(iommu.fwnode);
}
