# SPDX-License-Identifier: Apache-2.0
"""What systemd 252 makes of a guest's unit: it reads the unit's file again where later releases keep what they have."""

from collections.abc import Callable

import pytest

from tests.lab.install import vfagent_tree
from tests.lab.nic import VirtioPf
from tests.lab.test_guests import (
    POLICY,
    SECRETS,
    test_a_daemon_reload_changes_no_command_line,
    test_who_breaks_out_of_a_guest_reaches_its_own_files_only,
)
from tests.lab.vm import VM

pytestmark = pytest.mark.long
__all__ = [
    "test_a_daemon_reload_changes_no_command_line",
    "test_who_breaks_out_of_a_guest_reaches_its_own_files_only",
]


@pytest.fixture(scope="module")
def vm(boot_module: Callable[..., VM]) -> VM:
    """Its guest `cirros` finds no disk, which is enough of a guest here."""
    booted = boot_module([VirtioPf("virtio0", vfs=2)], vfagent_tree(POLICY, SECRETS), suite="bookworm", hypervisor=True)
    booted.wait_boot()
    assert booted.run("systemctl --version").stdout.startswith("systemd 252 ")
    return booted
