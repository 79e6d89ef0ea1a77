# SPDX-License-Identifier: Apache-2.0
"""Guests: what they are, which VFs they hold, and how often they had to be started."""

from vfagent.metrics.client import Metric
from vfagent.metrics.families import Labels, Sheet, counter, gauge, label
from vfagent.metrics.view import View
from vfagent.model.status import GuestPhase, GuestStatus

INFO = gauge("guest_info", "The guest, its unit, and what it boots by.", "guest", "unit", "loader")
VF_INFO = gauge("vf_guest_info", "The guest that holds the VF; absent where none does.", "pf", "vf", "guest")
PHASE = gauge("guest_phase", "1 for the phase that the guest is in, 0 for the others.", "guest", "phase")
OUTDATED = gauge("guest_outdated", "Whether the guest runs by an older rule than the policy's.", "guest")
STARTS = counter("guest_starts", "Times that the agent started the guest, with or without success.", "guest")
START_FAILURES = counter("guest_start_failures", "Times that the agent could not start the guest.", "guest")
RESTARTS = counter("guest_restarts", "Times that systemd restarted the guest's unit since it was made.", "guest")
START = gauge("guest_start_time_seconds", "When the guest's QEMU started, in seconds since 1970.", "guest")

FAMILIES = (INFO, VF_INFO, PHASE, OUTDATED, STARTS, START_FAILURES, RESTARTS, START)


def collect(view: View) -> list[Metric]:
    sheet, places = Sheet(FAMILIES), _places(view)
    for guest in view.status.guests:
        labels = {"guest": label(guest.name)}
        sheet.put(INFO, 1, {**labels, "unit": guest.unit, "loader": label(guest.loader)})
        for place in (places[address] for address in guest.vf_addresses if address in places):
            sheet.put(VF_INFO, 1, {**place, **labels})
        for phase in GuestPhase:
            sheet.put(PHASE, guest.phase is phase, {**labels, "phase": phase})
        _put_numbers(sheet, guest, labels)
    return sheet.metrics()


def _places(view: View) -> dict[str, Labels]:
    """Where VFs are, by address: a unit knows its VFs by nothing else."""
    if not view.status.guests:
        return {}
    return {vf.address: {"pf": pf.address, "vf": str(vf.index)} for pf in view.status.pfs for vf in pf.vfs}


def _put_numbers(sheet: Sheet, guest: GuestStatus, labels: Labels) -> None:
    sheet.put(OUTDATED, guest.outdated, labels)
    sheet.put(STARTS, guest.starts, labels)
    sheet.put(START_FAILURES, guest.start_failures, labels)
    sheet.put(RESTARTS, guest.restarts, labels)
    sheet.put(START, guest.started_at, labels)
