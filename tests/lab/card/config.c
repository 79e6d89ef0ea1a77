// SPDX-License-Identifier: GPL-2.0
/*
 * The configuration space of a card, in memory: a root port, and below it PFs
 * and their VFs. No function has a BAR, so nothing needs an address in memory;
 * sriov_init() takes an SR-IOV capability without BARs.
 */
#include <linux/slab.h>

#include "labcard.h"
#include "linux_6_1.h"

#define PCIE 0x40 /* the PCI Express capability */
#define FIRST 0x100 /* the first extended capability */
#define SRIOV FIRST
#define PF_ARI 0x150
#define VF_ARI FIRST
#define PF_ACS 0x160
#define PORT_ACS FIRST
#define PORT_BUS 0
#define CARD_BUS 1

static u8 port_writable[PCI_CFG_SPACE_EXP_SIZE];
static u8 pf_writable[PCI_CFG_SPACE_EXP_SIZE];
static u8 vf_writable[PCI_CFG_SPACE_EXP_SIZE];

static void put16(struct space *space, int where, u16 value)
{
	put_unaligned_le16(value, space->bytes + where);
}

static void put32(struct space *space, int where, u32 value)
{
	put_unaligned_le32(value, space->bytes + where);
}

static void may_write(u8 *writable, int where, int size)
{
	memset(writable + where, 0xff, size);
}

static void put_express(struct space *space, int type)
{
	space->bytes[PCI_CAPABILITY_LIST] = PCIE;
	put16(space, PCI_STATUS, PCI_STATUS_CAP_LIST);
	space->bytes[PCIE + PCI_CAP_LIST_ID] = PCI_CAP_ID_EXP;
	put16(space, PCIE + PCI_EXP_FLAGS, 2 | type << 4);
	put32(space, PCIE + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR);
	put32(space, PCIE + PCI_EXP_LNKCAP, PCI_EXP_LNKCAP_SLS_8_0GB | 8 << 4);
	put16(space, PCIE + PCI_EXP_LNKSTA, PCI_EXP_LNKSTA_CLS_8_0GB | 8 << 4);
}

static void put_extended(struct space *space, int where, int id, int next)
{
	put32(space, where, id | 1 << 16 | next << 20);
}

static void put_acs(struct space *space, int where)
{
	put_extended(space, where, PCI_EXT_CAP_ID_ACS, 0);
	put16(space, where + PCI_ACS_CAP, PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF);
}

static void put_port(struct card *card)
{
	struct space *space = &card->port;
	u32 last = (card->pfs - 1) + card->offset + (card->vfs ? card->vfs - 1 : 0) * card->stride;

	if (card->shift)
		last += card->vfs * card->stride;

	space->writable = port_writable;
	put16(space, PCI_VENDOR_ID, LABCARD_VENDOR);
	put16(space, PCI_DEVICE_ID, LABCARD_PF_ID - 1);
	put16(space, PCI_CLASS_DEVICE, PCI_CLASS_BRIDGE_PCI);
	space->bytes[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
	space->bytes[PCI_SECONDARY_BUS] = CARD_BUS;
	space->bytes[PCI_SUBORDINATE_BUS] = CARD_BUS + (last >> 8);
	space->bytes[PCI_IO_BASE] = 0xf0; /* above its limit: no window */
	put16(space, PCI_MEMORY_BASE, 0xfff0);
	put16(space, PCI_PREF_MEMORY_BASE, 0xfff0);
	put_express(space, PCI_EXP_TYPE_ROOT_PORT);
	if (card->ari)
		put32(space, PCIE + PCI_EXP_DEVCAP2, PCI_EXP_DEVCAP2_ARI);
	if (card->acs)
		put_acs(space, PORT_ACS);
}

static void put_identity(struct space *space, const struct kind *kind, int device)
{
	put32(space, PCI_CLASS_REVISION, kind->class << 8 | 1);
	put16(space, PCI_SUBSYSTEM_VENDOR_ID, LABCARD_VENDOR);
	put16(space, PCI_SUBSYSTEM_ID, device + (kind - kinds));
	put_express(space, PCI_EXP_TYPE_ENDPOINT);
}

static void put_pf(struct function *function)
{
	struct space *space = &function->space;
	struct card *card = function->card;
	int kind = card->kind - kinds;

	space->writable = pf_writable;
	put16(space, PCI_VENDOR_ID, LABCARD_VENDOR);
	put16(space, PCI_DEVICE_ID, LABCARD_PF_ID + kind);
	put_identity(space, card->kind, LABCARD_PF_ID);
	if (card->pfs > 1)
		space->bytes[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_MFD;
	put_extended(space, SRIOV, PCI_EXT_CAP_ID_SRIOV, PF_ARI);
	put16(space, SRIOV + PCI_SRIOV_INITIAL_VF, card->vfs);
	put16(space, SRIOV + PCI_SRIOV_TOTAL_VF, card->vfs);
	space->bytes[SRIOV + PCI_SRIOV_FUNC_LINK] = function->number;
	put16(space, SRIOV + PCI_SRIOV_VF_OFFSET, card->offset);
	put16(space, SRIOV + PCI_SRIOV_VF_STRIDE, card->stride);
	put16(space, SRIOV + PCI_SRIOV_VF_DID, LABCARD_VF_ID + kind);
	put32(space, SRIOV + PCI_SRIOV_SUP_PGSIZE, 0x553);
	put32(space, SRIOV + PCI_SRIOV_SYS_PGSIZE, 1);
	put_extended(space, PF_ARI, PCI_EXT_CAP_ID_ARI, card->acs ? PF_ACS : 0);
	put16(space, PF_ARI + PCI_ARI_CAP, function->number + 1 < card->pfs ? (function->number + 1) << 8 : 0);
	if (card->acs)
		put_acs(space, PF_ACS);
}

/* A VF answers ffff for its IDs (SR-IOV 3.4.1.1); the kernel takes them from the PF. */
static void put_vf(struct card *card, struct space *space)
{
	space->writable = vf_writable;
	put32(space, PCI_VENDOR_ID, 0xffffffff);
	put_identity(space, card->kind, LABCARD_VF_ID);
	put_extended(space, VF_ARI, PCI_EXT_CAP_ID_ARI, 0);
}

static void put_writable(void)
{
	u8 *const all[] = { port_writable, pf_writable, vf_writable };

	for (int type = 0; type < ARRAY_SIZE(all); type++) {
		u8 *writable = all[type];

		may_write(writable, PCI_COMMAND, 2);
		may_write(writable, PCI_CACHE_LINE_SIZE, 2);
		may_write(writable, PCI_INTERRUPT_LINE, 1);
		may_write(writable, PCIE + PCI_EXP_DEVCTL, 2);
		may_write(writable, PCIE + PCI_EXP_LNKCTL, 2);
		may_write(writable, PCIE + PCI_EXP_DEVCTL2, 2);
	}
	may_write(port_writable, PCI_PRIMARY_BUS, 4);
	port_writable[PCI_IO_BASE] = port_writable[PCI_IO_LIMIT] = 0xf0;
	may_write(port_writable, PCI_MEMORY_BASE, 8);
	may_write(port_writable, PCI_BRIDGE_CONTROL, 2);
	may_write(port_writable, PORT_ACS + PCI_ACS_CTRL, 2);
	may_write(pf_writable, PF_ACS + PCI_ACS_CTRL, 2);
	may_write(pf_writable, SRIOV + PCI_SRIOV_CTRL, 2);
	may_write(pf_writable, SRIOV + PCI_SRIOV_NUM_VF, 2);
	may_write(pf_writable, SRIOV + PCI_SRIOV_SYS_PGSIZE, 4);
}

int card_config(struct card *card)
{
	put_writable();
	put_port(card);
	for (int number = 0; number < card->pfs; number++) {
		struct function *function = &card->functions[number];

		function->card = card;
		function->number = number;
		put_pf(function);
		function->vfs = kvcalloc(card->vfs, sizeof(*function->vfs), GFP_KERNEL);
		if (card->vfs && !function->vfs)
			return -ENOMEM;
		for (int index = 0; index < card->vfs; index++)
			put_vf(card, &function->vfs[index]);
	}
	return 0;
}

static int number_at(struct function *function, int where)
{
	return get_unaligned_le16(function->space.bytes + SRIOV + where);
}

/* SR-IOV 3.3.9: the first VF's offset may change with NumVFs. */
static void move_vfs(struct function *function)
{
	struct card *card = function->card;

	put16(&function->space, SRIOV + PCI_SRIOV_VF_OFFSET,
	      card->offset + number_at(function, PCI_SRIOV_NUM_VF) * card->stride);
}

/* The VF at this distance from the first, if the PF has as many. */
static struct space *vf_at(struct function *function, int distance)
{
	struct card *card = function->card;
	u16 control = number_at(function, PCI_SRIOV_CTRL);
	int count = number_at(function, PCI_SRIOV_NUM_VF);

	if (!(control & PCI_SRIOV_CTRL_VFE) || distance < 0 || distance % card->stride)
		return NULL;
	if (distance / card->stride >= count)
		return NULL;
	return &function->vfs[distance / card->stride];
}

static struct space *space_at(struct pci_bus *bus, unsigned int devfn)
{
	struct card *card = card_of(bus);
	int routing = (bus->number - CARD_BUS) << 8 | devfn;

	if (bus->number == PORT_BUS)
		return devfn ? NULL : &card->port;
	if (routing < card->pfs)
		return &card->functions[routing].space;
	for (int number = 0; number < card->pfs; number++) {
		struct function *function = &card->functions[number];
		struct space *space = vf_at(function, routing - number - number_at(function, PCI_SRIOV_VF_OFFSET));

		if (space)
			return space;
	}
	return NULL;
}

static int config_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *value)
{
	struct space *space = space_at(bus, devfn);

	*value = ~0U;
	if (!space)
		return PCIBIOS_DEVICE_NOT_FOUND;
	*value = 0;
	memcpy(value, space->bytes + where, size);
	return PCIBIOS_SUCCESSFUL;
}

static int config_write(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 value)
{
	struct space *space = space_at(bus, devfn);

	if (!space)
		return PCIBIOS_DEVICE_NOT_FOUND;
	for (int byte = 0; byte < size; byte++) {
		u8 mask = space->writable[where + byte];
		u8 *old = space->bytes + where + byte;

		*old = (*old & ~mask) | (value >> 8 * byte & mask);
	}
	if (space->writable == pf_writable && card_of(bus)->shift)
		move_vfs(container_of(space, struct function, space));
	/* A reset of the function is done at once. */
	if (where <= PCIE + PCI_EXP_DEVCTL + 1 && where + size > PCIE + PCI_EXP_DEVCTL + 1)
		space->bytes[PCIE + PCI_EXP_DEVCTL + 1] &= ~(PCI_EXP_DEVCTL_BCR_FLR >> 8);
	return PCIBIOS_SUCCESSFUL;
}

/* NULL if there is none; the caller has a reference. */
struct pci_dev *vf_device(struct pf *pf, int index)
{
	struct function *function = pf->function;
	int routing = function->number + number_at(function, PCI_SRIOV_VF_OFFSET) + index * function->card->stride;

	return pci_get_domain_bus_and_slot(pci_domain_nr(pf->pdev->bus), CARD_BUS + (routing >> 8), routing & 0xff);
}

struct pci_ops card_config_ops = {
	.read = config_read,
	.write = config_write,
};
