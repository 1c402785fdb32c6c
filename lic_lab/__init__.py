"""lic_lab: a workbench for people who study how learned image codecs spend their bits.

>>> import lic_lab as lab                                   # doctest: +SKIP
>>> codec = lab.load("mlic+", quality=4)                    # doctest: +SKIP
>>> trace = lab.trace(codec, "photo.png")                   # doctest: +SKIP
>>> lab.figures.bit_map(trace)                              # doctest: +SKIP

CompressAI takes seconds to import, so everything here is loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "create": "lic_lab.codecs.registry",
    "load": "lic_lab.codecs.weights",
    "WeightsError": "lic_lab.codecs.weights",
    "encode": "lic_lab.codecs.bitstream",
    "decode": "lic_lab.codecs.bitstream",
    "Bitstream": "lic_lab.codecs.bitstream",
    "BitstreamError": "lic_lab.codecs.bitstream",
    "trace": "lic_lab.tracing",
    "latent": "lic_lab.tracing",
    "Trace": "lic_lab.tracing",
    "read_image": "lic_lab.image",
    "ImageError": "lic_lab.image",
}
_MODULES = ("codecs", "correlation", "figures", "widgets", "analysis")
__all__ = [*_WHERE, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in _MODULES:
        return import_module("lic_lab.analysis.correlation" if name == "correlation" else f"lic_lab.{name}")
    raise AttributeError(f"module 'lic_lab' has no attribute {name!r}; it has {', '.join(sorted(__all__))}")


def __dir__() -> list[str]:
    return sorted(__all__)
