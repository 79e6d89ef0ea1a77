# SPDX-License-Identifier: Apache-2.0
"""The types of prometheus-client without the rest of it.

Its __init__ and its exposition module import http.server, wsgiref and email: 2 MiB, and nine tenths of the time. An
empty package in its place lets the types be imported. They are the same from 0.16 to 0.26.
"""

import importlib.util
import sys
import types


def _without_init(name: str) -> None:
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec and spec.submodule_search_locations:
        package = types.ModuleType(name)
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules[name] = package


_without_init("prometheus_client")

from prometheus_client.metrics_core import Metric  # noqa: E402
from prometheus_client.samples import Sample  # noqa: E402
from prometheus_client.utils import floatToGoString as go_float  # noqa: E402, N813

__all__ = ["Metric", "Sample", "go_float"]
