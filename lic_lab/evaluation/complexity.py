"""Parameters and multiply-adds of a codec, module by module, at any image size.

Coding and decoding run once for the shapes of their tensors: features are on torch's meta device, where they have
neither memory nor values; only indices are computed, because what the search and the attention compare depends on
them. So 4K takes no more memory than a thumbnail. The formulas are those of `torch.utils.flop_counter`; its
`FlopCounterMode` attributes to modules what their `forward` does, and a context may have another entrance (`inform`).

Counted are the products of convolutions (the borders' zeros too), of GDN's, of linear layers and of matrices
(attention, search), one for a multiplication with its addition. Not counted are activations, roots, softmax and the
coder itself. The numbers are of the loop that codes, in which a raster's search sees just the past. 3 x 3 convolutions
count as such: in exact arithmetic they take fewer products (`layers.winograd`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from lic_lab.codecs.codec import Codec
from lic_lab.entropy.contexts.base import InformedContext
from lic_lab.entropy.model import EntropyModel

DECONVOLUTIONS = ("input", "output")
# Parts that they do not compute.
WITHOUT = {"encoder": ("g_s", "after"), "decoder": ("g_a", "h_a", "resize", "before"), "all": ()}


def complexity(codec: Codec, height: int, width: int, deconvolutions: str = "input") -> list[dict[str, Any]]:
    """Parameters and multiply-adds of the codec's parts, for one image.

    The parts are g_a, h_a, h_s and the bottleneck of z (or of y), each context in use by its slot, g_ep, the
    refinement in use, and g_s. Of a codec that can resize also the network that predicts the factor, and the filters
    before and after; the rest is then counted for the whole picture. An encoder computes all but g_s and what comes
    after it, a decoder all but g_a, h_a and what comes before: see `totals`.

    Parameters
    ----------
    codec : Codec
        Its weights do not matter.
    height, width : int
        Of the image in pixels.
    deconvolutions : {"input", "output"}
        A transposed convolution multiplies each input by the whole kernel: "input" counts these products. Papers
        often count as for a convolution at the output's resolution, of the input with zeros between its values:
        "output", four times as many for stride 2.

    Returns
    -------
    list of dict
        ``module``, ``parameters``, ``macs`` (multiply-adds) and ``macs_per_pixel``.

    Raises
    ------
    ValueError
        For an unknown way of counting.
    """
    found = products(codec, height, width, deconvolutions)
    rows = []
    for module, path in parts(codec).items():
        macs = sum(n for name, n in found.items() if f"{name}.".startswith(f"{path}."))
        parameters = sum(p.numel() for p in codec.get_submodule(path).parameters())
        rows.append(
            {"module": module, "parameters": parameters, "macs": macs, "macs_per_pixel": macs / (height * width)}
        )
    return rows


def totals(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Sums over the rows of `complexity`: of the "encoder", the "decoder", and "all".

    Returns
    -------
    dict
        ``parameters``, ``macs`` and ``macs_per_pixel`` of each. What both compute is in both.
    """
    found = list(rows)
    return {
        whole: {
            key: sum(row[key] for row in found if row["module"] not in without)
            for key in ("parameters", "macs", "macs_per_pixel")
        }
        for whole, without in WITHOUT.items()
    }


def parts(codec: Codec) -> dict[str, str]:
    """The codec's parts in use, in the order in which they compute, each with its path among the submodules."""
    found = {"g_a": "g_a"}
    if codec.resizing is not None:
        found = {"resize": "resizing.network", "before": "resizing.before", **found}
    if codec.hyperprior is not None:
        found |= {"h_a": "hyperprior.h_a", "bottleneck": "hyperprior.bottleneck", "h_s": "hyperprior.h_s"}
    if isinstance(codec.entropy, EntropyModel):
        selection = codec.entropy.selection
        found |= {slot: f"entropy.contexts.{slot}.{selection[slot]}" for slot in codec.entropy.active()}
        found["g_ep"] = "entropy.g_ep"
        if selection["refinement"] != "none":
            found["refinement"] = f"entropy.refinements.{selection['refinement']}"
    else:
        found["bottleneck"] = "entropy.bottleneck"
    return {**found, "g_s": "g_s"} | ({"after": "resizing.after"} if codec.resizing is not None else {})


@torch.no_grad()
def products(codec: Codec, height: int, width: int, deconvolutions: str = "input") -> dict[str, int]:
    """Multiply-adds by the path of the submodule that computes them itself, not by one of its own; see `complexity`."""
    if deconvolutions not in DECONVOLUTIONS:
        raise ValueError(f"deconvolutions is {deconvolutions!r}; it must be one of {DECONVOLUTIONS}")
    x = torch.empty(1, 3, height, width, device="meta")
    counter = _Products(next(codec.parameters()).device, deconvolutions == "output")
    with _entered(codec, counter.inside), counter:
        if codec.resizing is not None:
            for part in codec.resizing.children():
                part(x)
            codec = codec.resized(1)
        y, geometry = codec.analyse(x)
        if codec.hyperprior is None:
            hyper = y[:, :0]
        else:
            hyper = codec.hyperprior.features(codec.hyperprior.h_a(y), geometry.latent)
        if isinstance(codec.entropy, EntropyModel):
            y = codec.entropy.run(hyper, lambda step, mu, *_: mu.new_zeros(mu.shape[:3]))
        codec.synthesise(y, geometry)
    return dict(counter.found)


class _Products(TorchDispatchMode):
    """Runs operations for the shapes of their results, and counts their products.

    What has no values is on the meta device. Integers and booleans asked for there are made on `device` instead, where
    they have values. An operation on something without values has a result without values.
    """

    def __init__(self, device: torch.device, at_output: bool):
        super().__init__()
        self.device, self.at_output = device, at_output
        self.inside: list[str] = []  # names of the modules that are computing, the innermost last
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(tensor.is_meta for tensor in tensors):
            if not all(tensor.is_meta for tensor in tensors):
                args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
            kwargs |= {"device": torch.device("meta")} if kwargs.get("device") is not None else {}
        elif kwargs.get("device") == torch.device("meta") and _integer(func, tensors, kwargs):
            kwargs["device"] = self.device
        out = func(*args, **kwargs)
        operation = func._overloadpacket
        if operation in flop_registry:
            macs = flop_registry[operation](*args, **kwargs, out_val=out) // 2
            if self.at_output and operation is torch.ops.aten.convolution and args[6]:  # transposed
                macs = macs * prod(out.shape[2:]) // prod(args[0].shape[2:])
            self.found[self.inside[-1] if self.inside else ""] += macs
        return out


def _integer(func: Any, tensors: list[Tensor], kwargs: dict[str, Any]) -> bool:
    """Whether an operation that makes a tensor makes one of integers or booleans."""
    kind = kwargs.get("dtype") or (tensors[0].dtype if tensors else None)
    if kind is None:
        return func._overloadpacket is torch.ops.aten.arange
    return not kind.is_floating_point


@contextmanager
def _entered(codec: Codec, inside: list[str]) -> Iterator[None]:
    """Keep the names of the modules that are computing in `inside`."""
    handles = []
    informed = []
    for name, module in codec.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: inside.append(name)))
        handles.append(module.register_forward_hook(lambda *_: (inside.pop(), None)[1], always_call=True))
        if isinstance(module, InformedContext):
            informed.append(module)
            module.inform = _named(name, module.inform, inside)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in informed:
            del module.inform  # the class's again


def _named(name: str, call: Callable[..., Any], inside: list[str]) -> Callable[..., Any]:
    def named(*args: Any) -> Any:
        inside.append(name)
        try:
            return call(*args)
        finally:
            inside.pop()

    return named
