# SPDX-License-Identifier: Apache-2.0
"""Sets whether an interface takes what routers advertise."""

import errno
from dataclasses import fields

from vfagent.errors import RefusedError, errno_text
from vfagent.kernel.protocols import Host
from vfagent.model.driver_state import StepResult
from vfagent.model.vf_settings import Attribute
from vfagent.plan.network_steps import SetAutoconf
from vfagent.reconcile.kernel_errors import fail
from vfagent.reconcile.observe_autoconf import conf_folder, ipv6_conf

_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


def set_autoconf(step: SetAutoconf, host: Host) -> StepResult:
    """accept_ra first: it also ends the router solicitations that are under way."""
    name = _name(step, host)
    if name is None:
        fail(step, errno.ENODEV)
    present, folder = ipv6_conf(host, name), conf_folder(host, name)
    names = [field.name for field in fields(step.conf)] if present else []
    for file in names:
        value = getattr(step.conf, file)
        try:
            if getattr(present, file) != value:
                host.sysfs.write(f"{folder}/{file}", str(value))
        except OSError as error:
            if error.errno in _FORBIDDEN:
                # The PF and its VFs are made ready all the same; the plan has a problem from now on.
                return StepResult(unsupported={Attribute.IPV6_AUTOCONF: errno_text(error.errno)})
            if error.errno != errno.ENOENT:
                fail(step, error.errno or 0)
    return StepResult()


def _name(step: SetAutoconf, host: Host) -> str | None:
    """Its present name: udev may have renamed it since the plan."""
    if step.ifindex is None:
        link = host.network.link(step.name)
        if link and not link.managed:
            raise RefusedError(f"{step.pf}: cannot {step.describe()}: {link.name} is foreign by now")
        return link.name if link else None
    facts = host.rtnl.link(step.ifindex, vfs=False)
    return facts.name if facts else None
