# SPDX-License-Identifier: Apache-2.0
"""The error tree. A message says object, attempt and cause on one line; the hint says what to do."""

import errno as _errno
import os as _os


class VfagentError(Exception):
    """Any failure that vfagent reports; `str()` gives `<object>: cannot <attempt>: <cause>`."""

    def __init__(self, message: str, *, hint: str | None = None, retryable: bool = True) -> None:
        super().__init__(message)
        self.hint = hint
        self.retryable = retryable


class PolicyError(VfagentError):
    """The policy cannot be used. `problems` are lines `file:line:col: key.path: text`."""

    def __init__(self, problems: tuple[str, ...], *, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint, retryable=False)
        self.problems = problems


class FewerError(VfagentError):
    """The driver made VFs, and fewer than it was asked for: `made`."""

    def __init__(self, message: str, *, made: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.made = made


class PolicyUnreadError(PolicyError):
    """The system did not give a file of the policy, so that nothing is known of the whole."""


class StepError(VfagentError):
    """A kernel interface refused; `errno` is its answer (0 where there was none)."""

    def __init__(self, message: str, *, errno: int = 0, hint: str | None = None, retryable: bool = True) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.errno = errno

    @property
    def unsupported(self) -> bool:
        return self.errno in (_errno.EOPNOTSUPP, _errno.EPROTONOSUPPORT)


class RefusedError(VfagentError):
    """What was asked for would disturb a VF in use."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, retryable=False)


def errno_text(number: int) -> str:
    """`EBUSY (Device or resource busy)`."""
    return f"{_errno.errorcode.get(number, number)} ({_os.strerror(number)})"
