// SPDX-License-Identifier: GPL-2.0
/*
 * The PF's netdevs: every per-VF operation of net_device_ops. A kind that lacks
 * one has NULL there, so that rtnetlink answers EOPNOTSUPP by itself.
 */
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/if_infiniband.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <net/rtnetlink.h>

#include "labcard.h"

struct port {
	struct pf *pf;
	struct net_device *dev;
	struct delayed_work link_up;
	struct net_device_ops ops;
};

struct pf *pf_of(struct net_device *dev)
{
	struct port *port = netdev_priv(dev);

	return port->pf;
}

static bool is_bound(struct pf *pf, int index)
{
	struct pci_dev *vf = vf_device(pf, index);
	bool bound = vf && READ_ONCE(vf->dev.driver);

	pci_dev_put(vf);
	return bound;
}

/* The VF's state, or NULL with the driver's answer. */
static struct vf_state *vf_for(struct net_device *dev, int index, enum operation operation, int *err)
{
	struct pf *pf = pf_of(dev);

	pf->function->counts.sets++;
	*err = index < 0 || index >= pci_num_vf(pf->pdev) ? -EINVAL : answer(pf, operation);
	/* i40e_check_vf_init_timeout(), ice_check_vf_ready_for_cfg() */
	if (!*err && time_before(jiffies, pf->vfs[index].ready))
		*err = -EAGAIN;
	if (*err)
		return NULL;
	pf->function->counts.bound_sets += is_bound(pf, index);
	return &pf->vfs[index];
}

void vf_reset(struct pf *pf, int index)
{
	struct vf_state *vf = &pf->vfs[index];

	memset(vf, 0, sizeof(*vf));
	vf->info.vf = index;
	vf->info.spoofchk = 1;
	vf->info.vlan_proto = htons(ETH_P_8021Q);
	vf->info.linkstate = IFLA_VF_LINK_STATE_AUTO;
	vf->ready = jiffies + msecs_to_jiffies(pf->function->vf_reset_ms);
}

/* The settings of all VFs are lost, and the link goes down and up. */
void pf_reset(struct pf *pf)
{
	rtnl_lock();
	for (int index = 0; index < MAX_VFS; index++)
		vf_reset(pf, index);
	for (int port = 0; port < pf->ports; port++) {
		bool up = netif_carrier_ok(pf->netdevs[port]);

		netif_carrier_off(pf->netdevs[port]);
		if (up)
			netif_carrier_on(pf->netdevs[port]);
	}
	rtnl_unlock();
}

static int set_mac(struct net_device *dev, int index, u8 *mac)
{
	int err;
	struct vf_state *vf = vf_for(dev, index, VF_MAC, &err);

	if (vf)
		ether_addr_copy(vf->info.mac, mac);
	return err;
}

static int set_vlan(struct net_device *dev, int index, u16 vlan, u8 qos, __be16 proto)
{
	int err;
	struct vf_state *vf = vf_for(dev, index, VF_VLAN, &err);

	if (vf && proto != htons(ETH_P_8021Q) && (proto != htons(ETH_P_8021AD) || pf_of(dev)->kind->only_8021q))
		return -EPROTONOSUPPORT;
	if (vf) {
		vf->info.vlan = vlan;
		vf->info.qos = qos;
		vf->info.vlan_proto = proto;
	}
	return err;
}

static int set_rate(struct net_device *dev, int index, int least, int most)
{
	int err;
	struct vf_state *vf = vf_for(dev, index, VF_RATE, &err);

	if (vf && least && pf_of(dev)->kind->no_min_rate)
		return -EINVAL;
	if (vf) {
		vf->info.min_tx_rate = least;
		vf->info.max_tx_rate = most;
	}
	return err;
}

static int set_spoofchk(struct net_device *dev, int index, bool on)
{
	int err;
	struct vf_state *vf = vf_for(dev, index, VF_SPOOFCHK, &err);

	if (vf)
		vf->info.spoofchk = on;
	return err;
}

static int set_trust(struct net_device *dev, int index, bool on)
{
	int err;
	struct vf_state *vf = vf_for(dev, index, VF_TRUST, &err);

	if (vf)
		vf->info.trusted = on;
	return err;
}

static int set_link_state(struct net_device *dev, int index, int state)
{
	int err;
	struct vf_state *vf = vf_for(dev, index, VF_LINK_STATE, &err);

	if (vf)
		vf->info.linkstate = state;
	return err;
}

static int set_rss(struct net_device *dev, int index, bool on)
{
	int err;
	struct vf_state *vf = vf_for(dev, index, VF_RSS, &err);

	if (vf)
		vf->info.rss_query_en = on;
	return err;
}

static int set_guid(struct net_device *dev, int index, u64 guid, int type)
{
	int err;
	struct vf_state *vf = vf_for(dev, index, VF_GUID, &err);

	if (vf && type == IFLA_VF_IB_NODE_GUID)
		vf->node_guid = guid;
	else if (vf)
		vf->port_guid = guid;
	return err;
}

static int get_guid(struct net_device *dev, int index, struct ifla_vf_guid *node, struct ifla_vf_guid *port)
{
	struct pf *pf = pf_of(dev);

	if (index >= pci_num_vf(pf->pdev))
		return -EINVAL;
	node->guid = pf->vfs[index].node_guid;
	port->guid = pf->vfs[index].port_guid;
	return 0;
}

static int get_config(struct net_device *dev, int index, struct ifla_vf_info *info)
{
	struct pf *pf = pf_of(dev);
	u32 hidden = pf->function->not_reported | ~pf->kind->operations;

	pf->function->counts.reads++;
	if (index >= pci_num_vf(pf->pdev))
		return -EINVAL;
	*info = pf->vfs[index].info;
	if (hidden & BIT(VF_MAC))
		eth_zero_addr(info->mac);
	if (hidden & BIT(VF_VLAN))
		info->vlan = info->qos = 0;
	if (hidden & BIT(VF_RATE))
		info->min_tx_rate = info->max_tx_rate = 0;
	/* rtnl_fill_vfinfo() sets these to -1 first: not reported. */
	if (hidden & BIT(VF_SPOOFCHK))
		info->spoofchk = -1;
	if (hidden & BIT(VF_TRUST))
		info->trusted = -1;
	if (hidden & BIT(VF_LINK_STATE))
		info->linkstate = 0;
	if (hidden & BIT(VF_RSS))
		info->rss_query_en = -1;
	return 0;
}

static int get_stats(struct net_device *dev, int index, struct ifla_vf_stats *stats)
{
	stats->rx_packets = 1000 + index;
	stats->tx_packets = 2000 + index;
	return 0;
}

static netdev_tx_t drop(struct sk_buff *skb, struct net_device *dev)
{
	dev_kfree_skb(skb);
	return NETDEV_TX_OK;
}

static void link_up(struct work_struct *work)
{
	struct port *port = container_of(work, struct port, link_up.work);

	netif_carrier_on(port->dev);
}

static int open(struct net_device *dev)
{
	struct port *port = netdev_priv(dev);

	schedule_delayed_work(&port->link_up, msecs_to_jiffies(port->pf->function->card->carrier_ms));
	return 0;
}

static int stop(struct net_device *dev)
{
	struct port *port = netdev_priv(dev);

	cancel_delayed_work_sync(&port->link_up);
	netif_carrier_off(dev);
	return 0;
}

/* bnxt_get_phys_port_name() */
static int port_name(struct net_device *dev, char *name, size_t size)
{
	struct pf *pf = pf_of(dev);

	if (pf->kind->eswitch == NO_ESWITCH)
		return -EOPNOTSUPP;
	return snprintf(name, size, "p%d", pf->function->number) < size ? 0 : -EINVAL;
}

static int parent_id(struct net_device *dev, struct netdev_phys_item_id *id)
{
	return port_parent_id(pf_of(dev), id);
}

/* FDB entries are addresses of the netdev: the card takes them all. */
static void set_rx_mode(struct net_device *dev)
{
}

static void set_ops(struct net_device_ops *ops, u32 has)
{
	*ops = (struct net_device_ops){
		.ndo_open = open,
		.ndo_stop = stop,
		.ndo_start_xmit = drop,
		.ndo_set_mac_address = eth_mac_addr,
		.ndo_get_vf_config = get_config,
		.ndo_set_vf_mac = has & BIT(VF_MAC) ? set_mac : NULL,
		.ndo_set_vf_vlan = has & BIT(VF_VLAN) ? set_vlan : NULL,
		.ndo_set_vf_rate = has & BIT(VF_RATE) ? set_rate : NULL,
		.ndo_set_vf_spoofchk = has & BIT(VF_SPOOFCHK) ? set_spoofchk : NULL,
		.ndo_set_vf_trust = has & BIT(VF_TRUST) ? set_trust : NULL,
		.ndo_set_vf_link_state = has & BIT(VF_LINK_STATE) ? set_link_state : NULL,
		.ndo_set_vf_rss_query_en = has & BIT(VF_RSS) ? set_rss : NULL,
		.ndo_set_vf_guid = has & BIT(VF_GUID) ? set_guid : NULL,
		.ndo_get_vf_guid = has & BIT(VF_GUID) ? get_guid : NULL,
		.ndo_get_vf_stats = has & BIT(VF_STATS) ? get_stats : NULL,
		.ndo_get_phys_port_name = port_name,
		.ndo_get_port_parent_id = parent_id,
		.ndo_set_rx_mode = set_rx_mode,
		.ndo_fdb_add = has & BIT(FDB) ? add_fdb : NULL,
		.ndo_bridge_setlink = has & BIT(HWMODE) ? set_hwmode : NULL,
		.ndo_bridge_getlink = has & BIT(HWMODE) ? get_hwmode : NULL,
	};
}

/* As ipoib_setup_common() does: 20 octets, of which the last 8 are the port's GUID. */
static void make_infiniband(struct net_device *dev)
{
	u8 address[INFINIBAND_ALEN] = { 0, 0, 0, 0x88, 0xfe, 0x80 };

	get_random_bytes(address + 12, 8);
	dev->type = ARPHRD_INFINIBAND;
	dev->addr_len = INFINIBAND_ALEN;
	dev->hard_header_len = 4;
	dev->header_ops = NULL;
	dev->mtu = 2044;
	dev->max_mtu = 4092;
	dev->priv_flags &= ~IFF_UNICAST_FLT;
	memset(dev->broadcast, 0xff, INFINIBAND_ALEN);
	dev_addr_set(dev, address);
}

int pf_netdev_add(struct pf *pf, int port)
{
	struct net_device *dev = alloc_etherdev(sizeof(struct port));
	struct port *own;
	u8 mac[ETH_ALEN] = { 0x52, 0x54, 0x00, 0xca };
	int err;

	if (!dev)
		return -ENOMEM;
	own = netdev_priv(dev);
	own->pf = pf;
	own->dev = dev;
	INIT_DELAYED_WORK(&own->link_up, link_up);
	set_ops(&own->ops, pf->kind->operations);
	dev->netdev_ops = &own->ops;
	dev->dev_port = port;
	dev->priv_flags |= IFF_UNICAST_FLT;
	dev->max_mtu = 9710;
	SET_NETDEV_DEV(dev, &pf->pdev->dev);
	mac[4] = pci_domain_nr(pf->pdev->bus);
	mac[5] = pf->function->number << 4 | port;
	eth_hw_addr_set(dev, mac);
	if (pf->kind->infiniband) {
		make_infiniband(dev);
		strscpy(dev->name, "ib%d", IFNAMSIZ);
	}
	netif_carrier_off(dev);
	err = register_netdev(dev);
	if (err) {
		free_netdev(dev);
		return err;
	}
	pf->netdevs[port] = dev;
	return 0;
}

void pf_netdev_remove(struct pf *pf, int port)
{
	unregister_netdev(pf->netdevs[port]);
	free_netdev(pf->netdevs[port]);
}
