# SPDX-License-Identifier: Apache-2.0
"""What each class of steps says about itself: its kind, its identity, what it changes, and its deadline."""

import re
from operator import attrgetter
from typing import ClassVar

StepId = tuple[str, ...]


class StepFacts:
    """What holds for all steps of a class.

    KEY names the fields that say what a step is about; what it finds or sets there is not among them. CHANGES is what
    of the PF or VF it changes: a word of metrics, which do not grow with what they count.
    """

    KIND: ClassVar[str]  # `set_numvfs` for SetNumvfs
    KEY: ClassVar[tuple[str, ...]]
    CHANGES: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.KIND = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def id(self) -> StepId:
        """The same for a step that is planned again, or tried with fewer settings: `("configure_vf", PF, "3")`."""
        return (self.KIND, *(str(attrgetter(name)(self)) for name in self.KEY))

    @property
    def changes(self) -> tuple[str, ...]:
        return (self.CHANGES,)

    @property
    def deadline_s(self) -> float:
        """How long the kernel may take before the step counts as stuck."""
        return 30.0
