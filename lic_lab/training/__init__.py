"""Training: images, loss, the loop, and a recipe for each codec that has one."""

RECIPES = {  # codec -> module that has its `RECIPE`
    "shared": "lic_lab.training.shared",
    "global-reference": "lic_lab.training.global_reference",
}
