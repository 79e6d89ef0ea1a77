# SPDX-License-Identifier: Apache-2.0
import sys

from vfagent.cli import main

sys.exit(main())
