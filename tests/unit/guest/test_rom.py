# SPDX-License-Identifier: Apache-2.0
"""The unit that builds a ROM, and what is read from iPXE's sources."""

from typing import Any

import pytest

from vfagent.guests.spec.ipxe import DRIVERS
from vfagent.guests.spec.rom import RomWish, build_unit, drivers_in, forget_unit, rom_key
from vfagent.model.guest_unit import UnitSpec


def value(spec: UnitSpec, name: str) -> Any:
    return next(item.value for item in spec.properties if item.name == name)


def unit(source: str = "/usr/src/ipxe") -> UnitSpec:
    return build_unit(RomWish("8086:10ca", "bios"), "/script", source, "0123", 2, "/made", "/log")


def test_a_rom_build_has_no_network_no_rights_and_no_writable_path() -> None:
    spec = unit()
    for name in ("DynamicUser", "PrivateNetwork", "PrivateDevices", "NoNewPrivileges"):
        assert value(spec, name) is True
    assert value(spec, "CapabilityBoundingSet") == 0
    assert value(spec, "ProtectSystem") == "strict"
    assert not [item for item in spec.properties if item.name == "ReadWritePaths"]


def test_a_rom_build_has_bounds() -> None:
    spec = unit()
    assert value(spec, "LimitFSIZE") <= 64 << 20
    assert value(spec, "MemoryMax") <= 2 << 30
    assert value(spec, "TasksMax") <= 512


def test_a_script_is_on_no_bus_and_in_no_unit_file() -> None:
    assert value(unit(), "LoadCredential") == [("script.ipxe", "/script")]
    assert not [item for item in unit().properties if item.name == "SetCredential"]


def test_what_forgets_caches_may_write_nowhere_else() -> None:
    spec = forget_unit("0123")
    assert value(spec, "ReadWritePaths") == ["-/var/cache/private/vfagent-rom-build"]
    assert value(spec, "ProtectSystem") == "strict"
    assert value(spec, "PrivateNetwork") is True


def test_a_folder_name_is_not_run_as_a_command() -> None:
    [(_, words, _)] = value(unit("/usr/src/$(reboot) '; reboot"), "ExecStart")
    assert words[4:] == ["/usr/src/$$(reboot) '; reboot", "bin/808610ca.rom", "2"]


def test_roms_that_differ_have_different_keys() -> None:
    known = ("8086:10ca", "bios", "script", "tree")
    others = [(*known[:n], "another", *known[n + 1 :]) for n in range(4)]
    assert len({rom_key(*key) for key in (known, *others)}) == 5


@pytest.mark.parametrize(
    "line",
    [
        '\tPCI_ROM(0x8086, 0x10CA, "igbvf", "E1000_DEV_ID_82576_VF", 0),',
        '\tPCI_ROM ( 0x8086, 0x10ca, "igbvf", "82576 VF", FLAG ),',
        'PCI_ROM (\n\t0x8086,\n\t0x10ca, "igbvf", "82576 VF", 0 ),',
    ],
)
def test_the_devices_of_a_driver_are_read_from_its_source(line: str) -> None:
    assert drivers_in(f"static struct pci_device_id nics[] = {{\n{line}\n}};\n") == {"8086:10ca"}


def test_the_driver_table_has_ids_as_in_sysfs() -> None:
    assert all(f"{key}".islower() or key.replace(":", "").isdigit() for key in DRIVERS)
    assert all(len(key) == 9 and key[4] == ":" for key in DRIVERS)
