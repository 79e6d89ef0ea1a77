# SPDX-License-Identifier: Apache-2.0
"""What vfagent must never do: each effect is checked against the state at that moment, before it is executed."""

from tests.model.devices import PfDevice, VfDevice
from tests.model.effects import Effect, Kind, attributes_of, subject
from tests.model.kernel import Kernel
from vfagent.model.vf_settings import VfSettings


class Violation(BaseException):
    """Not an Exception, so that no error handling of vfagent catches it."""


def objection(kernel: Kernel, effect: Effect, *, allow_management: bool) -> str | None:
    pf, vf = subject(kernel, effect)
    match effect.kind:
        case Kind.OTHER:
            return "vfagent must not write there"
        case Kind.LINK:
            return _link(kernel, effect)
        case Kind.IPV6:
            return _somebodys(kernel, effect.target) if effect.value == "accept_ra 0" else None
        case Kind.HWMODE if pf:
            return "it has no VFs" if not pf.vfs else "its VFs are in use" if pf.in_use else None
    # A PF that was removed in the meantime: the kernel returns an error.
    return _on_pf(kernel, pf, vf, effect, allow_management=allow_management) if pf else None


def _on_pf(kernel: Kernel, pf: PfDevice, vf: VfDevice | None, effect: Effect, *, allow_management: bool) -> str | None:
    match effect.kind:
        case Kind.NUMVFS:
            return _numvfs(pf, int(effect.value)) or _management(pf, allowed=allow_management)
        case Kind.MTU:
            disturbs = pf.kind.mtu_resets_vfs and pf.in_use
            return "it resets a VF in use" if disturbs else _management(pf, allowed=allow_management)
        case Kind.ADMIN:
            name = pf.netdev.name if pf.netdev else ""
            return _down(pf, allowed=allow_management) if effect.value == "down" else _open(kernel, name)
        case Kind.UNBIND | Kind.OVERRIDE:
            return "the VF is in use" if vf and vf.in_use else None
        case Kind.VF:
            return _vf(pf, vf, effect)
        case _:
            return None


def _link(kernel: Kernel, effect: Effect) -> str | None:
    link = kernel.links.created.get(effect.target)
    if link and not link.managed:
        return "it is foreign"
    return _open(kernel, effect.target) if "up=True" in effect.value else None


def _somebodys(kernel: Kernel, name: str) -> str | None:
    netdev, link = kernel.netdevs.get(name), kernel.links.created.get(name)
    if netdev and (netdev.addressed or netdev.default_route or netdev.master):
        return "somebody configures it"
    return "it is foreign" if link and not link.managed else None


def _open(kernel: Kernel, name: str) -> str | None:
    conf = kernel.ipv6_conf(name)
    is_open = conf is not None and conf["accept_ra"] and not (kernel.ipv6_refused or _somebodys(kernel, name))
    return "a router could give it addresses and routes" if is_open else None


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


def open_to_all(pf: PfDevice, vf: VfDevice, isolation: VfSettings) -> str | None:
    """Another program may open a VF as soon as it is bound. What the driver refuses for good cannot be waited for."""
    possible = [attribute for attribute in attributes_of(isolation) if attribute in VfSettings.__dataclass_fields__]
    refused = set(attributes_of(isolation)) & pf.kind.refuses.keys()
    if pf.netdev is None or refused or pf.kind.loses:  # it says that it has set them
        return None
    missing = [name for name in possible if getattr(vf.settings, name) != getattr(isolation, name)]
    return f"it is bound without its {', '.join(missing)}" if missing else None


def _vf(pf: PfDevice, vf: VfDevice | None, effect: Effect) -> str | None:
    if absent := sorted(pf.kind.absent & set(attributes_of(effect.settings))):
        return f"its link layer has no {', '.join(absent)}"
    disturbing = sorted(pf.kind.resets_vf_on & set(attributes_of(effect.settings)))
    return f"setting {', '.join(disturbing)} disturbs a VF in use" if vf and vf.in_use and disturbing else None
