"""``python -m lic_lab.cli``."""

import sys

from lic_lab.cli import main

sys.exit(main())
