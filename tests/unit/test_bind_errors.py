# SPDX-License-Identifier: Apache-2.0
"""What a step says of a driver that did not take its VF, from a tree of files in which nothing binds."""

from pathlib import Path

import pytest

from tests.host.tree import Tree, put
from vfagent.errors import StepError
from vfagent.model.pci import PciAddress
from vfagent.plan.steps import BindDriver
from vfagent.reconcile.execute import execute
from vfagent.store.identity import open_host

PF = PciAddress("0000:61:00.0")


@pytest.mark.parametrize(
    ("wanted", "registered", "hint"),
    [
        ("vp_vdpa", "igbvf", "modprobe vp_vdpa"),
        # The module's name, where the driver has another.
        ("vp_vdpa", "vp-vdpa", 'driver = "vp-vdpa" in the rule: the kernel\'s driver is named so'),
        (
            "hisi_acc_vfio_pci",
            "hisi-acc-vfio-pci",
            'driver = "hisi-acc-vfio-pci" in the rule: the kernel\'s driver is named so',
        ),
    ],
)
def test_a_driver_that_is_not_there_comes_with_what_to_do(
    tmp_path: Path, wanted: str, registered: str, hint: str
) -> None:
    tree = Tree(tmp_path)
    tree.add_pf(PF, vfs=1)
    (tmp_path / "sys/bus/pci/drivers" / registered).mkdir()
    put(tmp_path / "sys/bus/pci/drivers_probe", "")
    with pytest.raises(StepError, match=f"no driver {wanted} is loaded") as caught:
        execute(BindDriver(PF, 0, PciAddress(tree.vfs(PF)[0]), wanted), open_host(tmp_path))
    assert caught.value.hint == hint
