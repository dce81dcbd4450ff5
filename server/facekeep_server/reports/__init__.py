"""Reports: documents made from the log and the running configuration, as HTML and JSON."""

from facekeep_server.reports.catalogue import REPORTS, ReportName, Stated, make_report
from facekeep_server.reports.report import Report

__all__ = ["REPORTS", "Report", "ReportName", "Stated", "make_report"]
