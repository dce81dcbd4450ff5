"""Facekeep: face recognition that stays on the device.

    from facekeep import Device, KeyFile, Notice, Purpose

Names are loaded when first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import gc
import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facekeep.biometric import Decision, Frame, Identification, OperatingPoint
    from facekeep.confirmation import PendingIdentification
    from facekeep.consent import ConsentGrant, ConsentPolicy, Notice, Purpose, WrittenRelease
    from facekeep.device import Device
    from facekeep.errors import (
        AcquisitionError,
        AuditError,
        ComparisonError,
        ConfirmationError,
        ConsentError,
        DemoError,
        EnrolmentError,
        FacekeepError,
        FederationError,
        LogError,
        ModelError,
        NonMatchError,
        ReleaseError,
        SelftestError,
        TrustError,
        VaultError,
    )
    from facekeep.flows.context import Settings
    from facekeep.flows.enrol import EnrolmentReceipt
    from facekeep.keys import KeyFile, OSKeyring, Passphrase
    from facekeep.packs import LoadPolicy, PackStore
    from facekeep.protocol.policy import FederationPolicy
    from facekeep.retention import ErasureReceipt

# Importing ONNX Runtime 1.29 and later writes an identifier of the machine to the home directory and reports to its maker;
# `disable_telemetry_events()` can only be called after that. This has to stand before anything imports it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME_OF = {
    "Decision": "biometric",
    "Frame": "biometric",
    "Identification": "biometric",
    "OperatingPoint": "biometric",
    "ConsentGrant": "consent",
    "ConsentPolicy": "consent",
    "WrittenRelease": "consent",
    "Notice": "consent",
    "Purpose": "consent",
    "Device": "device",
    "AcquisitionError": "errors",
    "AuditError": "errors",
    "ComparisonError": "errors",
    "ConfirmationError": "errors",
    "ConsentError": "errors",
    "DemoError": "errors",
    "EnrolmentError": "errors",
    "FacekeepError": "errors",
    "FederationError": "errors",
    "LogError": "errors",
    "ModelError": "errors",
    "NonMatchError": "errors",
    "ReleaseError": "errors",
    "SelftestError": "errors",
    "TrustError": "errors",
    "VaultError": "errors",
    "Settings": "flows.context",
    "EnrolmentReceipt": "flows.enrol",
    "ErasureReceipt": "retention",
    "KeyFile": "keys",
    "OSKeyring": "keys",
    "Passphrase": "keys",
    "LoadPolicy": "packs",
    "FederationPolicy": "protocol.policy",
    "PendingIdentification": "confirmation",
    "PackStore": "packs",
}

__version__ = "0.1.0"

__all__ = [
    "AcquisitionError",
    "AuditError",
    "ComparisonError",
    "ConfirmationError",
    "ConsentError",
    "ConsentGrant",
    "ConsentPolicy",
    "Decision",
    "DemoError",
    "Device",
    "EnrolmentError",
    "EnrolmentReceipt",
    "ErasureReceipt",
    "FacekeepError",
    "FederationError",
    "FederationPolicy",
    "Frame",
    "Identification",
    "KeyFile",
    "LoadPolicy",
    "LogError",
    "ModelError",
    "NonMatchError",
    "Notice",
    "OSKeyring",
    "OperatingPoint",
    "PackStore",
    "Passphrase",
    "PendingIdentification",
    "Purpose",
    "ReleaseError",
    "SelftestError",
    "Settings",
    "TrustError",
    "VaultError",
    "WrittenRelease",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # A tenth of the time of a cold start goes to collections that find no garbage: modules are made to stay.
    collecting = gc.isenabled()
    gc.disable()
    try:
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    finally:
        if collecting:
            gc.enable()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
