# SPDX-License-Identifier: Apache-2.0
"""What is advised where the kernel refuses a step."""

import errno

import pytest

from vfagent.errors import errno_text
from vfagent.model.pci import PciAddress
from vfagent.plan.network_steps import CreateBridge
from vfagent.plan.steps import SetAdminState, SetNumvfs, Step
from vfagent.reconcile.kernel_errors import explain

PF = PciAddress("0000:01:00.0")


@pytest.mark.parametrize("step", [SetAdminState(PF, 2, up=True), CreateBridge(PF, "br0")])
def test_any_step_where_all_is_read_only_says_why(step: Step) -> None:
    cause, hint, retryable = explain(step, errno.EROFS)
    assert cause == ": it is read-only here"
    assert "another host's tree" in (hint or "")
    assert not retryable


def test_ebusy_is_not_always_another_program() -> None:
    """ice answers it in a reset, and QAT while somebody uses the accelerator."""
    cause, hint, retryable = explain(SetNumvfs(PF, 4), errno.EBUSY)
    assert cause.endswith("or the driver is busy")
    assert "QAT" in (hint or "")
    assert retryable


def test_the_two_numbers_for_not_supported_have_the_kernel_s_names() -> None:
    assert errno_text(95) == "EOPNOTSUPP (Operation not supported)"
    assert errno_text(524) == "ENOTSUPP (Operation not supported)"
