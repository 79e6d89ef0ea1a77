# SPDX-License-Identifier: Apache-2.0
"""What vfagent must never do: each effect is checked against the state at that moment, before it is executed."""

from tests.model.devices import PfDevice, VfDevice
from tests.model.effects import Effect, Kind, attributes_of, subject
from tests.model.kernel import Kernel


class Violation(BaseException):
    """Not an Exception, so that no error handling of vfagent catches it."""


def objection(kernel: Kernel, effect: Effect, *, allow_management: bool) -> str | None:
    pf, vf = subject(kernel, effect)
    match effect.kind:
        case Kind.OTHER:
            return "vfagent must not write there"
        case Kind.LINK:
            link = kernel.links.created.get(effect.target)
            return "it is foreign" if link and not link.managed else None
        case Kind.HWMODE if pf:
            return "it has no VFs" if not pf.vfs else "its VFs are in use" if pf.in_use else None
    if pf is None:
        return None  # removed in the meantime: the kernel returns an error
    match effect.kind:
        case Kind.NUMVFS:
            return _numvfs(pf, int(effect.value)) or _management(pf, allowed=allow_management)
        case Kind.MTU:
            disturbs = pf.kind.mtu_resets_vfs and pf.in_use
            return "it resets a VF in use" if disturbs else _management(pf, allowed=allow_management)
        case Kind.ADMIN:
            return _down(pf, allowed=allow_management) if effect.value == "down" else None
        case Kind.UNBIND | Kind.OVERRIDE:
            return "the VF is in use" if vf and vf.in_use else None
        case Kind.VF:
            return _vf(pf, vf, effect)
        case _:
            return None


def _numvfs(pf: PfDevice, count: int) -> str | None:
    if count == len(pf.vfs):
        return "the value is set already"
    if count and pf.vfs:
        return "0 must be written between two counts"
    return "it destroys a VF in use" if pf.in_use else None


def _management(pf: PfDevice, *, allowed: bool) -> str | None:
    cuts = pf.netdev is not None and pf.netdev.default_route and not allowed
    return "this PF carries the default route" if cuts else None


def _down(pf: PfDevice, *, allowed: bool) -> str | None:
    return "it cuts off a VF in use" if pf.in_use else _management(pf, allowed=allowed)


def _vf(pf: PfDevice, vf: VfDevice | None, effect: Effect) -> str | None:
    disturbing = sorted(pf.kind.resets_vf_on & set(attributes_of(effect.settings)))
    return f"setting {', '.join(disturbing)} disturbs a VF in use" if vf and vf.in_use and disturbing else None
