"""What the global reference costs: Tables 2 and 3 in the appendix of Qian et al. (ICLR 2021), measured again.

The paper counts otherwise than `complexity`, where its numbers show how:

    GFLOPs               two per multiply-add
    deconvolutions       at the output's resolution, of the input with zeros between its values
    masked convolutions  all 25 and all 9 cells of the kernel, of which 12 and 5 see the past
    search               1536^2 x (4 x 384) at 512 x 768: one per multiply-add for all pairs of positions, or two for the
                         half that lies in the past; a raster's window of 3 x 3 has 4 cells
    parameter networks   three times the one that sees M channels, as the 24.46 are 3 x 8.15, though the second and
                         third see more features and what the network before predicted (section 3)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lic_lab.codecs.codec import Codec
from lic_lab.codecs.registry import create
from lic_lab.evaluation.complexity import complexity, products

HEIGHT, WIDTH = 512, 768  # of Table 2
STRIDE = 16  # pixels to a position of the latent

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


def as_published() -> dict[str, float]:
    """GFLOPs of each column of Table 2, from our counts by the paper's conventions, and "Search" alone."""
    codec = create("global-reference", "paper")
    counts = products(codec, HEIGHT, WIDTH, "output")
    reference = "entropy.contexts.reference.raster"  # the search is its own, the convolution its `linear`'s
    macs = {
        column: float(sum(n for name, n in counts.items() if f"{name}.".startswith(f"{path}.")))
        for column, path in {
            "Encoder": "g_a",
            "Decoder": "g_s",
            "Hyper Encoder": "hyperprior.h_a",
            "Hyper Decoder": "hyperprior.h_s",
        }.items()
    }
    macs["Context Model"] = counts["entropy.contexts.local.raster.linear"] * 25 / 12
    macs["Reference Model"] = counts[f"{reference}.linear"] * 9 / 5 + counts[reference]
    macs["Parameter Network"] = 3.0 * first_network(codec) * positions(HEIGHT, WIDTH)
    macs["Search"] = counts[reference]
    return {column: 2e-9 * n for column, n in macs.items()}


def first_network(codec: Codec) -> int:
    """Multiply-adds of the first parameter network at one position."""
    return sum(p.numel() for p in codec.get_submodule("entropy.g_ep.nets.0").parameters() if p.dim() > 1)


def positions(height: int, width: int) -> float:
    """Positions of the latent, as the paper counts them: not rounded up."""
    return height * width / STRIDE**2


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
        ``as_published_percent``, from our counts at 512 x 768 by the paper's conventions: all in proportion to the
        positions, but the search to their square; ``gflops`` and ``percent``, two for each multiply-add that our code
        computes at that size, padded to multiples of 64.
    """
    codec = create("global-reference", "paper")
    converted = as_published()
    search = converted["Search"]
    rest = sum(converted[c] for c in TABLE_2 if c not in ("Encoder", "Decoder", "Reference Model"))
    rows = []
    for size in sizes:
        published, percent, (height, width) = TABLE_3[size]
        ratio = positions(height, width) / positions(HEIGHT, WIDTH)
        reference = (converted["Reference Model"] - search) * ratio + search * ratio**2
        total = rest * ratio + reference
        padded = [-(-side // codec.stride) * codec.stride for side in (height, width)]
        ours = {row["module"]: row["macs"] for row in complexity(codec, *padded) if row["module"] not in ("g_a", "g_s")}
        rows.append(
            {
                "size": size,
                "height": height,
                "width": width,
                "published": published,
                "published_percent": percent,
                "as_published": total,
                "as_published_percent": 100 * reference / total,
                "gflops": 2e-9 * sum(ours.values()),
                "percent": 100 * ours["reference"] / sum(ours.values()),
            }
        )
    return rows
