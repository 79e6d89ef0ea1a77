# SPDX-License-Identifier: Apache-2.0
"""Files of other formats that people paste into a policy: netplan's YAML, systemd's .link files, JSON, commands."""

import re

_HEAD = 4096  # characters
_ENOUGH = 2  # lines; one alone may be a slip
_YAML = re.compile(r"(?m)^(?:---\s*|[ ]*(?:- )?[\w.-]+:(?:[ ].*)?)$")
_NOT_YAML = re.compile(r"(?m)^[^#\n]*[^:\s][ \t]*=")
_LINK_SECTION = re.compile(r"(?m)^\[(?:Match|Link|SR-IOV|Network|NetDev|VLAN|Bridge|Service|Unit)\]\s*$")
_KEYFILE_SECTION = re.compile(r"(?m)^\[(?:connection|ethernet|ipv4|ipv6|sriov|match)\]\s*$")
_CONFLICT = re.compile(r"(?m)^(?:<{7}|={7}|>{7})(?: |$)")
_COMMAND = re.compile(
    r"(?m)^\s*(?:#!|(?:sudo )?(?:ip|echo|devlink|ethtool|driverctl|modprobe|bridge|lspci|virsh) \S|export \w+=)"
)
_MODULE_OPTIONS = re.compile(r"(?m)^\s*options \w+ \w+=")
_UDEV_RULE = re.compile(r"(?m)^\s*(?:ACTION|SUBSYSTEM|KERNEL|ATTR|DRIVER|ENV)S?(?:\{[^}]*\})?\s*[=!]=")
_INTERFACES = re.compile(r"(?m)^\s*(?:auto|iface|allow-hotplug) \S")
_VARIABLES = re.compile(r"(?m)^[A-Z][A-Z0-9_]*=\S.*$")
_MOVING = "/usr/share/doc/vfagent/docs/moving.md"
_SHELL = f"{_MOVING} has a policy for a shell script's lines"
_FORMATS = (
    (_CONFLICT, "a conflict that git left", "the lines of one side, without its marks"),
    (_LINK_SECTION, "a file of systemd or systemd-networkd", f"TOML: {_MOVING} has its keys side by side"),
    (_KEYFILE_SECTION, "a keyfile of NetworkManager", "TOML: key = value below [[pf]], as vfagent.toml(5) shows it"),
    (_UDEV_RULE, "a udev rule", f"TOML: {_SHELL}"),
    (_MODULE_OPTIONS, "options of a kernel module", "TOML: max_vfs=4 is vfs = 4 below [[pf]]"),
    (_COMMAND, "a shell's command", f"TOML: {_SHELL}"),
    (_INTERFACES, "a file of ifupdown", "TOML: key = value below [[pf]], as vfagent.toml(5) shows it"),
)


def other_format(text: str) -> str:
    """What a text is that is not TOML, and where its keys are translated; or nothing."""
    head = text[:_HEAD]
    if "\r" in head and "\n" not in head:
        return "found lines that end with CR alone, allowed is LF (tr '\\r' '\\n')"
    match head.lstrip()[:1]:
        case "{":
            return "found JSON, allowed is TOML: key = value below [[pf]]"
        case "<" if not _CONFLICT.search(head):
            return "found XML, allowed is TOML: key = value below [[pf]]"
        case "`":
            return "found a fence of Markdown, allowed is the text between the fences"
    for pattern, what, allowed in _FORMATS:
        if pattern.search(head):
            return f"found {what}, allowed is {allowed}"
    if len(_VARIABLES.findall(head)) >= _ENOUGH:
        return "found a shell's variables, as in ifcfg files, allowed is TOML: key = value below [[pf]]"
    if len(_YAML.findall(head)) >= _ENOUGH and not _NOT_YAML.search(head):
        return f"found YAML, allowed is TOML: {_MOVING} has netplan's keys side by side"
    return ""
