# SPDX-License-Identifier: Apache-2.0
"""Guests: phases, VFs and starts, and what they use."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from vfagent.metrics.families import Samples, counter, gauge, label
from vfagent.metrics.view import View
from vfagent.model.guest_usage import GuestUsage
from vfagent.model.status import GuestPhase, GuestStatus

INFO = gauge("guest_info", "The guest, its systemd unit and what it boots from.", "guest", "unit", "loader")
VF_INFO = gauge("vf_guest_info", "The guest that the VF belongs to; absent without one.", "pf", "vf", "guest")
PHASE = gauge("guest_phase", "1 for the phase of the guest, 0 for the others.", "guest", "phase")
OUTDATED = gauge("guest_outdated", "Whether the guest runs with an older rule than the policy has now.", "guest")
STARTS = counter("guest_starts", "Times that the agent started the guest, successful or not.", "guest")
START_FAILURES = counter("guest_start_failures", "Times that the agent could not start the guest.", "guest")
RESTARTS = counter("guest_restarts", "Times that systemd restarted the guest's unit since it was created.", "guest")
START = gauge("guest_start_time_seconds", "When the guest's QEMU started, in seconds since 1970.", "guest")

CPU = counter("guest_cpu_seconds", "CPU time of the guest and its QEMU.", "guest")
MEMORY = gauge("guest_memory_bytes", "Memory of the guest and its QEMU that is in use, without huge pages.", "guest")
_DISK = "block devices of the host for the guest; what the page cache serves does not count."
READ = counter("guest_disk_read_bytes", f"Bytes read from {_DISK}", "guest")
WRITTEN = counter("guest_disk_written_bytes", f"Bytes written to {_DISK}", "guest")
_NIC = {
    f"{way}_{what}": counter(
        f"guest_nic_{word}_{what}", f"{what.capitalize()} {done} the guest by its virtio NIC.", "guest", "nic"
    )
    for way, word, done in (("rx", "receive", "received by"), ("tx", "transmit", "sent by"))
    for what in ("bytes", "packets")
}
_USAGE = (CPU, MEMORY, READ, WRITTEN, *_NIC.values())

FAMILIES = (INFO, VF_INFO, PHASE, OUTDATED, STARTS, START_FAILURES, RESTARTS, START, *_USAGE)


def collect(view: View) -> Iterator[Metric]:
    samples, vf_labels = Samples(FAMILIES), _vf_labels(view)
    for guest in view.status.guests:
        name = label(guest.name)
        samples.add(INFO, 1, name, guest.unit, label(guest.loader))
        for address in guest.vf_addresses:
            if address in vf_labels:
                samples.add(VF_INFO, 1, *vf_labels[address], name)
        for phase in GuestPhase:
            samples.add(PHASE, guest.phase is phase, name, phase)
        _add_numbers(samples, guest, name)
        if guest.name in view.usage:
            _add_usage(samples, view.usage[guest.name], name)
    return samples.metrics()


def _vf_labels(view: View) -> dict[str, tuple[str, str]]:
    """PF and index of each VF, by its address."""
    if not view.status.guests:
        return {}
    return {vf.address: (pf.address, str(vf.index)) for pf in view.status.pfs for vf in pf.vfs}


def _add_numbers(samples: Samples, guest: GuestStatus, name: str) -> None:
    samples.add(OUTDATED, guest.outdated, name)
    samples.add(STARTS, guest.starts, name)
    samples.add(START_FAILURES, guest.start_failures, name)
    samples.add(RESTARTS, guest.restarts, name)
    samples.add(START, guest.started_at, name)


def _add_usage(samples: Samples, usage: GuestUsage, name: str) -> None:
    samples.add(CPU, usage.cpu_s, name)
    samples.add(MEMORY, usage.memory_bytes, name)
    samples.add(READ, usage.read_bytes, name)
    samples.add(WRITTEN, usage.written_bytes, name)
    for number, counters in enumerate(usage.nics):
        for counter_name, family in _NIC.items():
            samples.add(family, getattr(counters, counter_name), name, str(number))
