# SPDX-License-Identifier: Apache-2.0
"""QEMU's firmware descriptors, as Debian's ovmf and Fedora's edk2-ovmf have them, in the order of their names."""

import json


def descriptor(code: str, template: str, *features: str, **mapping: str) -> str:
    files = {
        "executable": {"filename": code, "format": "qcow2" if code.endswith("qcow2") else "raw"},
        "nvram-template": {"filename": template, "format": "qcow2" if template.endswith("qcow2") else "raw"},
    }
    return json.dumps(
        {
            "description": "UEFI",
            "interface-types": ["uefi"],
            "mapping": {"device": "flash", **mapping, **files},
            "targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}],
            "features": ["acpi-s3", "verbose-dynamic", *features],
            "tags": [],
        }
    )


_OVMF = "/usr/share/OVMF/OVMF"
DEBIAN = (
    descriptor(f"{_OVMF}_CODE_4M.ms.fd", f"{_OVMF}_VARS_4M.ms.fd", "enrolled-keys", "requires-smm", "secure-boot"),
    descriptor(f"{_OVMF}_CODE_4M.secboot.fd", f"{_OVMF}_VARS_4M.fd", "requires-smm", "secure-boot"),
    descriptor(f"{_OVMF}_CODE_4M.fd", f"{_OVMF}_VARS_4M.fd"),
)
_EDK2 = "/usr/share/edk2/ovmf/OVMF"
FEDORA = (
    descriptor(
        f"{_EDK2}_CODE_4M.secboot.qcow2",
        f"{_EDK2}_VARS_4M.secboot.qcow2",
        "enrolled-keys",
        "requires-smm",
        "secure-boot",
    ),
    descriptor(f"{_EDK2}_CODE_4M.qcow2", f"{_EDK2}_VARS_4M.qcow2"),
    descriptor(f"{_EDK2}.amdsev.fd", "", "amd-sev", mode="stateless"),
)
