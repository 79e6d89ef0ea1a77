# SPDX-License-Identifier: Apache-2.0
"""How cost grows, as a picture: `python3 -m tests.bench.growth scale.json docs/growth.png`.

The numbers are those of `python3 -m tests.bench.scale --json`; drawing needs matplotlib (Debian: python3-matplotlib).
"""

import json
import sys
from pathlib import Path
from typing import Any

from tests.bench.scale import VFS

_PANELS = (
    ("observation of all PFs, converged", "observe_s", "s of CPU", 1.0),
    ("policy reload", "reload_s", "s of CPU", 1.0),
    ("first convergence (fake kernel)", "converged_s", "s", 1.0),
    ("event of one VF", "event_s", "ms of CPU", 1e3),
)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(_PANELS), figsize=(15, 3.6), dpi=100)
    vfs = [result["pfs"] * VFS for result in results]
    for axis, (title, key, unit, factor) in zip(axes, _PANELS, strict=True):
        values = [result[key] * factor for result in results]
        axis.plot(vfs, values, "o-", color="#1f60c4", label="measured")
        if key != "event_s":
            axis.plot(vfs, [values[-1] * count / vfs[-1] for count in vfs], ":", color="#888888", label="linear")
        axis.set(title=title, xlabel="VFs", ylabel=unit, ylim=(0, None), xlim=(0, None))
        axis.grid(visible=True, alpha=0.3)
        axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
