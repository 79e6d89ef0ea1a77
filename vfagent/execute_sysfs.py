# SPDX-License-Identifier: Apache-2.0
"""A step's write to sysfs, and what becomes of the kernel's refusal."""

from typing import NoReturn

from vfagent.advice import explain
from vfagent.errors import StepError, errno_text
from vfagent.host.host import Host
from vfagent.plan.steps import Step


def write(host: Host, step: Step, path: str, text: str) -> None:
    try:
        host.sysfs.write(path, text)
    except OSError as error:
        fail(step, error.errno or 0)


def fail(step: Step, number: int) -> NoReturn:
    """Steps for the host's own network have no PF."""
    cause, hint, retryable = explain(step, number)
    text = f"{step.pf}: cannot {step.describe()}: {errno_text(number)}{cause}"
    raise StepError(text.removeprefix(": "), errno=number, hint=hint, retryable=retryable)
