# SPDX-License-Identifier: Apache-2.0
import sys

from vfagent.cli.main import main

sys.exit(main())
