// SPDX-License-Identifier: GPL-2.0
/*
 * A VF with a disk, in memory, where nvme has it: nvme/nvmeN/nvmeNn1 below the
 * VF, as nvme_init_ctrl() and nvme_alloc_ns() make it. Only for hosts without
 * nvme_core, which makes the class of this name.
 */
#include <linux/blkdev.h>
#include <linux/idr.h>
#include <linux/vmalloc.h>

#include "labcard.h"
#include "linux_6_1.h"

#define DISK_BYTES (4 << 20)

struct disk {
	struct device *controller;
	struct gendisk *disk;
	int number;
};

static struct class *controllers; /* made for the first disk */
static DEFINE_IDA(numbers);

static void submit(struct bio *bio)
{
	u8 *data = (u8 *)bio->bi_bdev->bd_disk->private_data + (bio->bi_iter.bi_sector << SECTOR_SHIFT);
	struct bvec_iter iter;
	struct bio_vec part;

	bio_for_each_segment(part, bio, iter) {
		if (op_is_write(bio_op(bio)))
			memcpy_from_bvec(data, &part);
		else
			memcpy_to_bvec(&part, data);
		data += part.bv_len;
	}
	bio_endio(bio);
}

/* Its last user is gone, who may be there for longer than the VF. */
static void free_data(struct gendisk *disk)
{
	vfree(disk->private_data);
}

static const struct block_device_operations operations = {
	.owner = THIS_MODULE,
	.submit_bio = submit,
	.free_disk = free_data,
};

static int add_gendisk(struct disk *own)
{
	void *data = vzalloc(DISK_BYTES);
	int err;

	if (!data)
		return -ENOMEM;
	own->disk = blk_alloc_disk(NULL, NUMA_NO_NODE);
	if (IS_ERR(own->disk)) {
		vfree(data);
		return PTR_ERR(own->disk);
	}
	own->disk->fops = &operations;
	own->disk->private_data = data;
	snprintf(own->disk->disk_name, DISK_NAME_LEN, "nvme%dn1", own->number);
	set_capacity(own->disk, DISK_BYTES >> SECTOR_SHIFT);
	err = device_add_disk(own->controller, own->disk, NULL);
	if (err)
		put_disk(own->disk);
	return err;
}

int disk_add(struct pci_dev *pdev)
{
	struct disk *own;
	int err;

	if (!controllers)
		controllers = class_create("nvme");
	if (IS_ERR(controllers))
		return PTR_ERR(controllers);
	own = devm_kzalloc(&pdev->dev, sizeof(*own), GFP_KERNEL);
	if (!own)
		return -ENOMEM;
	own->number = ida_alloc(&numbers, GFP_KERNEL);
	if (own->number < 0)
		return own->number;
	own->controller = device_create(controllers, &pdev->dev, MKDEV(0, 0), NULL, "nvme%d", own->number);
	err = PTR_ERR_OR_ZERO(own->controller);
	if (!err) {
		err = add_gendisk(own);
		if (err)
			device_unregister(own->controller);
	}
	if (err)
		ida_free(&numbers, own->number);
	else
		pci_set_drvdata(pdev, own);
	return err;
}

void disk_remove(struct pci_dev *pdev)
{
	struct disk *own = pci_get_drvdata(pdev);

	del_gendisk(own->disk);
	put_disk(own->disk);
	device_unregister(own->controller);
	ida_free(&numbers, own->number);
}

void disks_end(void)
{
	if (!IS_ERR_OR_NULL(controllers))
		class_destroy(controllers);
}
