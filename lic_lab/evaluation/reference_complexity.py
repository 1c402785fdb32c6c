"""What the global reference costs: Tables 2 and 3 in the appendix of Qian et al. (ICLR 2021), measured again.

The paper counts otherwise than `complexity`, where its numbers show how:

    GFLOPs               two per multiply-add
    deconvolutions       at the output's resolution, of the input with zeros between its values
    masked convolutions  all 25 and all 9 cells of the kernel, of which 12 and 5 see the past
    search               1536^2 x (4 x 384) for 1536 positions and 4 cells: one per multiply-add of all pairs, or two
                         for the half in which one lies in the other's past
    parameter networks   three times the one that sees M channels, as the 24.46 are 3 x 8.15, though the second and
                         third see more features and what the network before predicted (section 3)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from lic_lab.codecs.global_reference import GlobalReference
from lic_lab.codecs.registry import create
from lic_lab.evaluation.complexity import complexity, products

HEIGHT, WIDTH = 512, 768  # of Table 2
REFERENCE = "entropy.contexts.reference.raster"  # its own products are the search's, its `linear`'s the convolution's

# Column of Table 2: our part, GFLOPs [published: appendix, Table 2, "Ours"].
TABLE_2 = {
    "Encoder": ("g_a", 84.12),
    "Decoder": ("g_s", 279.47),
    "Hyper Encoder": ("h_a", 2.92),
    "Hyper Decoder": ("h_s", 7.62),
    "Context Model": ("local", 11.32),
    "Reference Model": ("reference", 7.70),
    "Parameter Network": ("g_ep", 24.46),
}
# Column of Table 3: GFLOPs of the entropy model, percent of them in the reference [published: appendix, Table 3]; and
# the size in pixels that these two numbers fit, which the paper does not say (240p is 300 positions, 4k 36864).
TABLE_3 = {
    "240p": (9.98, 9.36, (240, 320)),
    "360p": (22.85, 10.90, (360, 480)),
    "480p": (41.59, 12.98, (480, 640)),
    "512x768": (54.03, 14.25, (512, 768)),
    "720p": (138.04, 21.34, (720, 1280)),
    "1080p": (366.57, 33.36, (1080, 1920)),
    "4k": (3296.99, 66.28, (2304, 4096)),
}


@lru_cache(maxsize=1)
def counts() -> Mapping[str, int]:
    """`products` of our code at 512 x 768, deconvolutions counted at the output."""
    return MappingProxyType(products(create("global-reference", "paper"), HEIGHT, WIDTH, "output"))


def as_published() -> dict[str, float]:
    """GFLOPs of each column of Table 2, from our counts by the paper's conventions, and of the search alone."""
    macs = {
        "Encoder": _inside("g_a"),
        "Decoder": _inside("g_s"),
        "Hyper Encoder": _inside("hyperprior.h_a"),
        "Hyper Decoder": _inside("hyperprior.h_s"),
        "Context Model": counts()["entropy.contexts.local.raster.linear"] * 25 / 12,
        "Reference Model": counts()[f"{REFERENCE}.linear"] * 9 / 5 + counts()[REFERENCE],
        "Parameter Network": 3 * first_network(),
        "Search": counts()[REFERENCE],
    }
    return {column: 2e-9 * n for column, n in macs.items()}


def first_network() -> int:
    """Multiply-adds of the first parameter network, computed once at every position."""
    network = create("global-reference", "paper").get_submodule("entropy.g_ep.nets.0")
    return int(positions(HEIGHT, WIDTH)) * sum(p.numel() for p in network.parameters() if p.dim() > 1)


def _inside(path: str) -> int:
    return sum(n for name, n in counts().items() if f"{name}.".startswith(f"{path}."))


def positions(height: int, width: int) -> float:
    """Positions of the latent, as the paper counts them: not rounded up."""
    return height * width / GlobalReference.stride**2


def table_2() -> list[dict[str, Any]]:
    """Table 2: a row a module, at 512 x 768.

    Returns
    -------
    list of dict
        ``module``, ``published`` and ``as_published`` (our counts by the paper's conventions), and ``gflops``, two for
        each multiply-add that our code computes.
    """
    ours = {row["module"]: row for row in complexity(create("global-reference", "paper"), HEIGHT, WIDTH)}
    converted = as_published()
    return [
        {
            "module": column,
            "published": published,
            "as_published": converted[column],
            "gflops": 2e-9 * ours[part]["macs"],
        }
        for column, (part, published) in TABLE_2.items()
    ]


def table_3(sizes: Iterable[str] = tuple(TABLE_3)) -> list[dict[str, Any]]:
    """Table 3: a row an image size; GFLOPs of the entropy model with the hyperprior, and the reference's share.

    Returns
    -------
    list of dict
        ``size``, ``height`` and ``width`` in pixels, ``published``, ``published_percent``; ``as_published`` and
        ``as_published_percent``, see `entropy_model_as_published`; ``gflops`` and ``percent``, two for each
        multiply-add that our code computes at that size.
    """
    codec = create("global-reference", "paper")
    rows = []
    for size in sizes:
        published, percent, (height, width) = TABLE_3[size]
        converted, converted_percent = entropy_model_as_published(height, width)
        found = complexity(codec, height, width)
        ours = {row["module"]: row["macs"] for row in found if row["module"] not in ("g_a", "g_s")}
        rows.append(
            {
                "size": size,
                "height": height,
                "width": width,
                "published": published,
                "published_percent": percent,
                "as_published": converted,
                "as_published_percent": converted_percent,
                "gflops": 2e-9 * sum(ours.values()),
                "percent": 100 * ours["reference"] / sum(ours.values()),
            }
        )
    return rows


def entropy_model_as_published(height: int, width: int) -> tuple[float, float]:
    """GFLOPs of the entropy model with the hyperprior by the paper's conventions, and the reference's percent of them.

    From our counts at 512 x 768: all in proportion to the positions, but the search to their square.
    """
    found = as_published()
    ratio = positions(height, width) / positions(HEIGHT, WIDTH)
    rest = sum(found[column] for column in TABLE_2 if column not in ("Encoder", "Decoder", "Reference Model"))
    reference = (found["Reference Model"] - found["Search"]) * ratio + found["Search"] * ratio**2
    total = rest * ratio + reference
    return total, 100 * reference / total
