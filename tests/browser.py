"""A notebook served to Chromium: for the browser tests, the screenshot and the speed benchmark.

Everything a server would read or write of the user's (settings, kernels, history) is in a temporary folder, and it
fetches neither news nor versions.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "workbench.ipynb"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_CHROMIUM = "there is no chromium on the PATH (apt-get install chromium)"
FLAGS = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium(width: int = 1440, height: int = 900) -> Iterator[object]:
    """A page in Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()


@contextmanager
def serve(folder: Path, app: str = "lab", notebook: Path = NOTEBOOK) -> Iterator[str]:
    """Serve a copy of a notebook with ``jupyter lab`` or ``voila``; yields the address with its token."""
    root = folder / "notebooks"
    root.mkdir()
    shutil.copy(notebook, root / notebook.name)
    config = folder / "config"
    disabled = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (config / "labconfig").mkdir(parents=True)
    (config / "labconfig" / "page_config.json").write_text(json.dumps(disabled))
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_PATH": str(NOTEBOOK.parent / "share"),  # Voila's template
        "PYTHONPATH": str(ROOT),
    }
    port, token = _free_port(), secrets.token_hex(16)
    if app == "lab":
        command = ["jupyterlab", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
        command += ["--no-browser", "--allow-root", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"]
        command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url="]
        command += ["--LabApp.extension_manager=readonly"]
        address = f"http://127.0.0.1:{port}/lab/tree/{notebook.name}?token={token}"
    else:
        command = [
            "voila",
            str(root / notebook.name),
            f"--port={port}",
            "--no-browser",
            "--Voila.ip=127.0.0.1",
            "--template=lic-lab",
        ]
        command += ["--token", token]
        address = f"http://127.0.0.1:{port}/?token={token}"
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait(f"http://127.0.0.1:{port}/", server, folder / "server.log")
            yield address
        finally:
            server.terminate()  # it ends its kernels
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()


def open_workbench(page: object, address: str, app: str = "lab", patience: int = 240_000) -> None:
    """Open the page, run all cells in JupyterLab, and wait until the workbench shows its first run."""
    if app == "lab":
        run_all_cells(page, address, patience)
    else:
        page.goto(address, timeout=patience)  # type: ignore[attr-defined]
    wait_for_run(page, 1, patience)


def run_all_cells(page: object, address: str, patience: int = 240_000) -> None:
    """Open the page in JupyterLab and start all cells."""
    page.goto(address, timeout=patience)  # type: ignore[attr-defined]
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=patience)  # type: ignore[attr-defined]
    # The notebook's own indicator says idle before there is a kernel; a command then opens a dialog or is lost.
    page.wait_for_selector("text=/Python 3.* [|] Idle/", timeout=patience)  # type: ignore[attr-defined]
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")  # type: ignore[attr-defined]
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")  # type: ignore[attr-defined]


def wait_for_run(page: object, count: int, patience: int = 60_000) -> None:
    """Wait until run number `count` is on the screen: numbers, picture and bit map."""
    for name in ("picture", "bits"):
        page.wait_for_selector(f'.lab-map[data-map="{name}"][data-run="{count}"]', timeout=patience)  # type: ignore[attr-defined]


def eventually(page: object, condition: Callable[[], bool], patience: float = 20) -> None:
    """Wait until a condition holds: parts of a page follow one another, and a slow machine shows the time between.

    Raises
    ------
    AssertionError
        When it still does not hold after `patience` seconds; what it raised itself, if it did.
    """
    end = time.monotonic() + patience
    while True:
        try:
            if condition():
                return
            failure: Exception = AssertionError(f"not within {patience:g} s")
        except (AssertionError, ValueError, IndexError) as error:  # of a part that is not there yet
            failure = error
        if time.monotonic() > end:
            raise failure
        page.wait_for_timeout(50)  # type: ignore[attr-defined]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait(address: str, server: subprocess.Popen[bytes], log: Path, patience: float = 180) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}:\n{log.read_text()}")
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except urllib.error.HTTPError:
            return  # it answers, if only that a token is needed
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"the server did not answer within {patience:.0f} s:\n{log.read_text()}")
