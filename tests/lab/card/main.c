// SPDX-License-Identifier: GPL-2.0
/*
 * SR-IOV cards without hardware, for the kernel's own PCI, SR-IOV, rtnetlink,
 * IOMMU group and VFIO code. Each card is a host bridge in a PCI domain of its
 * own (0001: and up) with a root port and PFs behind it; config.c answers for
 * their configuration space, and sriov_numvfs makes VFs by pci_enable_sriov().
 *
 *   modprobe labcard cards="ice ipoib,vfs=4"
 *   echo i40e,vfs=8,pfs=2 >/sys/kernel/debug/labcard/add
 *   echo 3 >/sys/kernel/debug/labcard/remove          (domain 0003:)
 *   echo 22 >/sys/kernel/debug/labcard/0001:01:00.0/refuse/vlan
 *
 * The first word is a kind of kinds.c, which has its driver's name; set_key()
 * has the others. A folder in debugfs for each PF has what its driver refuses,
 * with which errno, how long it takes, and what else it does; it holds over a
 * change of drivers. There a test resets the PF, makes a VF leave the bus, and
 * counts what the drivers were asked.
 *
 * The module cannot be unloaded while it has cards: the kernel counts each
 * function as a user of its IOMMU.
 *
 * What it cannot do: carry traffic, DMA, interrupts, BARs. A VF's disk is memory,
 * its DRM device renders nothing, and its vDPA device has no queue.
 * There are no subfunctions and no MSI-X counts, as vfagent sets none. VFIO opens
 * a VF only with vfio_iommu_type1.allow_unsafe_interrupts, as the IOMMU remaps
 * none. Debian's kernels have no CONFIG_VFIO_NOIOMMU to do without. On 6.1
 * (Debian 12) a bus has one IOMMU driver, so the host has to have no other
 * (intel_iommu=off), and there are no vDPA devices. With lockdep the kernel would
 * complain that iommu_fwspec_init() is called without a lock that no module can
 * take; Debian's kernel has no lockdep.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "labcard.h"

static char *initial = "";
module_param_named(cards, initial, charp, 0444);
MODULE_PARM_DESC(cards, "cards to begin with: KIND[,KEY=NUMBER]... separated by spaces");

static LIST_HEAD(cards);
static DEFINE_MUTEX(cards_lock);
static struct dentry *root;

static const char *const operation_names[REFUSABLE] = {
	[VF_MAC] = "mac", [VF_VLAN] = "vlan", [VF_RATE] = "rate", [VF_SPOOFCHK] = "spoofchk",
	[VF_TRUST] = "trust", [VF_LINK_STATE] = "link_state", [VF_RSS] = "rss", [VF_GUID] = "guid",
	[NUMVFS] = "numvfs", [HWMODE] = "hwmode", [FDB] = "fdb", [ESWITCH] = "eswitch", [VF_PROBE] = "vf_probe",
};

bool is_ours(struct pci_dev *pdev)
{
	return pdev->bus->ops == &card_config_ops;
}

struct function *function_of(struct pci_dev *pf)
{
	return &card_of(pf->bus)->functions[pf->devfn];
}

/* The PF of this file, if its driver is one of ours; the caller unlocks it. */
static struct pf *locked_pf(struct function *function)
{
	struct pci_bus *bus = function->card->bridge->bus;
	struct pci_dev *pdev = pci_get_domain_bus_and_slot(pci_domain_nr(bus), bus->number + 1, function->number);

	if (!pdev)
		return NULL;
	device_lock(&pdev->dev);
	if (has_own_driver(pdev))
		return pci_get_drvdata(pdev);
	device_unlock(&pdev->dev);
	pci_dev_put(pdev);
	return NULL;
}

static void unlock_pf(struct pf *pf)
{
	struct pci_dev *pdev = pf->pdev;

	device_unlock(&pdev->dev);
	pci_dev_put(pdev);
}

/* Whatever is written: a reset of the PF by its driver. */
static int reset_set(void *function, u64 ignored)
{
	struct pf *pf = locked_pf(function);

	if (!pf)
		return -ENODEV;
	pf_reset(pf);
	unlock_pf(pf);
	return 0;
}

/* The VF of this index leaves the bus without its PF's doing, as a card that fails does. */
static int lose_set(void *function, u64 index)
{
	struct pf *pf = locked_pf(function);
	struct pci_dev *vf = pf ? vf_device(pf, index) : NULL;

	if (pf)
		unlock_pf(pf);
	if (!vf)
		return -ENODEV;
	pci_stop_and_remove_bus_device_locked(vf);
	pci_dev_put(vf);
	return 0;
}

DEFINE_DEBUGFS_ATTRIBUTE(reset_file, NULL, reset_set, "%llu\n");
DEFINE_DEBUGFS_ATTRIBUTE(lose_file, NULL, lose_set, "%llu\n");

static void make_counts(struct function *function)
{
	struct dentry *folder = debugfs_create_dir("counts", function->debugfs);
	struct counts *counts = &function->counts;

	debugfs_create_u32("sets", 0644, folder, &counts->sets);
	debugfs_create_u32("bound_sets", 0644, folder, &counts->bound_sets);
	debugfs_create_u32("reads", 0644, folder, &counts->reads);
	debugfs_create_u32("vf_probes", 0644, folder, &counts->vf_probes);
	debugfs_create_u32("hwmodes_without_vfs", 0644, folder, &counts->hwmodes_without_vfs);
}

static void make_knobs(struct function *function)
{
	struct dentry *refuse;
	char name[32];

	snprintf(name, sizeof(name), "%04x:01:%02x.%d", function->card->sysdata.domain, PCI_SLOT(function->number),
		 PCI_FUNC(function->number));
	function->debugfs = debugfs_create_dir(name, root);
	refuse = debugfs_create_dir("refuse", function->debugfs);
	for (int operation = 0; operation < REFUSABLE; operation++)
		debugfs_create_u32(operation_names[operation], 0644, refuse, &function->refuse[operation]);
	debugfs_create_u32("numvfs_ms", 0644, function->debugfs, &function->numvfs_ms);
	debugfs_create_u32("vf_reset_ms", 0644, function->debugfs, &function->vf_reset_ms);
	debugfs_create_u32("vf_netdev_ms", 0644, function->debugfs, &function->vf_netdev_ms);
	debugfs_create_u32("vf_unbind_ms", 0644, function->debugfs, &function->vf_unbind_ms);
	debugfs_create_u32("fdb_limit", 0644, function->debugfs, &function->fdb_limit);
	debugfs_create_u32("most", 0644, function->debugfs, &function->most);
	debugfs_create_x32("not_reported", 0644, function->debugfs, &function->not_reported);
	debugfs_create_file_unsafe("reset", 0200, function->debugfs, function, &reset_file);
	debugfs_create_file_unsafe("lose", 0200, function->debugfs, function, &lose_file);
	make_counts(function);
}

static void free_card(struct card *card)
{
	for (int number = 0; number < card->pfs; number++)
		kvfree(card->functions[number].vfs);
	kvfree(card);
}

/* The last user of the bridge is gone. */
static void bridge_released(struct pci_host_bridge *bridge)
{
	free_card(bridge->release_data);
}

static int free_domain(void)
{
	struct card *card;
	int domain = 1;

	list_for_each_entry(card, &cards, list) /* in the order of their domains */
		if (card->sysdata.domain == domain)
			domain++;
	return domain;
}

static void insert(struct card *card)
{
	struct card *other;

	list_for_each_entry(other, &cards, list)
		if (other->sysdata.domain > card->sysdata.domain)
			break;
	list_add_tail(&card->list, &other->list);
}

static int plug(struct card *card)
{
	struct pci_host_bridge *bridge;
	int err;

	if (!card->sysdata.domain)
		card->sysdata.domain = free_domain();
	card->sysdata.node = NUMA_NO_NODE;
	err = card_config(card);
	bridge = err ? NULL : pci_alloc_host_bridge(0);
	if (!bridge) {
		free_card(card);
		return -ENOMEM;
	}
	for (int number = 0; number < card->pfs; number++)
		make_knobs(&card->functions[number]);
	insert(card);
	card->bridge = bridge;
	card->buses = (struct resource){ .start = 0, .end = 255, .flags = IORESOURCE_BUS, .name = "labcard" };
	bridge->sysdata = &card->sysdata;
	bridge->ops = &card_config_ops;
	/* The root port has no interrupt for services. */
	bridge->native_aer = bridge->native_pme = bridge->native_dpc = bridge->native_pcie_hotplug = 0;
	pci_set_host_bridge_release(bridge, bridge_released, card);
	pci_add_resource(&bridge->windows, &card->buses);
	return pci_host_probe(bridge);
}

static void unplug(struct card *card)
{
	struct pci_bus *bus = card->bridge->bus;

	for (int number = 0; number < card->pfs; number++)
		debugfs_remove(card->functions[number].debugfs);
	list_del(&card->list);
	pci_lock_rescan_remove();
	pci_stop_root_bus(bus);
	pci_remove_root_bus(bus);
	pci_unlock_rescan_remove();
}

static int set_key(struct card *card, char *word)
{
	char *value = strchr(word, '=');
	u32 number;

	if (!value || kstrtou32(value + 1, 0, &number))
		return -EINVAL;
	*value = '\0';
	if (!strcmp(word, "vfs")) /* sriov_totalvfs; with 0 the kernel shows no SR-IOV */
		card->vfs = number;
	else if (!strcmp(word, "limit")) /* sriov_totalvfs as the driver lowers it */
		card->limit = number;
	else if (!strcmp(word, "domain")) /* one that is free; without, the first that is */
		card->sysdata.domain = number;
	else if (!strcmp(word, "pfs"))
		card->pfs = number;
	else if (!strcmp(word, "ports")) /* netdevs of one PF, told apart by dev_port */
		card->ports = number;
	else if (!strcmp(word, "carrier")) /* milliseconds from up to carrier */
		card->carrier_ms = number;
	else if (!strcmp(word, "offset")) /* of the first VF from its PF; then the stride */
		card->offset = number;
	else if (!strcmp(word, "stride"))
		card->stride = number;
	else if (!strcmp(word, "ari")) /* forwarded by the root port: more than 8 functions */
		card->ari = number;
	else if (!strcmp(word, "shift")) /* the offset grows with sriov_numvfs */
		card->shift = number;
	else if (!strcmp(word, "acs")) /* in the root port and the PFs */
		card->acs = number;
	else if (!strcmp(word, "iommu"))
		card->iommu = number;
	else
		return -EINVAL;
	return 0;
}

static bool possible(struct card *card)
{
	if (!card->kind || !card->pfs || card->pfs > (card->ari ? MAX_PFS : 8))
		return false;
	return card->vfs <= MAX_VFS && card->ports && card->ports <= MAX_PORTS && card->stride && card->offset >= card->pfs;
}

static int add(char *text)
{
	struct card *card = kvzalloc(struct_size(card, functions, MAX_PFS), GFP_KERNEL);
	int err = 0;
	char *word;

	if (!card)
		return -ENOMEM;
	card->kind = kind_by_name(strsep(&text, ","));
	card->pfs = card->ports = 1;
	card->vfs = 8;
	card->limit = U32_MAX;
	card->acs = card->iommu = true;
	while (!err && (word = strsep(&text, ",")))
		err = set_key(card, word);
	card->stride = card->stride ?: card->pfs;
	card->offset = card->offset ?: round_up(max(card->pfs, 2U), 8);
	if (err || !possible(card)) {
		kvfree(card);
		return -EINVAL;
	}
	for (int number = 0; number < card->pfs; number++)
		card->functions[number].most = card->functions[number].fdb_limit = MAX_VFS;
	return plug(card);
}

static int remove(char *text)
{
	struct card *card;
	int domain;

	if (kstrtoint(text, 0, &domain))
		return -EINVAL;
	list_for_each_entry(card, &cards, list)
		if (card->sysdata.domain == domain) {
			unplug(card);
			return 0;
		}
	return -ENOENT;
}

/* A line, for add() or remove(). */
static ssize_t order(const char __user *data, size_t size, int (*act)(char *text))
{
	char *text = memdup_user_nul(data, size);
	int err;

	if (IS_ERR(text))
		return PTR_ERR(text);
	mutex_lock(&cards_lock);
	err = act(strim(text));
	mutex_unlock(&cards_lock);
	kfree(text);
	return err ? err : size;
}

static ssize_t add_write(struct file *file, const char __user *data, size_t size, loff_t *position)
{
	return order(data, size, add);
}

static ssize_t remove_write(struct file *file, const char __user *data, size_t size, loff_t *position)
{
	return order(data, size, remove);
}

static const struct file_operations add_file = { .owner = THIS_MODULE, .write = add_write };
static const struct file_operations remove_file = { .owner = THIS_MODULE, .write = remove_write };

static void unplug_all(void)
{
	struct card *card, *next;

	mutex_lock(&cards_lock);
	list_for_each_entry_safe(card, next, &cards, list)
		unplug(card);
	mutex_unlock(&cards_lock);
}

static int add_initial(void)
{
	char *text = kstrdup(initial, GFP_KERNEL), *rest = text, *word;
	int err = text ? 0 : -ENOMEM;

	mutex_lock(&cards_lock);
	while (!err && (word = strsep(&rest, " ")))
		if (*word)
			err = add(word);
	mutex_unlock(&cards_lock);
	kfree(text);
	return err;
}

static int __init labcard_init(void)
{
	int err = card_iommu_register();

	if (err)
		return err;
	err = drivers_register();
	if (err)
		goto iommu;
	root = debugfs_create_dir("labcard", NULL);
	err = add_initial();
	if (err)
		goto cards;
	debugfs_create_file("add", 0200, root, NULL, &add_file);
	debugfs_create_file("remove", 0200, root, NULL, &remove_file);
	return 0;

cards:
	unplug_all();
	debugfs_remove(root);
	drivers_unregister();
iommu:
	card_iommu_unregister();
	return err;
}

static void __exit labcard_exit(void)
{
	debugfs_remove(root);
	unplug_all();
	drivers_unregister();
	disks_end();
	card_iommu_unregister();
}

module_init(labcard_init);
module_exit(labcard_exit);
MODULE_DESCRIPTION("SR-IOV cards without hardware");
MODULE_LICENSE("GPL");
