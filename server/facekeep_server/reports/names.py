"""The names of the reports. Apart from the reports: naming one takes no database."""

from __future__ import annotations

from enum import StrEnum


class ReportName(StrEnum):
    """Names of the reports."""

    RECORDS_OF_PROCESSING = "records-of-processing"
    SUBJECT_ACCESS = "subject-access"
    ERASURE_CERTIFICATE = "erasure-certificate"
    IDENTIFICATION_LOG = "identification-log"
    DPIA_INPUTS = "dpia-inputs"
    RETENTION_STATUS = "retention-status"
    BIPA_SCHEDULE = "bipa-schedule"
    PARTICIPATION = "participation"
