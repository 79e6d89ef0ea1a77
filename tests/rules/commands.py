# SPDX-License-Identifier: Apache-2.0
"""The commands of README and the documents, and who types each: `tests/lab/test_documents.py`, unless a list here says.
A test of the list has the command in its source, or gets it from the page by `command_of`.

A command is a line of an indented block that is not configuration; in README also a `vfagent …` in back-quotes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.rules.project import ROOT

# The tutorial has a test of its own, which also compares the output.
TUTORIAL = "docs/tutorial.md"
PAGES = (
    "README.md",
    "HACKING.md",
    "packaging/ansible/README.md",
    "packaging/monitoring/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md") if path.name != "tutorial.md"),
)

TYPED_BY = {
    "make demo": "tests/lab/test_readme.py::test_make_demo_shows_a_guest_that_has_booted",
    "make lab": "tests/lab/test_readme.py::test_make_lab_opens_a_shell_on_a_host_that_has_converged",
    "make deb": "tests/lab/test_package_files.py::test_the_readme_commands_build_it_on_a_stock_debian",
    "make rpm": "tests/lab/test_package_files.py::test_rpmlint_finds_nothing_and_the_rpm_installs",
    "apt install build-essential": (
        "tests/lab/test_package_files.py::test_the_readme_commands_build_it_on_a_stock_debian"
    ),
    "apt install ./build/": "tests/lab/test_package.py::test_the_readme_commands_install_it_and_touch_no_card",
    "apt purge vfagent": "tests/lab/test_package.py::test_a_purge_removes_everything_except_the_vfs",
    "make install-host": "tests/rules/test_packages.py::test_make_install_host_completes_a_wheel",
    "cat >/etc/NetworkManager/": (
        "tests/lab/test_autoconf.py::test_network_manager_makes_a_connection_for_every_nic_by_default"
    ),
    "nmcli ": "tests/lab/test_autoconf.py::test_network_manager_makes_a_connection_for_every_nic_by_default",
    "vfagent guest console": "tests/lab/test_guests.py::test_a_console_is_typed_at_and_a_disk_of_the_host_booted",
    "vfagent rom build": "tests/lab/test_guests.py::test_a_rom_is_built_in_a_sandbox_and_the_guest_runs_it",
    "vfagent status --watch": "tests/host/test_status_watch.py::test_the_screen_follows_the_status",
    "ansible-playbook --inventory hosts site.yml --check": (
        "tests/lab/test_ansible.py::test_a_dry_run_on_new_hosts_passes_and_changes_nothing"
    ),
    "ansible-playbook --inventory hosts site.yml": (
        "tests/lab/test_ansible.py::test_after_a_rollout_each_host_has_converged"
    ),
    "page=packaging/man/": "tests/rules/test_recipes.py::test_the_commands_of_a_reference_restore_the_manual",
    "python3 -m vfagent.policy.document": (
        "tests/rules/test_recipes.py::test_the_commands_of_a_reference_restore_the_manual"
    ),
}
NOT_TYPED = {
    "dnf ": "needs Fedora",
    "mkdir -p /usr/lib/ipxe": "needs a host whose iPXE is elsewhere, such as Fedora",
    "ln -s /usr/share/ipxe/": "needs a host whose iPXE is elsewhere, such as Fedora",
    "qm set": "needs Proxmox VE",
    "editor ": "opens an editor",
    "/usr/bin/python3 -m pip install": "needs PyPI, which no lab host reaches",
    "pip uninstall": "follows pip install",
    "apt install gcc": "needs Debian's packages, which no lab host reaches",
    "git clone": "needs another project's site",
}

_FENCED = re.compile(r"(?ms)^( *)(`{3,}|~{3,}).*?^\1\2 *$")
_BLOCK = re.compile(r"(?m)(?:^ {4}\S.*\n(?: *\n(?= {4}))*)+")
_CONFIGURATION = re.compile(r'\[|<|"?[\w.]+"? = |[\w-]+: ')
_COMMENT = re.compile(r" {2,}# .*$")
_IN_PROSE = re.compile(r"`(vfagent [a-z][^`]*)`")


@dataclass(frozen=True, slots=True)
class Command:
    """A line of a page, or several with a here-document."""

    page: str
    text: str


def commands_of(page: str) -> Iterator[Command]:
    text = _FENCED.sub("", (ROOT / page).read_text())
    for block in _BLOCK.findall(text):
        lines = [line.removeprefix("    ") for line in block.splitlines()]
        if not _CONFIGURATION.match(lines[0]):
            yield from (Command(page, command) for command in lines_to_commands(lines))
    if page == "README.md":
        yield from (Command(page, command) for command in _IN_PROSE.findall(text))


def command_of(page: str, start: str) -> str:
    """The first command of a page that starts so, for a test that types it."""
    return next(command.text for command in commands_of(page) if command.text.startswith(start))


def lines_to_commands(lines: list[str]) -> Iterator[str]:
    rest = iter(lines)
    for line in rest:
        command = _COMMENT.sub("", line).rstrip()
        if document := re.search(r"<<(\w+)$", command):
            for more in rest:
                command = f"{command}\n{more}"
                if more == document[1]:
                    break
        if command:
            yield command


def typed_in_the_lab(page: str) -> list[Command]:
    elsewhere = (*TYPED_BY, *NOT_TYPED)
    return [command for command in commands_of(page) if not command.text.startswith(elsewhere)]
