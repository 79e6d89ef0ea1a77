# SPDX-License-Identifier: Apache-2.0
"""What ends a phase of a PF or guest that is not as the policy wants it: an event, or an attempt at a known time."""

from enum import StrEnum


class EndsBy(StrEnum):
    """Of a PF. The words complete "until", in `status`; the comments name what tells vfagent."""

    OBSERVED = "it is observed"  # its worker's report, or the worker's deadline
    UDEV = "udev reports that it has handled it"  # udev
    DRIVER = "a driver is bound to it"  # udev: bind
    OTHER_DRIVER = "another driver is bound to it"  # udev: bind
    NETDEV = "its netdev appears"  # udev: add of the netdev; the grace
    NETDEV_BACK = "its netdev is back in this network namespace"  # udev: add of the netdev
    LINK = "an event of an interface: a link comes up, a bridge appears"  # rtnetlink
    READABLE = "it can be read; tried every 30 s"  # a timer
    TURN = "the kernel returns from the other PF's step; tried every 30 s"  # that worker's end, a timer
    STEPS = "its steps end"  # its worker's reports, and a deadline for each step
    RETRY = "the next attempt"  # a timer
    USER = (
        "the user of the VF or port releases it; checked every 30 s"  # inotify on /dev/vfio, the guest's end, a timer
    )
    REFUSED = "its driver accepts what it refused; tried every 10 min"  # a timer
    CHANGE = "the PF, its driver or the policy changes"  # udev, rtnetlink, a reload
    KERNEL = "the kernel call returns"  # the worker's end
    GIVEN = "a reload of the policy, or vfagent apply"


class GuestEndsBy(StrEnum):
    """Of a guest, as above."""

    VF = "its VF is ready"  # each change of a PF
    BRIDGE = "its bridge is there"  # rtnetlink
    PREPARED = "what it waits for is done"  # the end of the KVM probe or of the ROM's build, or a later attempt
    TURN = "other guests have started"  # the end of each start
    RETRY = "the next attempt"  # a timer
    JOB = "systemd's job ends"  # the worker's answer, or its deadline
    BY_HAND = "vfagent guest start, or a change of its rule"
    AGAIN_BY_HAND = "vfagent guest stop and start, or QEMU resumes it"  # the run state, asked at each resync
    FILE = "it is there; tried every 30 s"  # a timer
    GUEST = "that guest runs"  # its unit's state
    CHANGE = "its rule or its VFs change"  # a reload, each change of a PF
