"""Codecs: one short file per published system.

The package can be called: ``lab.codecs()`` lists the codecs (`registry.listing`).
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Codecs(ModuleType):
    """A package and a function of one name: ``lic_lab.codecs.mlic`` is a module, ``lic_lab.codecs()`` the list."""

    def __call__(self) -> list[dict[str, Any]]:
        from lic_lab.codecs.registry import listing

        return listing()


sys.modules[__name__].__class__ = _Codecs
