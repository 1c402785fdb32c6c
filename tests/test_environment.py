"""environment.yml says what pyproject.toml says, which is installed here; make serves to this machine alone."""

import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
DECLARED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]


def conda_pip():
    (section,) = [entry["pip"] for entry in CONDA if isinstance(entry, dict)]
    return section


def as_pairs(requirements):
    return sorted((r.name, str(r.specifier)) for r in map(Requirement, requirements))


def test_conda_environment_has_the_dependencies_of_pyproject():
    assert as_pairs(r for r in conda_pip() if not r.startswith("-")) == as_pairs(DECLARED)


def test_conda_environment_installs_this_checkout():
    assert conda_pip()[-1] == "--editable ."


def test_conda_environment_has_the_python_of_pyproject():
    (python,) = [entry for entry in CONDA if isinstance(entry, str) and re.match(r"python\W", entry)]
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])


@pytest.mark.parametrize("requirement", [Requirement(r) for r in DECLARED], ids=lambda r: r.name)
def test_every_dependency_has_a_lower_bound_that_is_met(requirement):
    assert any(s.operator == ">=" for s in requirement.specifier), f"{requirement} needs the version it was tested with"
    assert requirement.specifier.contains(version(requirement.name), prereleases=True)


def test_version_of_the_package_is_pyproject_s():
    import lic_lab

    assert lic_lab.__version__ == PROJECT["version"]


def make(*arguments, **environment):
    if shutil.which("make") is None:
        pytest.skip("there is no make on this machine")
    # `make test` runs this: a make within a make would frame its output with "Entering directory"
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment or None)


@pytest.mark.parametrize("target", ["lab", "app"])
def test_servers_listen_on_localhost_and_want_a_token(target):
    server = make("--dry-run", target).stdout.replace("\\\n", "").splitlines()[-1]
    assert "notebooks/workbench.ipynb" in server
    assert "ip=127.0.0.1" in server
    assert "token=" not in server  # JupyterLab's own default is a random one
    assert ("--token" in server) == (target == "app")  # Voila's is none


def test_without_a_python_make_says_what_to_install(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("make", "sh", "bash", "id", "true"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    found = make("lab", f"VENV={tmp_path / 'venv'}", PATH=str(tools))
    assert found.returncode == 2
    assert "needs Python 3.11 or 3.12" in found.stderr
    assert not (tmp_path / "venv").exists()
