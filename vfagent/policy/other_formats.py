# SPDX-License-Identifier: Apache-2.0
"""Files of other formats that people paste into a policy: netplan's YAML, systemd's .link files, JSON."""

import re

_HEAD = 4096  # characters
_ENOUGH = 2  # lines; one alone may be a slip
_YAML = re.compile(r"(?m)^(?:---\s*|[ ]*(?:- )?[\w.-]+:(?:[ ].*)?)$")
_NOT_YAML = re.compile(r"(?m)^[^#\n]*[^:\s][ \t]*=")
_LINK_SECTION = re.compile(r"(?m)^\[(?:Match|Link|SR-IOV|Network|NetDev|VLAN|Bridge|Service|Unit)\]\s*$")


def other_format(text: str) -> str:
    """What a text is that is not TOML, and where its keys are translated; or nothing."""
    head = text[:_HEAD]
    if head.lstrip()[:1] == "{":
        return "found JSON, allowed is TOML: key = value below [[pf]]"
    if _LINK_SECTION.search(head):
        return "found a file of systemd or systemd-networkd, allowed is TOML: docs/moving.md has its keys side by side"
    if len(_YAML.findall(head)) >= _ENOUGH and not _NOT_YAML.search(head):
        return "found YAML, allowed is TOML: docs/moving.md has netplan's keys side by side"
    return ""
