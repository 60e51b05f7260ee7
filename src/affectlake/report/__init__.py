"""Figures and the HTML report of one version. Numbers are read from tables here, never computed anew."""

from affectlake.report.inputs import BrainInputs, ReportInputs, VersionFacts
from affectlake.report.page import render

__all__ = ["BrainInputs", "ReportInputs", "VersionFacts", "render"]
