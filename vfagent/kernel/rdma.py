# SPDX-License-Identifier: Apache-2.0
"""Who uses RDMA devices: nldev messages of rdma-netlink (rdma/rdma_netlink.h)."""

import re
import struct
from collections.abc import Iterator, Mapping

from vfagent.kernel.netlink import NUMBER, attribute, attributes, dump
from vfagent.kernel.protocols import RdmaDevice

_NETLINK_RDMA = 20
_NLDEV = 5 << 10  # RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, …)
_RES_GET, _RES_QP_GET = _NLDEV + 9, _NLDEV + 10
_DEV_INDEX, _DEV_NAME = 1, 2
_SUMMARY, _SUMMARY_ENTRY, _ENTRY_NAME, _ENTRY_COUNT = 15, 16, 17, 18
_QPS, _QP, _QP_TYPE, _PID, _KERNEL_NAME = 19, 20, 26, 28, 29
_CONTEXTS = b"ctx"  # contexts are opened by processes alone (ib_uverbs_get_context)
_COUNT = struct.Struct("=Q")
_GSI = 1  # IB_QPT_SMI and IB_QPT_GSI are the subnet's management
_WAIT_S = 2.0
# Those of a card's driver, of the management of each device, and of IPoIB, whose netdev tells.
_OWN = re.compile(
    r"ib_core|ib_ipoib|\w+_(?:ib|re|rxe)|irdma|siw|e(?:rd|f)a|erdma|hns_roce\w*|ocrdma|qedr|vmw_pvrdma|hfi1"
)


def rdma_devices() -> Mapping[str, RdmaDevice]:
    """The RDMA devices of this network namespace. Raises OSError."""
    answers = (dict(attributes(body)) for body in _ask(_RES_GET, b""))
    devices = ((_text(facts.get(_DEV_NAME)), _number(facts.get(_DEV_INDEX)), facts) for facts in answers)
    return {
        name: RdmaDevice(index, opened=_contexts(facts.get(_SUMMARY, b"")))
        for name, index, facts in devices
        if index is not None
    }


def rdma_services(index: int) -> tuple[str, ...]:
    """The kernel's services that have queue pairs on an RDMA device: nvme_rdma, rpcrdma. Raises OSError."""
    answers = _ask(_RES_QP_GET, attribute(_DEV_INDEX, NUMBER.pack(index)))
    tables = (table for body in answers for kind, table in attributes(body) if kind == _QPS)
    pairs = (dict(attributes(pair)) for table in tables for kind, pair in attributes(table) if kind == _QP)
    return tuple(sorted({name for pair in pairs for name in _service(pair)}))


def _ask(kind: int, body: bytes) -> list[bytes]:
    return dump(kind, body, protocol=_NETLINK_RDMA, timeout_s=_WAIT_S)


def _contexts(summary: bytes) -> bool:
    entries = (dict(attributes(entry)) for kind, entry in attributes(summary) if kind == _SUMMARY_ENTRY)
    counts = (
        entry.get(_ENTRY_COUNT, b"") for entry in entries if entry.get(_ENTRY_NAME, b"").rstrip(b"\0") == _CONTEXTS
    )
    return any(len(count) >= _COUNT.size and _COUNT.unpack_from(count)[0] for count in counts)


def _service(pair: Mapping[int, bytes]) -> Iterator[str]:
    name, kind = _text(pair.get(_KERNEL_NAME)), pair.get(_QP_TYPE, b"\xff")
    if name and kind[0] > _GSI and not _OWN.fullmatch(name):
        yield name


def _text(data: bytes | None) -> str:
    return (data or b"").rstrip(b"\0").decode("utf-8", "replace")


def _number(data: bytes | None) -> int | None:
    return int(NUMBER.unpack_from(data)[0]) if data and len(data) >= NUMBER.size else None
