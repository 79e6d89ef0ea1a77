# SPDX-License-Identifier: Apache-2.0
"""Guests: phases, VFs and starts."""

from vfagent.metrics.client import Metric
from vfagent.metrics.families import Labels, Sheet, counter, gauge, label
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


def collect(view: View) -> list[Metric]:
    sheet, vf_labels = Sheet(FAMILIES), _vf_labels(view)
    for guest in view.status.guests:
        labels = {"guest": label(guest.name)}
        sheet.put(INFO, 1, {**labels, "unit": guest.unit, "loader": label(guest.loader)})
        for address in guest.vf_addresses:
            if address in vf_labels:
                sheet.put(VF_INFO, 1, {**vf_labels[address], **labels})
        for phase in GuestPhase:
            sheet.put(PHASE, guest.phase is phase, {**labels, "phase": phase})
        _put_numbers(sheet, guest, labels)
    return sheet.metrics()


def _vf_labels(view: View) -> dict[str, Labels]:
    """PF and index of each VF, by its address."""
    if not view.status.guests:
        return {}
    return {vf.address: {"pf": pf.address, "vf": str(vf.index)} for pf in view.status.pfs for vf in pf.vfs}


def _put_numbers(sheet: Sheet, guest: GuestStatus, labels: Labels) -> None:
    sheet.put(OUTDATED, guest.outdated, labels)
    sheet.put(STARTS, guest.starts, labels)
    sheet.put(START_FAILURES, guest.start_failures, labels)
    sheet.put(RESTARTS, guest.restarts, labels)
    sheet.put(START, guest.started_at, labels)
