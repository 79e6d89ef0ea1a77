# SPDX-License-Identifier: Apache-2.0

import os

# Programs that the tests start write to their buffers, as on a user's machine.
os.environ.pop("PYTHONUNBUFFERED", None)
