# SPDX-License-Identifier: Apache-2.0
"""Log messages about one PF or guest: the message begins with its name, and the journal gets it as a field."""

import logging
from collections.abc import Mapping
from typing import Any

from vfagent.systemd.messages import Message


class ObjectLog(logging.LoggerAdapter[logging.Logger]):
    """A logger for messages about one object: `subject: message`, with the journal fields that name the object."""

    def __init__(self, logger: logging.Logger, subject: str, fields: Mapping[str, object]) -> None:
        super().__init__(logger, fields)
        self._subject = subject

    def of(self, message: Message) -> "ObjectLog":
        """The same, for an event that the journal's catalog explains."""
        return ObjectLog(self.logger, self._subject, {**(self.extra or {}), **_event(message)})

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if self.isEnabledFor(level):
            # The subject is an argument: a % in it does no harm.
            text = f"%s: {msg}"
            self.logger.log(level, text, self._subject, *args, extra=self.extra, stacklevel=2, **kwargs)


def for_pf(
    logger: logging.Logger, pf: str, *, name: str | None = None, vf: int | None = None, step: str | None = None
) -> ObjectLog:
    """VFAGENT_PF is the PF's PCI address, VFAGENT_VF the VF's index, VFAGENT_STEP the step's kind.

    `name` is what people call the PF, such as `0000:3b:00.0 (ens1)`; the address alone if absent. The text of a step
    names its VF itself.
    """
    fields = {"VFAGENT_PF": pf}
    if vf is not None:
        fields["VFAGENT_VF"] = str(vf)
    if step is not None:
        fields["VFAGENT_STEP"] = step
    subject = f"PF {name or pf}"
    return ObjectLog(logger, subject if vf is None or step else f"{subject}: VF {vf}", fields)


def for_guest(logger: logging.Logger, guest: str) -> ObjectLog:
    """VFAGENT_GUEST is the guest's name in the policy."""
    return ObjectLog(logger, f"guest {guest}", {"VFAGENT_GUEST": guest})


def for_policy(logger: logging.Logger, message: Message) -> ObjectLog:
    return ObjectLog(logger, "policy", _event(message))


def _event(message: Message) -> dict[str, str]:
    return {"MESSAGE_ID": message.value}
