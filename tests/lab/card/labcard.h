/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the module share. Each file's head says what it is about. */
#ifndef LABCARD_H
#define LABCARD_H

#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/pci.h>

#define LABCARD_VENDOR 0x1ab0 /* nobody's */
#define LABCARD_PF_ID 0x1000 /* + the number of the kind */
#define LABCARD_VF_ID 0x2000
#define MAX_PFS 16
#define MAX_VFS 256
#define MAX_PORTS 4

/* The per-VF operations, each a bit of kind->operations and a knob below refuse/. */
enum operation {
	VF_MAC,
	VF_VLAN,
	VF_RATE,
	VF_SPOOFCHK,
	VF_TRUST,
	VF_LINK_STATE,
	VF_RSS,
	VF_GUID,
	NUMVFS,
	HWMODE,
	FDB,
	ESWITCH,
	VF_PROBE,
	REFUSABLE,
	VF_STATS = REFUSABLE, /* the kernel ignores an error there */
};

/* Where a driver changes the eswitch mode. */
enum eswitch_rule {
	NO_ESWITCH,
	WITHOUT_VFS,
	WITH_UNBOUND_VFS,
};

/* What a VF's driver makes, if it is no netdev. */
enum child {
	NETDEV_OR_NOTHING,
	DISK,
	GPU,
	VDPA,
};

/* A driver that the card imitates. */
struct kind {
	const char *name;
	const char *driver; /* of the PF, as sysfs shows it */
	const char *vf_driver;
	u32 class;
	u32 operations;
	bool no_netdev;
	enum child child;
	bool infiniband;
	bool all_or_none; /* whatever number is written to sriov_numvfs */
	bool vfs_need_up; /* while the first netdev is down, numvfs is answered with vfs_down */
	int vfs_down;
	int settings_down; /* what settings are answered with then; 0 takes them */
	bool rate_needs_carrier;
	bool no_min_rate;
	bool only_8021q; /* EPROTONOSUPPORT for 802.1ad */
	bool hwmode_resets_vfs;
	enum eswitch_rule eswitch;
};

/* A function's configuration space. The bits of writable can be written. */
struct space {
	u8 bytes[PCI_CFG_SPACE_EXP_SIZE];
	const u8 *writable;
};

/* What the PF's driver keeps of a VF. */
struct vf_state {
	struct ifla_vf_info info;
	u64 node_guid;
	u64 port_guid;
	unsigned long ready; /* jiffies; before, settings are answered with EAGAIN */
};

/* What a test reads of what the drivers were asked. */
struct counts {
	u32 sets; /* settings of VFs */
	u32 bound_sets; /* of these, of a VF that had a driver */
	u32 reads; /* ndo_get_vf_config, once for each VF of a dump */
	u32 vf_probes; /* by the VFs' own driver */
	u32 hwmodes_without_vfs;
};

/* A PF as hardware and firmware have it: it outlives its driver. */
struct function {
	struct card *card;
	int number;
	struct space space;
	struct space *vfs;
	struct dentry *debugfs;
	u32 refuse[REFUSABLE]; /* errno; 0 accepts */
	u32 numvfs_ms; /* how long the driver takes for each change of sriov_numvfs */
	u32 vf_reset_ms; /* how long a VF takes from its making, or its reset, until it takes settings */
	u32 vf_netdev_ms; /* how long a VF's driver takes until its netdev is there */
	u32 vf_unbind_ms; /* how long it takes to let go of a VF */
	u32 fdb_limit; /* entries; one more is answered with ENOMEM */
	u32 most; /* the driver makes no more VFs than this, and answers so */
	u32 not_reported; /* bits of the operations whose values are accepted and not reported */
	struct counts counts;
};

struct card {
	struct list_head list;
	struct pci_sysdata sysdata;
	struct pci_host_bridge *bridge;
	struct resource buses;
	struct space port;
	const struct kind *kind;
	u32 pfs, vfs, ports, offset, stride, limit, carrier_ms;
	bool ari, acs, iommu, shift;
	struct function functions[];
};

/* The PF's driver data. */
struct pf {
	struct pci_dev *pdev;
	struct function *function;
	const struct kind *kind;
	int ports;
	struct net_device *netdevs[MAX_PORTS];
	struct eswitch *eswitch; /* of kinds that have one */
	u16 hwmode;
	struct vf_state vfs[MAX_VFS];
};

static inline struct card *card_of(struct pci_bus *bus)
{
	return container_of(bus->sysdata, struct card, sysdata);
}

/* main.c */
bool is_ours(struct pci_dev *pdev);
struct function *function_of(struct pci_dev *pf);

/* config.c */
int card_config(struct card *card);
struct pci_dev *vf_device(struct pf *pf, int index);
extern struct pci_ops card_config_ops;

/* iommu.c */
int card_iommu_register(void);
void card_iommu_unregister(void);

/* kinds.c */
extern const struct kind kinds[];
extern const int kinds_count;
const struct kind *kind_by_name(const char *name);

/* pf.c */
int pf_probe(struct pci_dev *pdev);
void pf_remove(struct pci_dev *pdev);
int pf_sriov_configure(struct pci_dev *pdev, int count);
int answer(struct pf *pf, enum operation operation);

/* eswitch.c */
int eswitch_add(struct pf *pf);
void eswitch_remove(struct pf *pf);
int eswitch_set_vfs(struct pf *pf, int count);
bool in_switchdev_mode(struct pf *pf);
int port_parent_id(struct pf *pf, struct netdev_phys_item_id *id);

/* switch.c */
int set_hwmode(struct net_device *dev, struct nlmsghdr *nlh, u16 flags, struct netlink_ext_ack *extack);
int get_hwmode(struct sk_buff *skb, u32 pid, u32 seq, struct net_device *dev, u32 filter, int nlflags);
int add_fdb(struct ndmsg *ndm, struct nlattr *tb[], struct net_device *dev, const unsigned char *address, u16 vid,
	    u16 flags, struct netlink_ext_ack *extack);

/* netdev.c */
struct pf *pf_of(struct net_device *dev);
int pf_netdev_add(struct pf *pf, int port);
void pf_netdev_remove(struct pf *pf, int port);
void vf_reset(struct pf *pf, int index);
void pf_reset(struct pf *pf);

/* vf.c */
int vf_probe(struct pci_dev *pdev);
void vf_remove(struct pci_dev *pdev);

/* disk.c */
int disk_add(struct pci_dev *pdev);
void disk_remove(struct pci_dev *pdev);
void disks_end(void);

/* gpu.c */
int gpu_add(struct pci_dev *pdev);
void gpu_remove(struct pci_dev *pdev);

/* vdpa.c */
#if IS_ENABLED(CONFIG_VDPA)
int vdpa_add(struct pci_dev *pdev);
void vdpa_remove(struct pci_dev *pdev);
#else
static inline int vdpa_add(struct pci_dev *pdev)
{
	return -EOPNOTSUPP;
}

static inline void vdpa_remove(struct pci_dev *pdev)
{
}
#endif

/* drivers.c */
bool has_own_driver(struct pci_dev *pdev);
int drivers_register(void);
void drivers_unregister(void);

#endif
