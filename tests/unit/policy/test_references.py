# SPDX-License-Identifier: Apache-2.0
"""How `each` and `{index}` are expanded."""

from vfagent.policy.indices import IndexSet
from vfagent.policy.references import VfReference, address_of, guests_of, vf_reference
from vfagent.policy.types import DiskRule, GuestRule, IpxeRule, KernelRule

RULE = GuestRule(
    name="node{index}",
    each="storage:2-3",
    vfs=("front",),
    vnc_remote="192.0.2.10:{index}",
    vnc_password="/vnc{index}",
    ipxe=IpxeRule(address="dhcp", sanboot="iscsi:host::::iqn.{index}"),
    kernel=KernelRule(image="/{index}/vmlinuz", initrd="/initrd{index}", cmdline="hostname=node{index}"),
    disk=(DiskRule(path="/disk{index}", backing=("/base{index}",)),),
    unit=(("Description", "guest {index}"), ("Nice", 5)),
)


def test_each_creates_one_guest_per_vf() -> None:
    second, third = guests_of(RULE, 4)
    assert third == GuestRule(
        name="node3",
        vfs=("storage:3", "front"),
        vnc_remote="192.0.2.10:3",
        vnc_password="/vnc3",
        ipxe=IpxeRule(address="dhcp", sanboot="iscsi:host::::iqn.3"),
        kernel=KernelRule(image="/3/vmlinuz", initrd="/initrd3", cmdline="hostname=node3"),
        disk=(DiskRule(path="/disk3", backing=("/base3",)),),
        unit=(("Description", "guest 3"), ("Nice", 5)),
    )
    assert second.name == "node2"


def test_each_creates_guests_only_for_vfs_that_the_pf_has() -> None:
    assert [guest.name for guest in guests_of(RULE, 3)] == ["node2"]


def test_a_guest_without_each_is_itself() -> None:
    rule = GuestRule(name="g", vfs=("storage:0",), vnc="127.0.0.1:0")
    assert guests_of(rule, 0) == (rule,)


def test_a_reference_is_a_label_with_optional_indices() -> None:
    assert vf_reference("storage") == VfReference("storage", None)
    assert vf_reference("storage:0,2-3") == VfReference("storage", IndexSet(((0, 0), (2, 3))))
    assert str(vf_reference("storage:0,2-3")) == "storage:0,2-3"
    assert str(vf_reference("storage:*")) == "storage:*"


def test_a_template_gives_each_vf_its_mac() -> None:
    assert address_of("52:54:00:bb:00:{index:02x}", 26) == "52:54:00:bb:00:1a"
    assert address_of("52:54:00:bb:00:01", 26) == "52:54:00:bb:00:01"
