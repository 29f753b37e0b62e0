"""The composition root: the only package that names concrete adapters.

Each entry opens what it needs in order, and leaves it in reverse.
"""

from service.bootstrap.maintaining import CheckReport, RebuildSummary, check, rebuild
from service.bootstrap.serving import serve

__all__ = ["CheckReport", "RebuildSummary", "check", "rebuild", "serve"]
