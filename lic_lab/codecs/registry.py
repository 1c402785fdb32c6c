"""The codecs by name. Listing them costs nothing: a codec's module, and CompressAI with it, is imported on use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lic_lab.codecs.codec import Codec


@dataclass(frozen=True)
class Entry:
    """What is known of a codec before it is built.

    Attributes
    ----------
    name, title : str
        What `create` takes, and what a reader sees.
    paper : str
        Citation.
    where : str
        "module:class" within `lic_lab.codecs`.
    sizes : mapping of str to int
        Number of parameters by size. "paper" has the published dimensions and no weights, "released" those of the
        authors' code where they differ; "small" is made for two CPU cores. They are those that
        the codec codes with: small MLIC and MLIC+ leave the alternatives of the shared latent's model aside.
    """

    name: str
    title: str
    paper: str
    where: str
    sizes: Mapping[str, int]

    def load(self) -> type[Codec]:
        """The codec's class."""
        module, name = self.where.split(":")
        found: type[Codec] = getattr(import_module(f"lic_lab.codecs.{module}"), name)
        return found


_BALLE = "Balle, Minnen, Singh, Hwang, Johnston: Variational image compression with a scale hyperprior, ICLR 2018"
_MINNEN = (
    "Minnen, Balle, Toderici: Joint autoregressive and hierarchical priors for learned image compression, NeurIPS 2018"
)
_CHARM = "Minnen, Singh: Channel-wise autoregressive entropy models for learned image compression, ICIP 2020"
_MLIC = (
    "Jiang, Yang, Zhai, Ning, Gao, Wang: MLIC: Multi-reference entropy model for learned image compression, ACM MM 2023"
)

_ZHU = "Zhu, Yang, Cohen: Transformer-based transform coding, ICLR 2022"
_GHORBEL = "Ghorbel, Hamidouche, Morin: AICT: An adaptive image compression transformer, ICIP 2023"
_QIAN = (
    "Qian, Tan, Sun, Lin, Li, Sun, Li, Jin: Learning accurate entropy model with global reference for image "
    "compression, ICLR 2021"
)

# Parameters are stated, because counting them means building a model of 114 million; a test does it.
ENTRIES = {
    entry.name: entry
    for entry in (
        Entry(
            "factorized", "Factorized prior", _BALLE, "factorized:Factorized", {"paper": 2_998_147, "small": 757_699}
        ),
        Entry(
            "hyperprior",
            "Scale hyperprior",
            _BALLE,
            "hyperprior:ScaleHyperprior",
            {"paper": 5_075_843, "small": 1_276_355},
        ),
        Entry(
            "mean-scale",
            "Mean-scale hyperprior",
            _MINNEN,
            "mean_scale:MeanScale",
            {"paper": 7_028_003, "small": 1_764_499},
        ),
        Entry(
            "joint-autoregressive",
            "Joint autoregressive",
            _MINNEN,
            "joint_autoregressive:JointAutoregressive",
            {"paper": 13_172_003, "small": 2_240_595},
        ),
        Entry("charm", "ChARM", _CHARM, "charm:Charm", {"paper": 113_988_227, "small": 4_876_747}),
        Entry(
            "global-reference",
            "Global reference",
            _QIAN,
            "global_reference:GlobalReference",
            {"paper": 27_556_611, "released": 29_769_603, "small": 5_935_935},
        ),
        Entry(
            "swint-charm",
            "SwinT-ChARM",
            _ZHU,
            "swint_charm:SwinTCharm",
            {"paper": 31_330_512, "zhu2022": 32_556_816, "small": 2_579_062},
        ),
        Entry("conv-charm", "Conv-ChARM", _GHORBEL, "ict:ConvCharm", {"paper": 52_588_355, "small": 8_706_019}),
        Entry("ict", "ICT", _GHORBEL, "ict:ICT", {"paper": 37_133_000, "small": 2_934_924}),
        Entry("aict", "AICT", _GHORBEL, "aict:AICT", {"paper": 37_230_588, "small": 3_032_512}),
        Entry("mlic", "MLIC", _MLIC, "mlic:MLIC", {"paper": 46_401_516, "small": 8_065_951}),
        Entry("mlic+", "MLIC+", _MLIC, "mlic_plus:MLICPlus", {"paper": 81_590_784, "small": 7_976_487}),
    )
}


def names() -> tuple[str, ...]:
    """Names of all codecs, in the order of their papers.

    >>> names()  # doctest: +NORMALIZE_WHITESPACE
    ('factorized', 'hyperprior', 'mean-scale', 'joint-autoregressive', 'charm', 'global-reference', 'swint-charm',
     'conv-charm', 'ict', 'aict', 'mlic', 'mlic+')
    """
    return tuple(ENTRIES)


def entry(name: str) -> Entry:
    """The entry of codec `name`.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.
    """
    if name not in ENTRIES:
        raise ValueError(f"no codec is called {name!r}; there are {', '.join(ENTRIES)}")
    return ENTRIES[name]


def create(name: str, size: str = "paper") -> Codec:
    """A codec with random weights; `lab.load` gives one with trained weights.

    Raises
    ------
    ValueError
        For an unknown name or size; the message lists the known ones.
    """
    return _sized(name, size).load().build(size)


def parameters(name: str, size: str = "paper") -> int:
    """Number of parameters that the codec of `create` codes with, as `evaluation.complexity` counts; errors are its."""
    return _sized(name, size).sizes[size]


def _sized(name: str, size: str) -> Entry:
    found = entry(name)
    if size not in found.sizes:
        raise ValueError(f"{name} has no size {size!r}; it has {', '.join(found.sizes)}")
    return found


def listing() -> list[dict[str, Any]]:
    """One row a codec and size: name, title, size, parameters, paper, weights [{quality, lambda, digest}]."""
    from lic_lab.codecs.weights import cards

    return [
        {
            "name": found.name,
            "title": found.title,
            "size": size,
            "parameters": count,
            "paper": found.paper,
            "weights": [
                {"quality": card["quality"], "lambda": card["lambda"], "digest": card["sha256"]}
                for card in (cards(found.name) if size == "small" else [])
            ],
        }
        for found in ENTRIES.values()
        for size, count in found.sizes.items()
    ]
