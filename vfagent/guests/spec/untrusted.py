# SPDX-License-Identifier: Apache-2.0
"""Properties of every unit that runs what a tenant wrote: a guest, the KVM probe, the build of a ROM. Pure."""

from vfagent.model.guest_unit import Property

_INFO = 6  # LOG_INFO, syslog(3)
_BURST, _WITHIN_S = 1000, 30

UNTRUSTED_OUTPUT: tuple[Property, ...] = (
    # Otherwise a line that begins with `<0>` is an emergency, which journald writes to every terminal of the host
    # (sd-daemon(3); ForwardToWall= in journald.conf(5)).
    Property("SyslogLevelPrefix", "b", value=False),
    Property("SyslogLevel", "i", _INFO),
    # A Linux guest's boot is some 800 lines. journald drops what is more, and counts it. It allows up to six times as
    # many while the journal's file system has space (burst_modulate() in journald-rate-limit.c).
    Property("LogRateLimitIntervalUSec", "t", _WITHIN_S * 1_000_000),
    Property("LogRateLimitBurst", "u", _BURST),
)
"""Its output is text at one level, and bounded. QEMU's stdout is the guest's serial console."""

NO_BUS = Property("InaccessiblePaths", "as", ["-/run/dbus", "-/run/systemd/private"])
"""It talks to nobody. `-`: a host without the path is fine."""
