# SPDX-License-Identifier: Apache-2.0
"""Random bytes from outside are parsed, or refused with the documented error."""

import socket
import struct
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host.netlink import VfInfo, link_message
from vfagent.kernel.links import link_facts, link_in
from vfagent.kernel.vf_counters import VfCounters, counters_in
from vfagent.metrics.http import RefusedRequestError, Request, parse

HEADS = st.builds(
    lambda first, fields: "\r\n".join([first, *fields]).encode("latin-1"),
    st.text(st.characters(max_codepoint=255)) | st.sampled_from(("GET / HTTP/1.1", "GET /metrics HTTP/1.0")),
    st.lists(st.text(st.characters(max_codepoint=255)).map(lambda text: f"Accept-Encoding: {text}")),
)
ANSWER = link_message(2, "eth0", *(VfInfo(index, vlan=7).pack() for index in range(3)))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The kernel's answer with some bytes changed, truncated anywhere."""
    data = bytearray(ANSWER)
    for at, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=8)):
        data[at] = value
    return bytes(data[: draw(st.integers(0, len(data)))])


@given(st.binary(max_size=4096) | HEADS)
@settings(max_examples=500, deadline=None, derandomize=True)
def test_any_request_is_parsed_or_refused(data: bytes) -> None:
    with suppress(RefusedRequestError):
        assert isinstance(parse(data), Request)


@given(st.binary(max_size=512) | damaged())
@settings(max_examples=500, deadline=None, derandomize=True)
def test_any_answer_of_the_kernel_is_parsed_or_an_oserror(data: bytes) -> None:
    with suppress(OSError):
        link = link_in(data)
        assert all(isinstance(counters, VfCounters) for counters in counters_in(link).values())
        assert link_facts(link).ifindex == link.ifindex


def test_the_answer_is_valid_before_it_is_damaged() -> None:
    assert struct.unpack_from("=IH", ANSWER) == (len(ANSWER), 16)
    assert ANSWER[16] == socket.AF_UNSPEC
