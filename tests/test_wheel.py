"""A wheel is whole: what is installed from it finds its weights and figures without the checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lic_lab.codecs import weights
from lic_lab.evaluation import published

ROOT = Path(__file__).parents[1]
LOOK = """
import json
from lic_lab import shipped
from lic_lab.codecs import weights
from lic_lab.evaluation import published
print(json.dumps([str(shipped.PACKAGE), [c["sha256"] for c in weights.cards()], len(published.points())]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what the wheel installs."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def files(folder, ignored="__pycache__"):
    return {p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and ignored not in p.parts}


def test_the_wheel_has_the_package_and_the_data_and_nothing_else(installed):
    in_wheel = {p for p in files(installed) if not p.parts[0].endswith(".dist-info")}
    package = {Path("lic_lab") / p for p in files(ROOT / "lic_lab")}
    data = {Path("lic_lab") / "data" / p for p in files(ROOT / "data")}
    assert in_wheel == package | data


def test_what_is_installed_finds_its_data_in_itself(installed, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LIC_LAB")} | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    package, digests, points = json.loads(done.stdout)
    assert Path(package) == installed / "lic_lab"
    assert digests == [card["sha256"] for card in weights.cards()]
    assert points == len(published.points())


def test_a_variable_of_the_environment_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("LIC_LAB_WEIGHTS", str(tmp_path))
    assert weights.folder() == tmp_path and weights.cards() == []
