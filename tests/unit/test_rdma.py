# SPDX-License-Identifier: Apache-2.0
"""What rdma-netlink's answers say about the users of RDMA devices. Attributes as in rdma/rdma_netlink.h."""

import struct
from collections.abc import Callable

import pytest

from vfagent.kernel import rdma
from vfagent.kernel.netlink import attribute
from vfagent.kernel.protocols import RdmaDevice

RES_GET, RES_QP_GET = 0x1409, 0x140A
UD, SMI, GSI, RC = 4, 0, 1, 2


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def device(index: int, name: str, **counts: int) -> bytes:
    """fill_res_info(): an entry for each kind of resource; the padding aligns the counts."""
    pad = attribute(0, b"")
    entries = (text(17, kind) + pad + attribute(18, struct.pack("=Q", count)) for kind, count in counts.items())
    return u32(1, index) + text(2, name) + attribute(15, b"".join(attribute(16, entry) for entry in entries))


def pair(kind: int, *, pid: int = 0, module: str = "") -> bytes:
    owner = text(29, module) if module else u32(28, pid)
    return attribute(20, u32(21, 100) + attribute(26, bytes([kind])) + owner)


Answers = Callable[..., None]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Answers:
    def answers(kind: int, body: bytes, *messages: bytes) -> None:
        def dump(asked: int, request: bytes, *, protocol: int, timeout_s: float) -> list[bytes]:
            assert (asked, request, protocol, timeout_s) == (kind, body, 20, 2.0)
            return list(messages)

        monkeypatch.setattr(rdma, "dump", dump)

    return answers


def test_a_device_is_opened_while_a_process_has_a_context_on_it(kernel: Answers) -> None:
    own = {"pd": 3, "cq": 5, "qp": 4, "cm_id": 0, "mr": 0}
    kernel(RES_GET, b"", device(0, "mlx5_0", **own, ctx=0), device(3, "mlx5_2", **own, ctx=1), b"\1\2")
    assert rdma.rdma_devices() == {"mlx5_0": RdmaDevice(0, opened=False), "mlx5_2": RdmaDevice(3, opened=True)}


@pytest.mark.parametrize(
    ("pairs", "services"),
    [
        ([pair(SMI, module="ib_core"), pair(GSI, module="nvme_rdma"), pair(RC, module="mlx5_ib")], ()),
        ([pair(UD, module="ib_ipoib"), pair(RC, module="bnxt_re"), pair(RC, module="irdma")], ()),
        ([pair(RC, pid=4711)], ()),  # processes are counted by their contexts
        (
            [pair(RC, module="rpcrdma"), pair(RC, module="nvme_rdma"), pair(RC, module="nvme_rdma")],
            ("nvme_rdma", "rpcrdma"),
        ),
        ([b"\1"], ()),
    ],
)
def test_services_of_the_kernel_are_known_by_their_queue_pairs(
    kernel: Answers, pairs: list[bytes], services: tuple[str, ...]
) -> None:
    kernel(RES_QP_GET, u32(1, 7), u32(1, 7) + text(2, "mlx5_2") + attribute(19, b"".join(pairs)))
    assert rdma.rdma_services(7) == services
