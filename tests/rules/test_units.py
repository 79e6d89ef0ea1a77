# SPDX-License-Identifier: Apache-2.0
"""The systemd units, the udev rules, and where `make install` puts files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rules.project import PACKAGE, ROOT, none_of, passes

UNIT = ROOT / "systemd/vfagent.service"
VF_TARGET = ROOT / "systemd/vfagent-vf@.target"
GUEST_TARGET = ROOT / "systemd/vfagent-guest@.target"
TPM = ROOT / "systemd/vfagent-tpm@.service"
COLDPLUG, SETTLE = ROOT / "systemd/vfagent-coldplug.service", ROOT / "systemd/vfagent-coldplug-settle.service"
RULES = ROOT / "udev/70-vfagent.rules"
HINTS = ROOT / "udev/71-vfagent-networks.rules"
NETWORK = ROOT / "systemd/10-vfagent.network"
MOST_EXPOSED = 1.7

# Key, attribute, operator and value (udev(7)). MATCHES read only the uevent or a harmless attribute.
TOKEN = re.compile(
    r'(?P<key>[A-Z]+)(?:\{(?P<name>[^}]+)\})?(?P<operator>==|!=|\+=|-=|:=|=)"(?P<value>[^"]*)"(?:,\s*|$)'
)
MATCHES = {
    "ACTION",
    "SUBSYSTEM",
    "SUBSYSTEMS",
    "KERNEL",
    "KERNELS",
    "DRIVER",
    "DRIVERS",
    "ATTR",
    "ATTRS",
    "TEST",
    "ENV",
}
ASSIGNS = {"TAG", "GROUP", "OWNER", "MODE", "ENV"}
TAKES_THE_DEVICE_LOCK = "sriov_numvfs"


def rule_problems(text: str) -> list[str]:
    problems = []
    joined = text.replace("\\\n", " ")
    for number, line in enumerate(joined.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            problems += [f"line {number}: {problem}" for problem in _line_problems(line.strip())]
    return problems


def _line_problems(line: str) -> list[str]:
    tokens = list(TOKEN.finditer(line))
    if "".join(token[0] for token in tokens) != line:
        return [f"not a udev rule: {line}"]
    problems = []
    for token in tokens:
        matching = token["operator"] in ("==", "!=")
        if token["key"] not in (MATCHES if matching else ASSIGNS):
            problems.append(f"{token['key']}{token['operator']} must not be used")
        if TAKES_THE_DEVICE_LOCK in (token["name"] or "") + token["value"]:
            problems.append(f"reads {TAKES_THE_DEVICE_LOCK}")
    if tokens[-1]["operator"] in ("==", "!="):
        problems.append("matches, but assigns nothing")
    return problems


def test_the_udev_rules_run_nothing_and_never_read_numvfs() -> None:
    none_of([f"{RULES.name}: {problem}" for problem in rule_problems(RULES.read_text())])


def test_the_udev_rules_open_no_device() -> None:
    """They hold on every host, also with an empty policy."""
    assert not re.search(r"\b(GROUP|OWNER|MODE)\b", RULES.read_text())


@pytest.mark.parametrize("subsystem", ["pci", "net"])
def test_the_udev_rules_tag_the_devices_that_the_agent_needs(subsystem: str) -> None:
    lines = RULES.read_text().splitlines()
    assert any(f'SUBSYSTEM=="{subsystem}"' in line and 'TAG+="vfagent"' in line for line in lines)


@pytest.mark.parametrize(
    "rule",
    [
        'SUBSYSTEM=="pci", RUN+="/usr/bin/vfagent"',
        'SUBSYSTEM=="pci", PROGRAM=="/bin/true", TAG+="vfagent"',
        'SUBSYSTEM=="pci", IMPORT{program}="/bin/true"',
        'SUBSYSTEM=="pci", ATTR{sriov_numvfs}!="0", TAG+="vfagent"',
        'SUBSYSTEM=="net", ATTRS{device/sriov_numvfs}=="?*", TAG+="vfagent"',
        'SUBSYSTEM=="pci", TEST=="sriov_numvfs", TAG+="vfagent"',
        'SUBSYSTEM=="pci", ENV{N}="$attr{sriov_numvfs}"',
        'SUBSYSTEM=="pci", \\\n  RUN+="x"',
        'SUBSYSTEM=pci, TAG+="vfagent"',
        'SUBSYSTEM=="pci"',
    ],
)
def test_a_dangerous_udev_rule_is_found(rule: str) -> None:
    assert rule_problems(rule)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists: systemd-analyze verify checks that."""
    program = tmp_path / "vfagent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = UNIT.read_text()
    assert "ExecStart=/usr/bin/vfagent run\n" in text
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("/usr/bin/vfagent", str(program)))
    return copy


def test_systemd_analyze_accepts_the_service(unit: Path) -> None:
    passes("systemd-analyze", "verify", "--man=no", unit)


def test_systemd_analyze_accepts_the_coldplug_units() -> None:
    passes("systemd-analyze", "verify", "--man=no", COLDPLUG, SETTLE)


def test_systemd_analyze_accepts_the_vf_target(tmp_path: Path) -> None:
    copy = tmp_path / VF_TARGET.name.replace("@", "@sys-devices-x")
    copy.write_text(VF_TARGET.read_text())
    passes("systemd-analyze", "verify", "--man=no", copy)


def test_no_card_delays_other_devices_for_long() -> None:
    """udev's coldplug, and with it the host's disks, waits for these units. A start that times out fails the boot."""
    for unit, limit_s in ((COLDPLUG, 3), (SETTLE, 1)):
        (command,) = re.findall(r"^ExecStart=-(.*)$", unit.read_text(), re.MULTILINE)
        limiting, _, limited = command.partition(" /usr/bin/udevadm ")
        assert limiting.split() == ["/usr/bin/timeout", "--kill-after=1", str(limit_s)], limited
        assert int(re.findall(r"^TimeoutStartSec=(\d+)$", unit.read_text(), re.MULTILINE)[0]) >= 10 * limit_s


def test_systemd_analyze_finds_a_mistake_in_the_unit(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("[Service]", "[Service]\nProtectSystm=strict"))
    with pytest.raises(pytest.fail.Exception, match="ProtectSystm"):
        passes("systemd-analyze", "verify", "--man=no", unit)


def test_systemd_analyze_accepts_the_unit_of_a_tpm(tmp_path: Path) -> None:
    copy = tmp_path / "vfagent-tpm@x.service"
    copy.write_text(TPM.read_text().replace("/usr/bin/swtpm", "/bin/true"))
    passes("systemd-analyze", "verify", "--man=no", copy)


@pytest.mark.parametrize("unit", [UNIT, TPM], ids=lambda unit: unit.stem)
def test_the_services_are_hardened(unit: Path) -> None:
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    table = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", table)
    assert score
    exposed = [line for line in table.splitlines() if line.startswith("✗")]
    none_of([score[0], *exposed] if float(score[1]) > MOST_EXPOSED else [])


def test_the_service_s_folders_are_closed_to_others() -> None:
    lines = UNIT.read_text().splitlines()
    assert {"RuntimeDirectoryMode=0711", "StateDirectoryMode=0700", "UMask=0027"} <= set(lines)


def test_the_service_sees_swap_areas() -> None:
    """ProcSubset=pid hides /proc/swaps; then no VF with a block device could be shown idle."""
    assert not re.search("(?m)^ProcSubset=", UNIT.read_text())


def test_the_network_does_not_wait_for_the_journal_flush() -> None:
    """PrivateTmp= implies After=systemd-tmpfiles-setup.service, which is after the flush (systemd.exec(5))."""
    assert not re.search("^PrivateTmp=|^After=.*(tmpfiles|journal)", UNIT.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    passes("make", "--no-print-directory", "--silent", "install", f"DESTDIR={target}")
    return target


def test_the_coldplug_runs_only_if_the_service_is_enabled(installed: Path) -> None:
    link = installed / "usr/lib/systemd/system/sysinit.target.wants/vfagent-coldplug.service"
    assert link.resolve().read_bytes() == COLDPLUG.read_bytes()
    (enabled,) = re.findall(r"^WantedBy=(.*)$", UNIT.read_text(), re.MULTILINE)
    for unit in (COLDPLUG, SETTLE):
        assert f"ConditionPathExists=/etc/systemd/system/{enabled}.wants/vfagent.service\n" in unit.read_text()


def test_install_copies_every_module(installed: Path) -> None:
    target = installed / "usr/lib/python3/dist-packages"
    sources = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    missing = [path for path in sources if not (target / path.relative_to(ROOT)).exists()]
    changed = [
        path
        for path in sources
        if path not in missing and (target / path.relative_to(ROOT)).read_bytes() != path.read_bytes()
    ]
    none_of([f"{path} is not installed" for path in missing] + [f"{path} differs" for path in changed])


def test_the_installed_program_starts(installed: Path) -> None:
    program = installed / "usr/bin/vfagent"
    environment = {"PYTHONPATH": str(installed / "usr/lib/python3/dist-packages")}
    done = subprocess.run(
        [sys.executable, "-P", program, "--version"],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("vfagent ")
    assert program.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (UNIT, "usr/lib/systemd/system/vfagent.service"),
        (COLDPLUG, "usr/lib/systemd/system/vfagent-coldplug.service"),
        (SETTLE, "usr/lib/systemd/system/vfagent-coldplug-settle.service"),
        (VF_TARGET, "usr/lib/systemd/system/vfagent-vf@.target"),
        (GUEST_TARGET, "usr/lib/systemd/system/vfagent-guest@.target"),
        (TPM, "usr/lib/systemd/system/vfagent-tpm@.service"),
        (RULES, "usr/lib/udev/rules.d/70-vfagent.rules"),
        (HINTS, "usr/lib/udev/rules.d/71-vfagent-networks.rules"),
        (NETWORK, "usr/lib/systemd/network/10-vfagent.network"),
    ],
)
def test_install_puts_units_and_rules_in_their_folders(installed: Path, source: Path, target: str) -> None:
    assert (installed / target).read_bytes() == source.read_bytes()
