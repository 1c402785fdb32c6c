"""The shared latent: one frozen transform per rate point, and an any-subset entropy model on it (DESIGN.md).

Symbols are plainly rounded, so they are the same for every combination of components: swapping one changes the bits and
nothing else. Every component of MLIC and MLIC+ is present at once; training switches them at random, so every
combination of the menu has real weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import product

from torch import Tensor

from lic_lab.codecs.codec import Codec
from lic_lab.codecs.states import codec_said
from lic_lab.codecs.weights import SERVES
from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.contexts.channel import ChannelContext
from lic_lab.entropy.contexts.globally import InterSliceContext, IntraSliceContext
from lic_lab.entropy.contexts.local import (
    AttentionContext,
    CheckerboardContext,
    RasterContext,
    StackedCheckerboardContext,
)
from lic_lab.entropy.contexts.reference import CheckerboardReference, RasterReference
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.hyperprior import Hyperprior
from lic_lab.entropy.model import EntropyModel
from lic_lab.entropy.order import CodingOrder
from lic_lab.entropy.parameters import Parameters
from lic_lab.entropy.refinement import LatentResidualPrediction
from lic_lab.transforms.hyper import HyperAnalysis, HyperSynthesis
from lic_lab.transforms.residual import Analysis, Synthesis

M, SLICES, N, Z = 128, (32, 32, 32, 32), 96, 64  # [ours]; slices of 32 [paper]
WIDTHS = (32, 48, 96)  # of the transform [ours]

MENU = {
    "channel": ("none", "conv"),
    "local": ("none", "checkerboard", "stacked", "attention", "raster"),
    "global": ("none", "intra", "intra-unmasked", "intra+inter", "reference"),
    "refinement": ("none", "lrp"),
}
_GLOBAL = {  # menu entry -> the two slots behind it
    "none": {"intra": "none", "inter": "none"},
    "intra": {"intra": "masked", "inter": "none"},
    "intra-unmasked": {"intra": "unmasked", "inter": "none"},
    "intra+inter": {"intra": "masked", "inter": "masked"},
    "reference": {"intra": "none", "inter": "none"},  # and the slot "reference", for the order there is
}


def objection(channel: str, local: str, global_: str, refinement: str = "none") -> str | None:
    """Why a combination has no meaning, and what to do about it; None if it has one."""
    if local == "raster" and channel != "none":
        return (
            "local 'raster' codes all channels of a position at once, so there is no earlier slice to look at: use "
            "channel='none' too"
        )
    if local == "raster" and refinement != "none":
        return "LRP refines slices or checkerboard halves, and local 'raster' has neither: use refinement='none' too"
    if global_ in ("none", "reference"):
        return None
    if local == "raster" or channel != "conv":
        return (
            f"global {global_!r} needs the channel context: it carries slice i-1's attention map to slice i, so "
            "slices must be coded in turn. Use channel='conv' too"
        )
    return None


def meaningful(channel: str, local: str, global_: str, refinement: str = "none") -> bool:
    """Whether a combination makes sense, see `objection`."""
    return objection(channel, local, global_, refinement) is None


def chosen(choice: Mapping[str, str], onto: Mapping[str, str]) -> dict[str, str]:
    """The combination `onto` with the entries of `choice` in place of its own; "global" may be called "global_".

    Raises
    ------
    ValueError
        For an unknown component or entry, or a combination without meaning.
    """
    found = dict(onto)
    for part, name in choice.items():
        part = "global" if part == "global_" else part
        if part not in MENU:
            raise ValueError(f"no component is called {part!r}; there are {', '.join(MENU)}")
        if name not in MENU[part]:
            raise ValueError(f"{part} is {name!r}; it must be one of {', '.join(MENU[part])}")
        found[part] = name
    words = objection(*(found[part] for part in MENU))
    if words:
        raise ValueError(words)
    return found


def combinations() -> list[dict[str, str]]:
    """Every meaningful combination of the menu, as keywords of `SharedLatent.swap`."""
    found = [dict(zip(MENU, values, strict=True)) for values in product(*MENU.values())]
    return [c for c in found if meaningful(*c.values())]


class SharedLatent(Codec):
    """The workbench's codec. `swap` takes the menu's entries: channel, local, global_ (or "global"), refinement."""

    g_a: Analysis
    g_s: Synthesis
    hyperprior: Hyperprior
    entropy: EntropyModel

    def __init__(self) -> None:
        order = CodingOrder(SLICES, in_turn=True, pattern="checkerboard")
        hyper = 2 * M
        raster = CodingOrder((M,), pattern="wavefront")
        contexts: dict[str, dict[str, Context]] = {
            "channel": {"conv": ChannelContext(order, hidden=(96, 64), expand=2)},
            "local": {
                "checkerboard": CheckerboardContext(order),
                "stacked": StackedCheckerboardContext(order),
                "attention": AttentionContext(order),
                "raster": RasterContext(raster, M),
            },
            "intra": {"masked": IntraSliceContext(order), "unmasked": IntraSliceContext(order, mask=False)},
            "inter": {"masked": InterSliceContext(order)},
            "reference": {"checkerboard": CheckerboardReference(order), "raster": RasterReference(raster, M)},
        }
        one = {
            slot: [next(iter(found.values())).width(i) for i in range(len(SLICES))] for slot, found in contexts.items()
        }
        widths = {"hyper": [hyper] * len(SLICES), **one}
        g_ep = Parameters(
            order,
            {
                "first": {s: widths[s] for s in ("hyper", "channel")},
                "second": widths,
                "raster": {"hyper": (hyper,), "local": (M,), "reference": (M,)},
            },
            hidden=(160, 128),
            optional=True,
        )
        lrp = LatentResidualPrediction(order, hyper, hidden=(96, 64))
        entropy = EntropyModel(
            order, contexts, g_ep, {"lrp": lrp}, Gaussian("plain"), {"reference": "none"}, refined_context=False
        )
        super().__init__(
            Analysis(WIDTHS, M, linear_path=True),
            Synthesis(WIDTHS, M, linear_path=True),
            Hyperprior(HyperAnalysis(M, N, Z), HyperSynthesis(Z, N, hyper), Z),
            entropy,
            "shared",
            "small",
        )

    @classmethod
    def _shaped(cls, state: Mapping[str, Tensor]) -> Codec:
        """Its weights alone tell neither name nor components: it is "shared" then, as `lab.load` gives it."""
        if codec_said(state) is None:
            warnings.warn(
                "these weights serve every combination of components and do not say which they were saved from; this "
                "is 'shared' with its own: swap chooses others, and from_state_dict of MLIC or MLICPlus gives those",
                stacklevel=3,
            )
        return cls().swap(**SERVES["shared"]).called("shared")

    def swap(self, /, **choice: str) -> Codec:
        """Another combination on the same latent.

        Raises
        ------
        ValueError
            For an unknown component, or a combination without meaning.
        """
        wanted = chosen(choice, self.combination)
        slots = {k: v for k, v in wanted.items() if k != "global"} | _GLOBAL[wanted["global"]]
        order = "raster" if wanted["local"] == "raster" else "checkerboard"
        return super().swap(**slots, reference=order if wanted["global"] == "reference" else "none")

    @property
    def combination(self) -> dict[str, str]:
        """The components in use, by the menu's names."""
        s = self.entropy.selection
        both = {"intra": s["intra"], "inter": s["inter"]}
        found = "reference" if s["reference"] != "none" else next(n for n, slots in _GLOBAL.items() if slots == both)
        return {"channel": s["channel"], "local": s["local"], "global": found, "refinement": s["refinement"]}
