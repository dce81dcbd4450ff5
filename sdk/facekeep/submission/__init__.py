"""The client of a log server: the only part of the SDK that talks to one, and only when it is called."""

from facekeep.submission.answers import LineProof, SubmissionAnswer
from facekeep.submission.client import LogRefusal, LogServer
from facekeep.submission.cosigning import WitnessAnswer, ask_witness
from facekeep.submission.exchange import Patience

__all__ = ["LineProof", "LogRefusal", "LogServer", "Patience", "SubmissionAnswer", "WitnessAnswer", "ask_witness"]
