"""The doctor: what is installed, what works, how fast, and what to do about the rest.

It never raises for a broken environment: what cannot be examined is listed as a problem. It needs no key, no network, and
writes nothing but a scratch vault in the temporary directory, which it removes.

Steps:
    1 measure the stages first, while nothing else takes up memory
    2 examine machine, packages, runtimes and decoders
    3 verify the packs
    4 look at the home from outside
    5 list problems, each with what to do
"""

from facekeep.doctor.examination import examine
from facekeep.doctor.report import (
    Decoder,
    DoctorReport,
    HomeState,
    Machine,
    Measurement,
    Package,
    PackState,
    Problem,
    Runtime,
    StageTime,
)

__all__ = [
    "Decoder",
    "DoctorReport",
    "HomeState",
    "Machine",
    "Measurement",
    "PackState",
    "Package",
    "Problem",
    "Runtime",
    "StageTime",
    "examine",
]
