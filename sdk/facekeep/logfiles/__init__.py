"""A transparency log as files: written, read, and audited. `facekeep.logfiles.web` reads one from its address."""

from facekeep.logfiles.auditing import audit_log
from facekeep.logfiles.directory import LogDirectory
from facekeep.logfiles.source import LogSource
from facekeep.logfiles.writing import LogWriter

__all__ = ["LogDirectory", "LogSource", "LogWriter", "audit_log"]
