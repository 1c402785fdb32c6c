"""What ``import lic_lab`` adds to ``import torch``, each in a fresh interpreter, in turn. Prints JSON.

python benchmarks/import_time.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

RUNS = 7
TIMED = """
import time
start = time.perf_counter()
import torch
middle = time.perf_counter()
{}
print(middle - start, time.perf_counter() - middle)
"""


def seconds(statement: str) -> list[tuple[float, float]]:
    """(seconds of import torch, seconds of `statement` after it) of each run."""
    found = []
    for _ in range(RUNS):
        command = [sys.executable, "-c", TIMED.format(statement)]
        out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        torch_seconds, added = map(float, out.stdout.split())
        found.append((torch_seconds, added))
    return found


def main() -> None:
    ours, peer = seconds("import lic_lab"), seconds("import compressai")
    result = {
        "torch_seconds": round(statistics.median(t for t, _ in ours), 3),
        "lic_lab_adds_seconds": round(statistics.median(a for _, a in ours), 4),
        "lic_lab_adds_seconds_worst": round(max(a for _, a in ours), 4),
        "compressai_adds_seconds": round(statistics.median(a for _, a in peer), 3),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
