"""The workbench, as classes of ipywidgets: a notebook needs two lines."""

from lic_lab.widgets.workbench import Workbench

__all__ = ["Workbench"]
