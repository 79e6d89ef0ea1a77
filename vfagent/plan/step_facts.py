# SPDX-License-Identifier: Apache-2.0
"""What each step class declares: its kind, its identity, what it changes, and its deadline."""

import re
from operator import attrgetter
from typing import ClassVar

StepId = tuple[str, ...]


class StepFacts:
    """What all steps of a class have in common.

    KEY names the fields that identify a step within a plan. Values that a retry may reduce are not among them; those
    that tell two steps for one object apart are. CHANGES is the attribute of the PF or VF that it changes, as a label
    value of metrics.
    """

    __slots__ = ()  # a PF has two steps for each of its VFs

    KIND: ClassVar[str]  # `set_numvfs` for SetNumvfs
    KEY: ClassVar[tuple[str, ...]]
    CHANGES: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.KIND = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def id(self) -> StepId:
        """The same for a step that is planned again, or retried with fewer settings: `("configure_vf", PF, "3")`."""
        return (self.KIND, *(str(attrgetter(name)(self)) for name in self.KEY))

    @property
    def changes(self) -> tuple[str, ...]:
        return (self.CHANGES,)

    @property
    def destroys(self) -> bool:
        """Whether it removes something: VFs, a driver, an interface, an address."""
        return False

    @property
    def deadline_s(self) -> float:
        """How long the kernel may take before the step counts as stuck."""
        return 30.0
