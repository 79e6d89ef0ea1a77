# SPDX-License-Identifier: Apache-2.0
"""Which program is to configure an interface, by the files of systemd-networkd, NetworkManager, ifupdown and wicked.

By files alone: vfagent sets interfaces up before these programs start. In doubt an interface is theirs.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from vfagent.kernel.protocols import Interface
from vfagent.store.host_files import HostFiles

_NETWORKD = tuple(f"{base}/systemd/network" for base in ("etc", "run", "usr/local/lib", "usr/lib", "lib"))
_OWN_FILE = "10-vfagent.network"
_NM_FOLDERS = tuple(f"{base}/NetworkManager/conf.d" for base in ("usr/lib", "run", "etc"))
_NM_SIGNS = ("run/NetworkManager", "etc/systemd/system/multi-user.target.wants/NetworkManager.service")
_IFCFG = ("etc/sysconfig/network-scripts", "etc/sysconfig/network")
_STANZA = re.compile(r"^[ \t]*iface[ \t]+(\S+)[ \t]+(inet6?)[ \t]+(\S+)", re.MULTILINE)
_YES, _NO = ("1", "yes", "true", "on"), ("0", "no", "false", "off")

Setting = tuple[str, str, str]  # section, key, value


class InterfaceOwners:
    def __init__(self, root: Path = Path("/")) -> None:
        self._files = HostFiles(root)

    def owner(self, interface: Interface) -> str | None:
        return (
            self._ifupdown(interface)
            or self._ifcfg(interface)
            or self._networkd(interface)
            or self._network_manager(interface)
        )

    def _networkd(self, interface: Interface) -> str | None:
        """The first file that matches decides. vfagent's own one leaves managed links alone."""
        files: dict[str, str] = {}
        for folder in _NETWORKD:
            for path in self._files.matching(folder, "*.network"):
                files.setdefault(path.rpartition("/")[2], path)
        for name in sorted(files):
            if name == _OWN_FILE:
                if interface.managed:
                    return None
                continue
            settings = list(_settings(self._files.read(files[name]) or ""))  # a link to /dev/null masks a file
            if settings and _network_matches(settings, interface):
                unmanaged = ("Link", "Unmanaged") in {(a, b) for a, b, value in settings if value.lower() in _YES}
                return None if unmanaged else f"systemd-networkd ({files[name]})"
        return None

    def _network_manager(self, interface: Interface) -> str | None:
        """It manages every Ethernet device by default. A managed link has NM_UNMANAGED (71-vfagent-networks.rules)."""
        if interface.managed or interface.properties.get("NM_UNMANAGED", "").lower() in _YES:
            return None
        if not any(self._files.exists(path) for path in _NM_SIGNS):
            return None
        files = ["etc/NetworkManager/NetworkManager.conf"]
        for folder in _NM_FOLDERS:
            files += self._files.matching(folder, "*.conf")
        settings = [setting for path in files for setting in _settings(self._files.read(path) or "")]
        return None if _nm_leaves(settings, interface, listed=self._listed(interface)) else "NetworkManager"

    def _stanzas(self, interface: Interface) -> Iterator[tuple[str, str]]:
        """The address family and method of each stanza for it."""
        for path in ("etc/network/interfaces", *self._files.matching("etc/network/interfaces.d", "*")):
            for name, family, method in _STANZA.findall(self._files.read(path) or ""):
                if fnmatchcase(interface.name, name.lstrip("/")):
                    yield family, method

    def _listed(self, interface: Interface) -> bool:
        return any(True for _ in self._stanzas(interface))

    def _ifupdown(self, interface: Interface) -> str | None:
        """`inet manual` only sets it up, as Proxmox does with a bridge's ports. With any other method the kernel's
        autoconfiguration is part of what the stanza gives."""
        methods = (f"{family} {method}" for family, method in self._stanzas(interface))
        method = next((method for method in methods if method != "inet manual"), None)
        return f"ifupdown ({method})" if method else None

    def _ifcfg(self, interface: Interface) -> str | None:
        paths = (f"{folder}/ifcfg-{interface.name}" for folder in _IFCFG)
        return next((path for path in paths if self._files.exists(path)), None)


def _settings(text: str) -> Iterator[Setting]:
    """Of a file with sections. A key may come several times."""
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line and line[0] not in "#;" and "=" in line:
            key, _, value = line.partition("=")
            yield section, key.strip(), value.strip()


def _network_matches(settings: list[Setting], interface: Interface) -> bool:
    """[Match] of systemd.network(5). Keys that are not known here count as matching."""
    merged: dict[str, str] = {}
    for section, key, value in settings:
        if section == "Match":
            merged[key] = f"{merged.get(key, '')} {value}" if value else ""  # an empty value resets
    return all(_key_matches(key, value.split(), interface) for key, value in merged.items() if value.strip())


def _key_matches(key: str, words: list[str], interface: Interface) -> bool:
    properties = interface.properties
    match key:
        case "MACAddress" | "PermanentMACAddress":
            wanted = {re.sub("[^0-9a-f]", "", word.lower()) for word in words}
            return any(mac.replace(":", "") in wanted for mac in interface.macs)
        case "Property":
            return all(properties.get(word.partition("=")[0]) == word.partition("=")[2] for word in words)
        case "Name":
            value: str | None = interface.name
        case "Driver":
            value = interface.driver or properties.get("ID_NET_DRIVER")
        case "Path":
            value = properties.get("ID_PATH")
        case "Kind":
            value = interface.kind
        case "Type":
            value = properties.get("DEVTYPE") or interface.kind or "ether"
        case _:
            return True
    inverted = words[0].startswith("!")
    globs = [words[0].lstrip("!"), *words[1:]]
    return inverted != (value is not None and any(fnmatchcase(value, glob) for glob in globs))


def _nm_leaves(settings: list[Setting], interface: Interface, *, listed: bool) -> bool:
    """Whether NetworkManager.conf(5) leaves a device alone. `listed`: /etc/network/interfaces has it."""
    merged: dict[tuple[str, str], str] = {}
    for section, key, value in settings:
        appended = key.endswith("+")
        at = section, key.rstrip("+-")
        merged[at] = f"{merged.get(at, '')};{value}" if appended else value
    if listed and "ifupdown" in merged.get(("main", "plugins"), "") and merged.get(("ifupdown", "managed")) != "true":
        return True
    if _specified(merged.get(("keyfile", "unmanaged-devices"), ""), interface):
        return True
    sections = {section for section, key in merged if section.startswith("device") and key == "managed"}
    return any(
        merged[section, "managed"].lower() in _NO and _specified(merged.get((section, "match-device"), "*"), interface)
        for section in sections
    )


def _specified(value: str, interface: Interface) -> bool:
    """A device list: `*`, `mac:…`, `interface-name:…`, `driver:…`, `type:…`, and `except:` before any of them."""
    specs = [spec.strip() for spec in re.split("[;,]", value) if spec.strip()]
    exceptions = [spec.removeprefix("except:") for spec in specs if spec.startswith("except:")]
    if any(_is_specified(spec, interface) for spec in exceptions):
        return False
    return any(_is_specified(spec, interface) for spec in specs if not spec.startswith("except:"))


def _is_specified(spec: str, interface: Interface) -> bool:
    word, _, value = spec.partition(":")
    match word:
        case "*":
            return True
        case "interface-name":
            return fnmatchcase(interface.name, value.lstrip("=~"))
        case "mac":
            return value.lower() in interface.macs
        case "driver":
            return fnmatchcase(interface.driver or "", value)
        case "type":
            return value == (interface.kind or "ethernet")
        case _:
            return fnmatchcase(interface.name, spec)
