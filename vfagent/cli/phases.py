# SPDX-License-Identifier: Apache-2.0
"""What each phase means, as Markdown of the manual: for `explain` and vfagent(8)."""

from vfagent.model.status import GuestPhase, Phase

PHASES = {
    Phase.UNKNOWN: ("Not observed yet."),
    Phase.UNMANAGED: ("No rule of the policy matches."),
    Phase.WAITING: (
        "Waits for udev, a driver, a netdev or a link, or for its turn: most kernels create and remove VFs of "
        "one card at a time. vfagent waits for the netdev of a NIC until ten seconds after its driver, and up to "
        "two minutes while udev is busy. Then it creates the VFs without the netdev. Settings that need the "
        "netdev are problems, and follow when it comes; units that wait for vfagent do not wait for them. A PF "
        "whose netdev is in another network namespace is left alone until the netdev is back."
    ),
    Phase.CONVERGING: ("Steps are executed, or will be retried, up to eight times at growing intervals."),
    Phase.CONVERGED: ("Configured as the policy says."),
    Phase.DEFERRED: ("The remaining changes would disturb a VF in use. They are made when the VF is free."),
    Phase.FAILED: (
        "Failed eight times, or impossible on this PF. Suspended until the PF or the policy changes; a reload "
        "retries. A PF is failed, too, if one of its VFs lacks its VLAN, MAC, spoof check or `trust = false`; "
        "what the driver refused is tried again every ten minutes."
    ),
    Phase.STUCK: (
        "The kernel call does not return, usually because a guest still has a VF open. vfagent retries when "
        "it returns. Other cards are configured meanwhile. On kernels since October 2025 (5.10.246, 5.15.196, "
        "6.1.157, 6.6.113, 6.12.54, 6.17.4, 6.18), none of them can create or remove VFs until then; those "
        "that have to are *waiting*."
    ),
    Phase.RELEASED: ("Released by **vfagent release**."),
}
GUEST_PHASES = {
    GuestPhase.WAITING: "Waits for its VFs, for what it boots from, for other guests, or for the next attempt.",
    GuestPhase.STARTING: "systemd starts its unit.",
    GuestPhase.RUNNING: "Its QEMU runs.",
    GuestPhase.PAUSED: "QEMU has paused it, after an error of its disk or by hand.",
    GuestPhase.STOPPING: "It has to power off, and is killed if it does not.",
    GuestPhase.STOPPED: "Stopped by hand, or powered off by itself: until it is started by hand or its rule changes.",
    GuestPhase.FAILED: "It cannot boot, or has crashed too often.",
}
