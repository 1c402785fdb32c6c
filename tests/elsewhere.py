"""A device that is not there: tensors that compute as on the CPU, and refuse to meet one of the CPU, as CUDA's do.

With no accelerator at hand this shows a tensor that was made, or left, on the wrong device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

ELSEWHERE = torch.device("meta")  # a name that torch knows, and that needs no driver
_MAY_MIX = {"aten::_to_copy", "aten::copy_", "aten::index.Tensor", "aten::_index_put_impl_", "aten::index_put_"}


class There(Tensor):
    """A tensor on that device, around one of the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> There:
        found: There = Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=ELSEWHERE, requires_grad=False
        )
        found.inner = inner
        return found

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.inner!r})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.tolist:  # torch refuses it of subclasses
            return args[0].inner.tolist()
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """Within it tensors can be made on the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [t for t in tensors if isinstance(t, There)]
    here = [t for t in tensors if not isinstance(t, There) and t.dim()]  # a number may come from anywhere
    if there and here and func._schema.name not in _MAY_MIX:
        raise RuntimeError(f"{func}: expected all tensors on one device, found {ELSEWHERE} and {here[0].device}")
    to = kwargs.get("device") or (ELSEWHERE if there else torch.device("cpu"))
    kwargs = {key: torch.device("cpu") if key == "device" else value for key, value in kwargs.items()}
    args, kwargs = tree_map_only(There, lambda t: t.inner, (args, kwargs))
    out = func(*args, **kwargs)
    if torch.device(to).type == "cpu":
        return out
    for tensor in there:  # what was written in place is the same tensor still
        if out is tensor.inner:
            return tensor
    return tree_map_only(Tensor, There, out)


def moved(module: nn.Module) -> nn.Module:
    """The module, its weights and buffers there; in place."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = nn.Parameter(There(weight.detach()), requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = There(buffer)
    return module
