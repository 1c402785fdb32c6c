"""Parameters and multiply-adds of our codecs, part by part, as JSON. Nothing is computed but shapes.

python benchmarks/complexity.py [mlic+ global-reference] [--size paper] [--height 512 --width 768]
python benchmarks/complexity.py --tables      Qian 2021's Tables 2 and 3 beside ours, in GFLOPs (some minutes)
"""

from __future__ import annotations

import argparse
import json
import warnings

warnings.filterwarnings("ignore", category=FutureWarning)

from lic_lab.codecs import registry  # noqa: E402
from lic_lab.evaluation.complexity import DECONVOLUTIONS, complexity  # noqa: E402
from lic_lab.evaluation.reference_complexity import table_2, table_3  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("codecs", nargs="*", metavar="CODEC", help="by default all")
    parser.add_argument("--size", choices=("paper", "small"), default="paper")
    parser.add_argument("--height", type=int, default=512, help="pixels, a multiple of 64")
    parser.add_argument("--width", type=int, default=768, help="pixels, a multiple of 64")
    parser.add_argument("--deconvolutions", choices=DECONVOLUTIONS, default="input", help="where they are counted")
    parser.add_argument("--tables", action="store_true", help="Qian 2021's tables beside ours")
    args = parser.parse_args()
    report: object
    if args.tables:
        report = {"table_2": table_2(), "table_3": table_3()}
    else:
        report = [
            {"codec": name, **row}
            for name in args.codecs or registry.names()
            for row in complexity(registry.create(name, args.size), args.height, args.width, args.deconvolutions)
        ]
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
