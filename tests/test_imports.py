"""Nothing waits for what it does not need: torch and CompressAI take seconds to import, the others tenths."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

HEAVY = {"numpy", "scipy", "pandas", "PIL", "matplotlib", "plotly", "skimage", "torch", "compressai"}
NEEDED = {
    "-c 'import lic_lab, lic_lab.codecs.registry'": set(),
    "-m lic_lab.cli train --help": set(),
    "-m lic_lab.cli codecs": set(),
    "-c 'import lic_lab.analysis, lic_lab.evaluation.bdrate'": {"numpy"},
    "-c 'import lic_lab.figures'": {"numpy", "PIL", "matplotlib"},
    "-c 'import lic_lab.evaluation.published, lic_lab.evaluation.results'": {"numpy", "pandas"},
    "-c 'import lic_lab.evaluation.sweep'": {"numpy", "pandas", "PIL"},
    "-m lic_lab.cli bdrate --published --anchor vtm --test mlic": {"numpy", "pandas", "PIL", "scipy", "matplotlib"},
}


@pytest.mark.parametrize(("arguments", "needed"), NEEDED.items(), ids=list(NEEDED))
def test_only_what_is_needed_is_imported(arguments, needed):
    command = [sys.executable, "-X", "importtime", *shlex.split(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imports = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert HEAVY & {line.rpartition("|")[2].strip() for line in imports} == needed
