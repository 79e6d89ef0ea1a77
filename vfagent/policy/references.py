# SPDX-License-Identifier: Apache-2.0
"""VF references of guests, and the guests that `each` and `{index}` expand to."""

from dataclasses import replace

from vfagent.frozen import frozen
from vfagent.policy.indices import IndexSet, index_set
from vfagent.policy.types import ChapRule, DiskRule, GuestRule, IpxeRule, KernelRule, SeedRule

_MARK = "{index}"


@frozen(slots=True)
class VfReference:
    """VFs of a PF rule; `indices` is None for any free VF."""

    label: str
    indices: IndexSet | None

    def __str__(self) -> str:
        return self.label if self.indices is None else f"{self.label}:{self.indices}"


def vf_reference(text: str) -> VfReference:
    """From "storage:0", "storage" or, in `each`, "storage:0-3"."""
    label, colon, indices = text.partition(":")
    return VfReference(label, index_set(indices) if colon else None)


def reaches(address: str, other: str) -> bool:
    """Whether the other address is a neighbour of a host with this address."""
    import ipaddress  # only policies with addresses need it

    neighbour = ipaddress.ip_address(other)
    on_link = neighbour in ipaddress.ip_interface(address).network
    return on_link or (neighbour.version == 6 and neighbour.is_link_local)


def address_of(template: str, index: int) -> str:
    """A VF's MAC or GUID, from a template or a fixed one."""
    return template.format(index=index).lower()


def guest_of_vf(rule: GuestRule, index: int) -> GuestRule:
    """The guest of one VF, from a rule with `each`."""
    reference = vf_reference(rule.each or "")
    return replace(
        rule,
        name=_filled(rule.name, index),
        each=None,
        vfs=(f"{reference.label}:{index}", *rule.vfs),
        vnc=_filled_or_none(rule.vnc, index),
        vnc_remote=_filled_or_none(rule.vnc_remote, index),
        vnc_password=_filled_or_none(rule.vnc_password, index),
        ipxe=_filled_ipxe(rule.ipxe, index) if rule.ipxe else None,
        kernel=_filled_kernel(rule.kernel, index) if rule.kernel else None,
        chap=_filled_chap(rule.chap, index) if rule.chap else None,
        disk=tuple(_filled_disk(disk, index) for disk in rule.disk),
        seed=_filled_seed(rule.seed, index) if rule.seed else None,
        credentials=tuple((name, _filled(value, index)) for name, value in rule.credentials),
    )


def guests_of(rule: GuestRule, vf_count: int) -> tuple[GuestRule, ...]:
    """The guests of a rule; `vf_count`, its PF's number of VFs, matters only with `each`."""
    if rule.each is None:
        return (rule,)
    indices = vf_reference(rule.each).indices or IndexSet()
    return tuple(guest_of_vf(rule, index) for index in indices.within(vf_count))


def _filled(text: str, index: int) -> str:
    return text.replace(_MARK, str(index))


def _filled_or_none(text: str | None, index: int) -> str | None:
    return None if text is None else _filled(text, index)


def _filled_ipxe(rule: IpxeRule, index: int) -> IpxeRule:
    return replace(rule, sanboot=_filled_or_none(rule.sanboot, index), script=_filled_or_none(rule.script, index))


def _filled_kernel(rule: KernelRule, index: int) -> KernelRule:
    return replace(rule, cmdline=_filled(rule.cmdline, index), root=_filled_or_none(rule.root, index))


def _filled_chap(rule: ChapRule, index: int) -> ChapRule:
    return replace(rule, user=_filled(rule.user, index), secret=_filled(rule.secret, index))


def _filled_seed(rule: SeedRule, index: int) -> SeedRule:
    return SeedRule(
        user_data=_filled_or_none(rule.user_data, index),
        meta_data=_filled_or_none(rule.meta_data, index),
        network_config=_filled_or_none(rule.network_config, index),
    )


def _filled_disk(rule: DiskRule, index: int) -> DiskRule:
    return replace(rule, path=_filled(rule.path, index))
