# SPDX-License-Identifier: Apache-2.0
"""Guests: phases, VFs and starts."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from vfagent.metrics.families import Samples, counter, gauge, label
from vfagent.metrics.view import View
from vfagent.model.status import GuestPhase, GuestStatus

INFO = gauge("guest_info", "The guest, its systemd unit and what it boots from.", "guest", "unit", "loader")
VF_INFO = gauge("vf_guest_info", "The guest that the VF belongs to; absent without one.", "pf", "vf", "guest")
PHASE = gauge("guest_phase", "1 for the phase of the guest, 0 for the others.", "guest", "phase")
OUTDATED = gauge("guest_outdated", "Whether the guest runs with an older rule than the policy has now.", "guest")
STARTS = counter("guest_starts", "Times that the agent started the guest, successful or not.", "guest")
START_FAILURES = counter("guest_start_failures", "Times that the agent could not start the guest.", "guest")
RESTARTS = counter("guest_restarts", "Times that systemd restarted the guest's unit since it was created.", "guest")
START = gauge("guest_start_time_seconds", "When the guest's QEMU started, in seconds since 1970.", "guest")

FAMILIES = (INFO, VF_INFO, PHASE, OUTDATED, STARTS, START_FAILURES, RESTARTS, START)


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
