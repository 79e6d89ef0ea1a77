/* SPDX-License-Identifier: GPL-2.0 */
/* Where Linux 6.1 (Debian 12) has another form of what 6.12 (Debian 13) has. */
#ifndef LINUX_6_1_H
#define LINUX_6_1_H

#include <linux/version.h>

#define IS_6_1 (LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0))

#if IS_6_1
#include <asm/unaligned.h>
#include <linux/blkdev.h>
#include <linux/device/class.h>
#include <linux/pci.h>

#define PCI_HEADER_TYPE_MFD 0x80

#undef blk_alloc_disk
#define blk_alloc_disk(limits, node)                                         \
	({                                                                   \
		static struct lock_class_key disk_key;                       \
		__blk_alloc_disk(node, &disk_key) ?: ERR_PTR(-ENOMEM);       \
	})

#undef class_create
#define class_create(name)                                                   \
	({                                                                   \
		static struct lock_class_key class_key;                      \
		__class_create(THIS_MODULE, name, &class_key);               \
	})
#else
#include <linux/unaligned.h>
#endif

#endif
