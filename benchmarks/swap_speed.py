"""Time from a change of a component to its numbers, and to pixels on the screen, of a 512 x 768 picture, as JSON.

    python benchmarks/swap_speed.py [--repeat 3] [--threads 2] [--browser]

Numbers: what the workbench needs from a change of a menu to its figures, with the transform's output cached, over all
combinations. Pixels, with --browser: in Chromium, from the choice in the menu to the frame in which numbers, picture
and bit map are painted. The goals are a p95 of 150 ms and 400 ms on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

GOALS = {"numbers": 150.0, "pixels": 400.0}
HEIGHT, WIDTH = 512, 768


def photograph(folder: Path) -> Path:
    """Retina, cut to 512 x 768: the one bundled photograph that is large enough."""
    path = folder / "photo.png"
    Image.fromarray(skimage.data.retina()[300 : 300 + HEIGHT, 300 : 300 + WIDTH]).save(path)
    return path


def summary(milliseconds: list[float], goal: float) -> dict[str, Any]:
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"p50_ms": round(p50, 1), "p95_ms": round(p95, 1), "goal_p95_ms": goal, "swaps": len(milliseconds)}


def numbers(path: Path, repeat: int, threads: int) -> dict[str, Any]:
    import torch

    from lic_lab.codecs.shared import combinations
    from lic_lab.image import read
    from lic_lab.widgets.session import Session

    torch.set_num_threads(threads)
    session, picture = Session(), read(path)
    quality = next(iter(session.qualities()))
    found: list[float] = []

    def run(choice: dict[str, str]) -> float:
        seconds = []
        session.run(picture, quality, choice, lambda words: None, lambda run: seconds.append(run.seconds))
        return 1000 * seconds[0]

    for choice in combinations():  # warms up, and caches the transform's output
        run(choice)
    for _ in range(repeat):
        found += [run(choice) for choice in combinations()]
    return summary(found, GOALS["numbers"])


# Chooses in a menu as a user does, and resolves when all of the new run is painted.
SWAP = """([menu, value, run]) => new Promise((resolve, reject) => {
  const select = document.querySelectorAll('.lab-controls select')[menu];
  const maps = ['picture', 'bits'].map(name => document.querySelector(`.lab-map[data-map=${name}]`));
  const start = performance.now();
  setTimeout(() => reject(new Error('no new picture within 20 s')), 20000);
  const observer = new MutationObserver(() => {
    if (maps.some(map => map.dataset.run !== run)) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - start)));
  });
  maps.forEach(map => observer.observe(map, { attributes: true }));
  select.value = value;
  select.dispatchEvent(new Event('change', { bubbles: true }));
})"""


def pixels(path: Path, repeat: int) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from browser import CHROMIUM, NO_CHROMIUM, chromium, open_workbench, serve, wait_for_run

    if CHROMIUM is None:
        sys.exit(NO_CHROMIUM)
    found: list[float] = []
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as address, chromium() as page:
        open_workbench(page, address)
        field = page.locator(".lab-controls input[type=text]")
        field.fill(str(path))
        field.press("Enter")
        wait_for_run(page, 2)
        run = 2
        # A walk over the menus (channel, local, global, refinement are 2 to 5) that visits the dear and the cheap.
        walk = [(3, "checkerboard attention"), (4, "intra- and inter-slice"), (5, "latent residual prediction"),
                (3, "stacked checkerboard"), (4, "intra-slice"), (5, "none"), (3, "none"), (4, "none"), (2, "none"),
                (3, "checkerboard"), (2, "convolutions")]  # fmt: skip
        for round_ in range(repeat + 1):
            for menu, value in walk:
                run += 1
                wanted = page.locator(".lab-controls select").nth(menu)
                if wanted.locator("option:checked").inner_text() == value:
                    run -= 1
                    continue
                took = page.evaluate(SWAP, [menu, value, str(run)])
                if round_:  # the first round warms up
                    found.append(took)
                time.sleep(0.2)
    return summary(found, GOALS["pixels"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, help="rounds over all combinations")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--browser", action="store_true", help="measure to pixels in Chromium too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = photograph(Path(folder))
        result: dict[str, Any] = {"image": f"{HEIGHT} x {WIDTH}", "cores": os.cpu_count(), "threads": options.threads}
        result["load_average"] = round(os.getloadavg()[0], 2)
        result["numbers"] = numbers(path, options.repeat, options.threads)
        if options.browser:
            result["pixels"] = pixels(path, options.repeat)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
