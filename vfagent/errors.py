# SPDX-License-Identifier: Apache-2.0
"""The error classes. A message has object, action and cause on one line; the hint says what to do."""

import errno as _errno
import os as _os
from collections.abc import Sequence


class VfagentError(Exception):
    """An error that vfagent reports; `str()` is `<object>: cannot <action>: <cause>`."""

    def __init__(self, message: str, *, hint: str | None = None, retryable: bool = True) -> None:
        super().__init__(message)
        self.hint = hint
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        """From a worker it comes as it is, whatever its __init__ wants."""
        return _from_worker, (type(self), self.args, self.__dict__)


def _from_worker(cls: type[VfagentError], args: tuple[object, ...], fields: dict[str, object]) -> VfagentError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(fields)
    return error


class PolicyError(VfagentError):
    """The policy is invalid. `problems`: lines `file:line:col: key.path: text`; `reported`: what they were made of."""

    def __init__(self, reported: Sequence[object], *, hint: str | None = None) -> None:
        self.reported = tuple(reported)
        self.problems = tuple(map(str, reported))
        super().__init__("\n".join(self.problems), hint=hint, retryable=False)


class WrongCountError(VfagentError):
    """The driver created another number of VFs than requested: `made`."""

    def __init__(self, message: str, *, made: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.made = made


class PolicyUnreadError(PolicyError):
    """A file of the policy cannot be read, so the whole cannot be checked."""


class StepError(VfagentError):
    """A kernel interface returned an error, `errno`; 0 without one."""

    def __init__(self, message: str, *, errno: int = 0, hint: str | None = None, retryable: bool = True) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.errno = errno
        self.done: tuple[str, ...] = ()  # the attributes of a VF that were set although another was refused


class RefusedError(VfagentError):
    """The request would disturb a VF in use."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, retryable=False)


ENOTSUPP = 524
"""The kernel's own "not supported" (linux/errno.h), which drivers pass to user space although libc does not know it."""

UNSUPPORTED = (_errno.EOPNOTSUPP, _errno.EPROTONOSUPPORT, ENOTSUPP)


def answer_text(error: OSError) -> str:
    """The kernel's answer, with its own words where it has some: `EINVAL (Invalid argument): VLAN ID is too large`."""
    number, words = error.errno or 0, error.strerror
    return f"{errno_text(number)}: {words}" if words and words != _os.strerror(number) else errno_text(number)


def errno_text(number: int) -> str:
    """`EBUSY (Device or resource busy)`."""
    if number == ENOTSUPP:
        return f"ENOTSUPP ({_os.strerror(_errno.EOPNOTSUPP)})"
    if number == _errno.EOPNOTSUPP:
        return f"EOPNOTSUPP ({_os.strerror(number)})"  # Python says ENOTSUP
    return f"{_errno.errorcode.get(number, number)} ({_os.strerror(number)})"
