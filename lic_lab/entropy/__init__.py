import lic_lab.layers  # noqa: F401  # before CompressAI
