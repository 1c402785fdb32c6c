"""`Trace`: everything one run of a codec saw, by name. Whoever ran it, it is arrays and numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lic_lab.codecs.geometry import Geometry
from lic_lab.entropy.order import CodingOrder
from lic_lab.image import Picture
from lic_lab.layers.places import SUFFIX
from lic_lab.tracing import references
from lic_lab.tracing.attention import LARGER, Attention, look
from lic_lab.tracing.references import References
from lic_lab.tracing.taps import Record, array

Array = NDArray[Any]
FACTORIZED = "a factorized model has one learned distribution for each channel, and no mu and sigma"


@dataclass
class Stage:
    """What a progressive entropy model predicted with some of its features; arrays (M, h, w).

    Attributes
    ----------
    name : str
        ``"local"``, ``"+ reference"``, ``"+ hyperprior"``.
    mu, sigma, bits : array
        Distribution, and what the symbols would cost under it.
    """

    name: str
    mu: Array
    sigma: Array
    bits: Array


@dataclass
class Trace:
    """What one run saw. Arrays are (M, h, w) unless said otherwise; h and w count latent positions.

    Where a model of others does not tell something, it is None, and `unknown` says why. Who needs it asks
    `told`, which says so in words.

    Attributes
    ----------
    codec, quality, combination
        What ran.
    geometry : Geometry
        How the latent lies on the picture.
    x, x_hat : array
        Image and reconstruction, uint8 (H, W, 3); `x_hat` is None when only bits were asked for.
    symbols : array or None
        Symbols as coded: the values whose likelihoods were counted.
    y_hat : array or None
        The input of g_s: the symbols, refined.
    mu, sigma : array or None
        Distribution of each symbol: Gaussian, or of a mixture its mean and deviation. A factorized model has none.
    bits : array
        Cost of each symbol.
    z_bits : array
        Of the side information: (N, ceil(h/4), ceil(w/4)), empty for a codec without hyperprior. Of several with
        unlike shapes, flat: (n, 1, 1).
    step : array
        Index of the step that coded each symbol; 0 throughout if the order is unknown.
    slices : tuple of int
        Channels of each slice.
    order : str
        Name of the coding order; "unknown" of a model that does not tell.
    parts : dict
        Boolean (h, w) for each part of the spatial pattern.
    seconds : dict
        ``g_a``, ``hyper``, ``entropy``, ``g_s``.
    patched : bool
        Whether global attention ran in patches.
    records : list of Record
        Kept taps: (name, where, array).
    taps : dict
        Name of every tap that was passed, kept or not, and what ran then: a key of `seconds`.
    stages : list of Stage
        Of a progressive entropy model, from the first to the one that codes; empty for others.
    coded_mean, coded_deviation : array or None
        Mean and standard deviation of each symbol as it is coded, rounded: under plain rounding, and where sigma is
        small, they aren't mu and sigma.
    notes : tuple of str
        What one has to know to read this trace, in words.
    unknown : str
        Why something is None.
    """

    codec: str
    quality: int | None
    combination: dict[str, str]
    picture: Picture
    geometry: Geometry
    x: Array
    x_hat: Array | None
    symbols: Array | None
    y_hat: Array | None
    mu: Array | None
    sigma: Array | None
    bits: Array
    z_bits: Array
    step: Array
    slices: tuple[int, ...]
    order: str
    parts: dict[str, Array]
    seconds: dict[str, float]
    patched: bool = False
    records: list[Record] = field(default_factory=list)
    taps: dict[str, str] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    coded_mean: Array | None = None
    coded_deviation: Array | None = None
    notes: tuple[str, ...] = ()
    unknown: str = ""

    def __repr__(self) -> str:
        """The rates in one line, and the notes."""
        quality = "" if self.quality is None else f", quality {self.quality}"
        bpp = self.bpp
        lines = [
            f"Trace of {self.codec}{quality} on {self.picture.name}: {bpp['total']:.4f} bpp "
            f"(y {bpp['y']:.4f}, z {bpp['z']:.4f}), PSNR {self.psnr:.2f} dB, order {self.order}",
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)

    def told(self, what: str) -> Array:
        """One of the arrays that a model of others may leave unknown.

        Parameters
        ----------
        what : {"symbols", "y_hat", "mu", "sigma", "coded_mean", "coded_deviation"}

        Raises
        ------
        ValueError
            When it is unknown: why, in words.
        """
        found: Array | None = getattr(self, what)
        if found is None:
            raise ValueError(f"this trace of {self.codec} has no {what}: {self.unknown or 'nothing told it'}")
        return found

    # ------------------------------------------------------------------ numbers and maps

    @property
    def pixels(self) -> int:
        """Pixels of the image."""
        return int(self.x.shape[0] * self.x.shape[1])

    @property
    def bpp(self) -> dict[str, float]:
        """Bits per pixel: ``total``, ``z``, ``y``, each part (``anchor``, ``nonanchor``, ...), each ``slice i``."""
        out = {"z": float(self.z_bits.sum()), "y": float(self.bits.sum())}
        out = {"total": out["z"] + out["y"], **out}
        per_position = self.bits.sum(0)
        for part, mask in self.parts.items():
            out[part] = float(per_position[mask].sum())
        for i in range(len(self.slices)):
            out[f"slice {i}"] = float(self.bits[self.channels(i)].sum())
        return {name: bits / self.pixels for name, bits in out.items()}

    @property
    def psnr(self) -> float:
        """PSNR of the 8-bit reconstruction in dB (NaN without a reconstruction)."""
        if self.x_hat is None:
            return float("nan")
        mse = float(np.mean((self.x.astype(np.float64) - self.x_hat) ** 2))
        return float("inf") if mse == 0 else 10 * float(np.log10(255**2 / mse))

    @property
    def bit_map(self) -> Array:
        """Bits of y per latent position (h, w)."""
        found: Array = self.bits.sum(0)
        return found

    @property
    def normalised(self) -> Array:
        """(symbols - mu) / sigma, as AICT's Figure 10 has it.

        Symbols are rounded and mu and sigma are not of the rounded value, so these residuals correlate and don't have
        unit variance even if the model is perfect: see `standardised`.

        Raises
        ------
        ValueError
            Where there is no mu and sigma, as of a factorized model.
        """
        found: Array = (self.told("symbols") - self.told("mu")) / self.told("sigma")
        return found

    @property
    def standardised(self) -> Array:
        """(symbols - their mean) / their deviation, both as the symbols are coded: what is left for a context to find.

        Of symbols that are distributed as the model says, all of these are uncorrelated and of unit variance.

        Raises
        ------
        ValueError
            Where the model does not tell what it expects.
        """
        found: Array = (self.told("symbols") - self.told("coded_mean")) / self.told("coded_deviation")
        return found

    def channels(self, i: int) -> slice:
        """Channels of slice `i`."""
        start = sum(self.slices[:i])
        return slice(start, start + self.slices[i])

    def on_picture(self, values: Array) -> Array:
        """Of `values` (..., h, w) the positions that lie on the picture.

        Those are all, unless the model is one of CompressAI's, for which the picture is padded.
        """
        rows, columns = self.geometry.on_picture
        return values[..., :rows, :columns]

    # ------------------------------------------------------------------ where components look

    @property
    def attending(self) -> list[str]:
        """Components that attend, whether their maps were kept or not."""
        return [name.removesuffix(SUFFIX) for name in self.taps if name.endswith(SUFFIX)]

    @property
    def attentions(self) -> dict[str, list[int]]:
        """Components whose attention maps were kept, each with its slices."""
        found: dict[str, list[int]] = {}
        for name, where, _ in self.records:
            if "places" in where:
                slices = found.setdefault(name.removesuffix(SUFFIX), [])
                if where["slice"] not in slices:
                    slices.append(where["slice"])
        return found

    def attention(self, component: str, slice: int, position: tuple[float, float]) -> Attention:
        """Where `component` looks for the symbol of `slice` at `position` (row, column).

        A position that asks nothing is replaced by the nearest one that does. Where several queries of a window serve
        one symbol, as in the local component, whose convolution fuses a window's anchors into its centre, the weights
        are their mean. The global reference looks at one position, with weight S U.

        On a finer grid than y's, as of attention inside g_a, parts of a position tell queries apart: row 3 is the
        middle of the position, row 3.4 lies near its lower end.

        Raises
        ------
        ValueError
            For a component or slice without a map, a position outside the latent, or a latent that is too small for
            anything to be looked at.
        """
        have = self.attentions
        h, w = self.bits.shape[1:]
        if component not in have or slice not in have[component]:
            if h * w == 1:
                raise ValueError(f"nothing asks here: the latent has a single position; {LARGER}")
            raise ValueError(f"no attention map of {component!r} for slice {slice}; this trace has {have or 'none'}")
        if not all(-0.5 <= at < n - 0.5 for at, n in zip(position, (h, w), strict=True)):
            raise ValueError(f"position is {position}; rows are 0 to {h - 1}, columns 0 to {w - 1}")
        return look([r for r in self.records if r.name == component + SUFFIX and r.where["slice"] == slice], position)

    def references(self, slice: int = 0) -> References:
        """What the global reference found for the symbols of `slice`.

        Raises
        ------
        ValueError
            When no reference was on, or it left nothing for this slice.
        """
        h, w = self.bits.shape[1:]
        return references.found([r for r in self.records if r.name == "reference.found"], slice, h, w)


def bits_of(likelihoods: Tensor) -> Array:
    """-log2, in float64."""
    found: Array = -np.log2(array(likelihoods.detach().double()))
    return found


def parts_of(order: CodingOrder, h: int, w: int) -> dict[str, Array]:
    """`Trace.parts`: a raster is one part, however many wavefronts code it."""
    masks: dict[str, Array] = {}
    for step in order.steps(h, w):
        mask = np.ones((h, w), bool) if step.part.mask is None else step.part.mask.numpy()
        masks[step.part.name] = masks.get(step.part.name, np.zeros((h, w), bool)) | mask
    return masks
