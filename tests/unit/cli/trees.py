# SPDX-License-Identifier: Apache-2.0
"""A host with one PF of two VFs, and policies for it."""

from tests.host.tree import Tree
from vfagent.model.inventory import Pf
from vfagent.model.pci import PciAddress
from vfagent.reconcile.observe import observe_pf
from vfagent.store.identity import open_host

PF = PciAddress("0000:01:00.0")
POLICY = '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = 2\n[[pf.vf]]\ndriver = "vfio-pci"\nindex = "*"\n'
SHADOWED = POLICY + '[[pf]]\nname = "one"\nmatch = { interface = "ens1" }\nvfs = 4\n'
ELSEWHERE = '[[pf]]\nname = "elsewhere"\nmatch = { driver = "ice" }\n'


def observed(tree: Tree, address: PciAddress = PF) -> Pf:
    pf = observe_pf(open_host(tree.root), address)
    assert pf is not None
    return pf
