"""Qian 2021's Tables 2 and 3 beside our counts, in GFLOPs, as JSON. It takes some minutes, most of them at 4k.

`lic-lab complexity` counts any codec at any size, and with --published sets one size's published figures beside ours.
"""

from __future__ import annotations

import json
import warnings

warnings.filterwarnings("ignore", category=FutureWarning)

from lic_lab.evaluation.reference_complexity import table_2, table_3  # noqa: E402

if __name__ == "__main__":
    print(json.dumps({"table_2": table_2(), "table_3": table_3()}, indent=2))
