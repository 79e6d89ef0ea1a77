# SPDX-License-Identifier: Apache-2.0
"""What systemd-analyze says of a guest's unit, written as a unit file, and of its TPM's."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.guest.test_units import hostile, unit
from vfagent.model.guest_unit import Property

MOST_EXPOSED = 2.0
TPM = Path(__file__).parents[2] / "systemd/vfagent-tpm@.service"
NAMESPACES = {0x04000000: "uts"}


def line(item: Property) -> str:
    return f"{item.name}={setting(item.name, item.signature, item.value)}"


def setting(name: str, signature: str, value: Any) -> str:
    match name, signature:
        case "RestrictNamespaces", _:
            return NAMESPACES[value]
        case _, "b":
            return "yes" if value else "no"
        case _, "(bas)":
            return f"{'' if value[0] else '~'}{' '.join(value[1])}"
        case _, "as":
            return " ".join(value)
        case "LoadCredential", _:
            return f"{value[0][0]}:{value[0][1]}"
        case _, "a(ss)":
            return f"{value[0][0]} {value[0][1]}"
        case _, "a(sasb)":
            return f"{'-' if value[0][2] else ''}{' '.join(value[0][1])}"
        case _, "a(ssbt)":
            return " ".join(source for source, *_ in value)
        case _:
            return "" if name.endswith("Capabilities") or name.startswith("Capability") else str(value)


def unit_file(properties: tuple[Property, ...]) -> Iterator[str]:
    yield "[Service]"
    # What systemd-analyze does not read, or under another name, and what does not count.
    skipped = re.compile(
        ".*USec$|.*Burst|UMask|Description|RuntimeDirectoryMode|SyslogLevel|Limit.*|CollectMode|BindsTo|Wants|After|Before"
    )
    yield from (line(item) for item in properties if not skipped.fullmatch(item.name))
    yield "UMask=0077"


def exposure(path: Path) -> tuple[float, str]:
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert score, done.stderr
    return float(score[1]), "\n".join(row for row in done.stdout.splitlines() if row.startswith("✗")) + done.stderr


def test_a_tpm_is_hardly_exposed() -> None:
    score, table = exposure(TPM)
    print(f"exposure of a TPM's unit: {score}")
    assert score <= MOST_EXPOSED, table
    assert "Unknown key" not in table


@pytest.mark.parametrize(
    "boot", ['[guest.ipxe]\naddress = "dhcp"\n', '[[guest.disk]]\npath = "/dev/vg/x"\n'], ids=["ipxe", "block device"]
)
def test_a_guest_is_hardly_exposed(tmp_path: Path, boot: str) -> None:
    spec = unit(hostile(tmp_path, boot))
    file = tmp_path / spec.unit
    file.write_text("\n".join(unit_file(spec.properties)) + "\n")
    score, table = exposure(file)
    print(f"exposure of a guest's unit: {score}")
    assert score <= MOST_EXPOSED, table
    assert "Unknown key" not in table
