# SPDX-License-Identifier: Apache-2.0
"""Drivers that create VFs only by a parameter of their module."""

import re
from collections.abc import Iterator

from vfagent.doctor.checks.facts import Facts, Source
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.model.desired import HOST_DRIVER, DesiredPf
from vfagent.model.vf_parameters import MADE_AT_LOAD

_MLX4 = "mlx4_core"
_NUM_VFS = re.compile(r"^\s*options\s+mlx4[-_]core\b.*?\bnum_vfs=(\S+)", re.MULTILINE)


def mlx4_parameters(facts: Facts) -> Iterator[Finding]:
    """mlx4_core has no sriov_configure(): sriov_numvfs answers ENOENT, and num_vfs is read when a card is probed."""
    for pf_facts, desired in facts.managed:
        if pf_facts.pf.driver != _MLX4 or desired.numvfs in (None, len(pf_facts.pf.vfs)):
            continue
        yield Finding(
            "mlx4-parameters",
            Severity.ERROR,
            pf_facts.pf.name,
            f"has {len(pf_facts.pf.vfs)} VFs: mlx4_core was loaded with num_vfs={facts.kernel.mlx4_num_vfs or 0}",
            f"rule {desired.rule!r} wants {desired.numvfs}: mlx4_core creates VFs by this parameter only, at load",
            _advice(facts, desired),
        )


def vfs_made_at_load(facts: Facts) -> Iterator[Finding]:
    """The other drivers whose VFs are made when they are loaded; mlx4_core's parameters are read."""
    for pf_facts, desired in facts.managed:
        pf = pf_facts.pf
        made = MADE_AT_LOAD.get(pf.driver or "")
        if made is None or pf.driver == _MLX4 or desired.numvfs in (None, len(pf.vfs)):
            continue
        source = f"its parameter {made.parameter} says" if made.parameter else made.source
        yield Finding(
            "vfs-made-at-load",
            Severity.ERROR,
            pf.name,
            f"has {len(pf.vfs)} VFs: {pf.driver} makes as many as {source}, when it is loaded",
            f"rule {desired.rule!r} wants {desired.numvfs}, and sriov_numvfs changes nothing there",
            f"a line `{made.options(desired.numvfs or 0)}` in /etc/modprobe.d/{made.module}.conf, update-initramfs -u, "
            "and reboot"
            if made.parameter
            else f"set vfs = {len(pf.vfs)} in the rule, or change the source and reboot",
        )


def _advice(facts: Facts, desired: DesiredPf) -> str:
    """probe_vf: the first so many VFs get the host's driver."""
    files = [(match[1], file.path) for file in facts.of(Source.MODPROBE) for match in _NUM_VFS.finditer(file.text)]
    for number, path in files:
        if number.split(",")[0] == str(desired.numvfs):
            return f"{path} has num_vfs={number} already: update-initramfs -u, and reboot"
    host = sum(vf.driver == HOST_DRIVER for vf in desired.vfs)
    where = files[0][1] if files else "/etc/modprobe.d/mlx4.conf"
    options = f"options mlx4_core num_vfs={desired.numvfs} probe_vf={host}"
    return f"a line `{options}` in {where}, update-initramfs -u, and reboot; all mlx4 cards of the host get as many"
