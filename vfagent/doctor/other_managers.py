# SPDX-License-Identifier: Apache-2.0
"""The files that configure PFs, VFs or their drivers for other programs. Only those that mention SR-IOV."""

import re
from collections.abc import Iterator

from vfagent.doctor.checks.facts import Source, TextFile
from vfagent.frozen import frozen
from vfagent.store.host_files import HostFiles


@frozen(slots=True)
class _Place:
    """Folders by precedence: a file hides files of the same name in later folders, as in systemd."""

    source: Source
    folders: tuple[str, ...]
    pattern: str
    marker: str = ""
    drop_ins: bool = False


_SYSTEMD_NETWORK = tuple(f"{base}/systemd/network" for base in ("etc", "run", "usr/local/lib", "usr/lib", "lib"))
_UNITS = tuple(f"{base}/systemd/system" for base in ("etc", "run", "usr/local/lib"))
_NM = tuple(f"{base}/NetworkManager/system-connections" for base in ("etc", "run", "usr/lib"))
_IF_SCRIPTS = tuple(f"etc/network/if-{when}.d" for when in ("pre-up", "up"))
_NUMVFS = r"sriov_numvfs"
_PLACES = (
    _Place(Source.MODPROBE, tuple(f"{base}/modprobe.d" for base in ("etc", "run", "usr/lib", "lib")), "*.conf"),
    _Place(Source.DRIVERCTL, ("etc/driverctl.d",), "*"),
    _Place(Source.LINK, _SYSTEMD_NETWORK, "*.link", "SR-IOV", drop_ins=True),
    _Place(Source.NETWORK, _SYSTEMD_NETWORK, "*.network", "SR-IOV", drop_ins=True),
    _Place(
        Source.NETPLAN,
        tuple(f"{base}/netplan" for base in ("run", "etc", "usr/lib", "lib")),
        "*.yaml",
        "virtual-function-count|embedded-switch-mode",
    ),
    _Place(Source.NM_PROFILE, _NM, "*", r"(?m)^\[sriov\]"),
    _Place(Source.NM_STATE, ("run/NetworkManager/devices",), "*", "managed=true"),
    _Place(
        Source.UDEV,
        tuple(f"{base}/udev/rules.d" for base in ("etc", "run", "usr/local/lib", "usr/lib", "lib")),
        "*.rules",
        _NUMVFS,
    ),
    _Place(Source.SCRIPT, _UNITS, "*.service", _NUMVFS, drop_ins=True),
    _Place(Source.SCRIPT, ("etc/tmpfiles.d", "run/tmpfiles.d", "usr/lib/tmpfiles.d"), "*.conf", _NUMVFS),
    _Place(Source.SCRIPT, ("etc",), "rc.local", _NUMVFS),
    _Place(Source.SCRIPT, ("etc",), "sysfs.conf", _NUMVFS),
    _Place(Source.SCRIPT, ("etc/sysfs.d",), "*.conf", _NUMVFS),
    _Place(Source.SCRIPT, ("etc",), "crontab", _NUMVFS),
    _Place(Source.SCRIPT, ("etc/cron.d",), "*", _NUMVFS),
    _Place(Source.SCRIPT, ("etc/network",), "interfaces", _NUMVFS),
    _Place(Source.SCRIPT, ("etc/network/interfaces.d",), "*", _NUMVFS),
    *(_Place(Source.SCRIPT, (folder,), "*", _NUMVFS) for folder in _IF_SCRIPTS),
    _Place(Source.SCRIPT, ("etc/init.d",), "*", _NUMVFS),
    _Place(Source.LIBVIRT, ("etc/libvirt/qemu",), "*.xml", "hostdev"),
    _Place(Source.LIBVIRT, ("etc/libvirt/qemu/networks",), "*.xml", "hostdev"),
    _Place(Source.OPERATOR, ("etc/systemd/system",), "sriov-config.service"),
    _Place(Source.OPERATOR, ("etc/systemd/system/multi-user.target.wants",), "oci-kvm-config.service"),
    _Place(Source.OPERATOR, ("etc/os-net-config",), "sriov_config.yaml"),
    _Place(Source.OPERATOR, ("etc/pcidp",), "config.json"),
)
_PROGRAM = re.compile(r"(?m)^Exec\w+=[-@:+!]*(?:/\S*/(?:ba|da)?sh\s+)?(/\S+)")
# Where administrators put scripts. A distribution's programs elsewhere are not read.
_SCRIPT_FOLDERS = ("/usr/local/", "/opt/", "/etc/", "/root/", "/srv/", "/home/")


def other_managers(files: HostFiles) -> Iterator[tuple[Source, TextFile]]:
    for place in _PLACES:
        for path in _visible(files, place):
            text = _with_drop_ins(files, path, place)
            if text is not None and (not place.marker or re.search(place.marker, text)):
                yield place.source, TextFile(f"/{path}", text)
    yield from ((Source.SCRIPT, file) for file in _programs_of_units(files))


def _visible(files: HostFiles, place: _Place) -> list[str]:
    chosen: dict[str, str] = {}
    for folder in place.folders:
        for path in files.matching(folder, place.pattern):
            chosen.setdefault(path.rpartition("/")[2], path)
    return [chosen[name] for name in sorted(chosen)]


def _with_drop_ins(files: HostFiles, path: str, place: _Place) -> str | None:
    """Drop-ins are read after the file."""
    text = files.read(path)
    if text is None or not place.drop_ins:
        return text
    name = path.rpartition("/")[2]
    drop_ins = [path for folder in place.folders for path in files.matching(f"{folder}/{name}.d", "*.conf")]
    return "\n".join([text, *(files.read(path) or "" for path in drop_ins)])


def _programs_of_units(files: HostFiles) -> Iterator[TextFile]:
    """The administrator's scripts that the administrator's units start."""
    seen: set[str] = set()
    for folder in _UNITS:
        for unit in files.matching(folder, "*.service"):
            for path in _PROGRAM.findall(files.read(unit) or ""):
                if path not in seen and path.startswith(_SCRIPT_FOLDERS):
                    seen.add(path)
                    text = files.read(path.lstrip("/"))
                    if text and _NUMVFS in text:
                        yield TextFile(path, text)
