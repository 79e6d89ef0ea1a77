# SPDX-License-Identifier: Apache-2.0
"""The UEFI firmware of a guest, by QEMU's descriptor files (docs/interop/firmware.json in QEMU's source). Pure."""

import json
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from vfagent.frozen import frozen

# By precedence: a file hides that of the same name in a later folder.
DESCRIPTORS = ("etc/qemu/firmware", "usr/share/qemu/firmware")
_FORMATS = ("raw", "qcow2")
_KEYS = frozenset(("secure-boot", "enrolled-keys"))
_Q35 = "pc-q35-"  # what `q35` is an alias of


@frozen(slots=True)
class Firmware:
    """`template`: the variable store that a guest's own is a copy of."""

    code: str
    code_format: str
    template: str
    template_format: str
    smm: bool


def chosen(descriptors: Iterable[str], machine: str, *, secure_boot: bool) -> Firmware | None:
    """The first that fits. `descriptors`: the files' texts, in the order of their names."""
    full_name = _Q35 if machine == "q35" else machine
    for text in descriptors:
        for firmware in _described(text, full_name, secure_boot=secure_boot):
            return firmware
    return None


def why_none(machine: str, *, secure_boot: bool) -> str:
    folders = " and ".join(f"/{folder}" for folder in DESCRIPTORS)
    keys = " with secure boot and enrolled keys" if secure_boot else ""
    return f"no file in {folders} describes a UEFI firmware{keys} for {machine}"


def _described(text: str, machine: str, *, secure_boot: bool) -> Iterator[Firmware]:
    try:
        descriptor = json.loads(text)
    except (ValueError, RecursionError):
        return
    match descriptor:
        case {
            "interface-types": [*interfaces],
            "mapping": {
                "device": "flash",
                "executable": {"filename": str(code), "format": str(code_format)},
                "nvram-template": {"filename": str(template), "format": str(template_format)},
                **mapping,
            },
            "targets": [*targets],
            "features": [*features],
        } if "uefi" in interfaces and mapping.get("mode", "split") == "split":
            known = {feature for feature in features if isinstance(feature, str)}
            fits = known >= _KEYS if secure_boot else not known & {*_KEYS, "requires-smm"}
            readable = {code_format, template_format} <= {*_FORMATS}
            if fits and readable and any(_is_for(target, machine) for target in targets):
                yield Firmware(code, code_format, template, template_format, "requires-smm" in known)


def _is_for(target: object, machine: str) -> bool:
    match target:
        case {"architecture": "x86_64", "machines": [*patterns]}:
            return any(isinstance(pattern, str) and fnmatchcase(machine, pattern) for pattern in patterns)
    return False
