"""What the registry states of codecs that it does not build."""

import pytest
from torch.nn import init

from lic_lab.codecs import registry
from lic_lab.evaluation.complexity import parts


@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name in registry.names() for size in registry.entry(name).sizes]
)
def test_the_stated_parameters_are_those_of_the_codec(name, size, monkeypatch):
    for fill in (n for n in dir(init) if n.endswith("_") and not n.startswith("_")):
        monkeypatch.setattr(init, fill, lambda tensor, *args, **kwargs: tensor)  # memory never touched is never taken
    codec = registry.create(name, size)
    used = sum(p.numel() for path in parts(codec).values() for p in codec.get_submodule(path).parameters())
    assert registry.parameters(name, size) == used  # what complexity and the figures count
    whole = sum(p.numel() for p in codec.parameters())
    assert used == whole or (name in ("mlic", "mlic+") and size == "small" and used < whole)  # one of a shared model


def test_a_size_that_is_not_there_is_answered_with_those_that_are():
    for ask in (registry.parameters, registry.create):
        with pytest.raises(ValueError, match="mlic has no size 'released'; it has paper, small"):
            ask("mlic", "released")
