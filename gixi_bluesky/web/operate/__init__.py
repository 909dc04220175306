"""Operating the analysis from the page: configurations, trials, consumers, stored runs."""

from gixi_bluesky.web.operate.operation import Operation
from gixi_bluesky.web.operate.routes import operate_routes, rights_path

__all__ = ["Operation", "operate_routes", "rights_path"]
