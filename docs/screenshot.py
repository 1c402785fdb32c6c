"""Take docs/workbench.png, the screenshot in the README, with the weights that are there.

python docs/screenshot.py [--to docs/workbench.png]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser import CHROMIUM, NO_CHROMIUM, chromium, open_workbench, serve, wait_for_run  # noqa: E402

CHOICES = [(0, "Coffee"), (3, "none")]  # menus from the top: photograph, rate point, channel, local, global, refinement
THEN = [(3, "checkerboard attention"), (4, "intra- and inter-slice")]


def main() -> None:
    """Open, choose, pin, choose, and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "workbench.png")
    to = parser.parse_args().to
    if CHROMIUM is None:
        sys.exit(NO_CHROMIUM)
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder), "voila") as address, chromium(1440, 1180) as page:
        open_workbench(page, address, "voila")
        run = 1
        for choices in (CHOICES, THEN):
            for menu, label in choices:
                page.locator(".lab-controls select").nth(menu).select_option(label=label)
                run += 1
                wait_for_run(page, run)
            if choices is CHOICES:
                page.click("button:has-text('Pin as A')")
        page.wait_for_selector("text=/% against A/")
        page.wait_for_selector('.lab-map[data-map="difference"][data-run]')
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        page.locator(".lic-lab").screenshot(path=to)
    print(to)


if __name__ == "__main__":
    main()
