"""The workbench, as classes of ipywidgets: a notebook needs two lines."""

from lic_lab.widgets.charts import rd_chart, saving_chart
from lic_lab.widgets.operating_points import measure
from lic_lab.widgets.rd import RDExplorer
from lic_lab.widgets.references import ReferenceExplorer
from lic_lab.widgets.workbench import Workbench

__all__ = ["RDExplorer", "ReferenceExplorer", "Workbench", "measure", "rd_chart", "saving_chart"]
