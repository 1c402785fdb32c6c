"""Operating points, published and measured here, as curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lic_lab.figures.curves import METRICS, Curve

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

TITLES = {  # of published codecs, whose name in the table says too little
    "av1": "AV1",
    "bpg_444_x265_ycbcr": "BPG",
    "hm": "HM",
    "jpeg": "JPEG",
    "jpeg2000": "JPEG 2000",
    "vtm": "VTM",
    "webp": "WebP",
    "bmshj2018-factorized": "factorized",
    "bmshj2018-hyperprior": "hyperprior",
    "mbt2018-mean": "mean-scale",
    "mbt2018": "joint autoregressive",
    "minnen2020-cc10 (paper)": "ChARM",
    "cheng2020-anchor": "Cheng 2020, anchor",
    "cheng2020-attn": "Cheng 2020, attention",
    "xie2021-invcompress": "InvCompress",
    "elic2022 (paper)": "ELIC",
    "wacnn": "WACNN",
    "stf": "STF",
    "cwam": "CWAM",
    "mlic": "MLIC",
    "mlic+": "MLIC+",
}
_OURS = {  # of published codecs, which of ours has the published dimensions
    "bmshj2018-factorized": "factorized",
    "bmshj2018-hyperprior": "hyperprior",
    "mbt2018-mean": "mean-scale",
    "mbt2018": "joint-autoregressive",
    "minnen2020-cc10 (paper)": "charm",
    "mlic": "mlic",
    "mlic+": "mlic+",
}
_COLUMNS = {"psnr": ("psnr_db", "psnr"), "ms_ssim": ("ms_ssim", "ms_ssim_db")}  # of published points, of our means
_TRAINED_FOR = {"none": "", "mse": "MSE", "ms-ssim": "MS-SSIM"}
_TRAINED = {"psnr": ("none", "mse"), "ms_ssim": ("none", "ms-ssim", "mse")}  # the first there is


def published_curves(codecs: Sequence[str] | None = None, dataset: str = "kodak", metric: str = "psnr") -> list[Curve]:
    """Published points on one set of images, with their sources.

    Learned codecs are taken as trained for MSE; for MS-SSIM as trained for that where such points are known, which the
    curve's name then says. Beside such curves, legends say of others that they were trained for MSE (`Curve.trained`).

    Parameters
    ----------
    codecs : sequence of str, optional
        Names as `evaluation.published.points` takes them; by default all there are.
    dataset : str
        ``"kodak"``, ...
    metric : {"psnr", "ms_ssim"}
        MS-SSIM is given in dB.

    Returns
    -------
    list of Curve
        In the order of `codecs`; without those that have points, but none with this metric.

    Raises
    ------
    ValueError
        For an unknown dataset, codec or metric.
    """
    from lic_lab.evaluation.published import points
    from lic_lab.evaluation.quality import ms_ssim_db

    column = _column(metric, 0)
    found = []
    for codec in dict.fromkeys(points(dataset)["codec"]) if codecs is None else codecs:
        rows = points(dataset, codec)
        name = rows["codec"].iloc[0]
        rows = rows[rows[column].notna()]
        trained = next((how for how in _TRAINED[metric] if (rows["optimized_for"] == how).any()), None)
        if trained is None:
            continue
        rows = rows[rows["optimized_for"] == trained]
        title = TITLES.get(name, name)
        found.append(
            Curve(
                f"{title}, for MS-SSIM" if trained == "ms-ssim" else title,
                rows["bpp"].to_numpy(),
                rows[column].to_numpy() if metric == "psnr" else ms_ssim_db(rows[column].to_numpy()),
                family="classical" if trained == "none" else "learned",
                source=", ".join(dict.fromkeys(rows["source"])),
                coder=(_OURS[name], "") if name in _OURS else None,
                trained=_TRAINED_FOR[trained],
            )
        )
    return found


def measured_curves(means: pd.DataFrame, metric: str = "psnr") -> list[Curve]:
    """Curves of what `lic-lab evaluate` measured; a learned codec has one for each choice of components.

    Parameters
    ----------
    means : DataFrame
        As `evaluation.results.means` returns it, of one set of images.
    metric : {"psnr", "ms_ssim"}

    Returns
    -------
    list of Curve
        In the order of the table; without lossless points, which have no number of dB, and those without the metric.

    Raises
    ------
    ValueError
        For an unknown metric, or when rows are over different images.
    """
    import numpy as np

    from lic_lab.evaluation.classical import CLASSICAL

    column = _column(metric, 1)
    if means["images"].nunique() > 1:
        raise ValueError(
            f"the results hold means over {', '.join(map(str, sorted(means['images'].unique())))} images, which can't "
            "be compared: let `lic-lab evaluate` finish, or give files of one set of images"
        )
    if means["image_set"].nunique() > 1:
        raise ValueError(
            "the results hold means over different images, which can't be compared: measure all codecs over the same "
            "ones, or give files of one set of images"
        )
    frame = means[np.isfinite(means[column])]
    subjects = np.array([subject(*of) for of in zip(frame["codec"], frame["configuration"], strict=True)])
    found = []
    for name in dict.fromkeys(subjects.tolist()):
        rows = frame[subjects == name]
        family = "classical" if rows["codec"].iloc[0] in CLASSICAL else "ours"
        coder = (rows["codec"].iloc[0], rows["configuration"].iloc[0])
        trained = "" if family == "classical" else "MSE"  # as all weights that come with the package
        found.append(Curve(name, rows["bpp"].to_numpy(), rows[column].to_numpy(), family, coder=coder, trained=trained))
    return found


def subject(codec: str, configuration: str) -> str:
    """What a curve of measured points is called: the codec, and the components that are not its own.

    >>> subject("mlic+", "q=3,local=stacked"), subject("jpeg", "quality=30")
    ('mlic+, local stacked', 'JPEG')
    >>> subject("mlic+", "q=3,channel=none,local=none,global=none")
    'mlic+, hyperprior alone'
    """
    from lic_lab.evaluation.classical import CLASSICAL

    if codec in CLASSICAL:
        return CLASSICAL[codec].title
    swaps = dict(text.partition("=")[::2] for text in configuration.split(",") if not text.startswith("q="))
    if all(swaps.get(part) == "none" for part in ("channel", "local", "global")):
        for part in ("channel", "local", "global"):
            del swaps[part]
        codec += ", hyperprior alone"
        if swaps.get("refinement") == "none":
            del swaps["refinement"]
    return ", ".join([codec, *(f"{part} {name}" for part, name in swaps.items())])


def _column(metric: str, which: int) -> str:
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; it must be one of {', '.join(METRICS)}")
    return _COLUMNS[metric][which]
