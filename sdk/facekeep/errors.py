"""One tree of errors, each with a stable code.

A code is what the audit trail records and what a program branches on; it is never reused for another meaning.
Messages say what was expected, what was found and what to do. They never carry an image, a vector, a key or a name.
"""

from __future__ import annotations

from typing import ClassVar, Final

CODES: Final[dict[str, str]] = {
    # consent
    "consent.none": "No consent record exists for this subject: never given, or erased.",
    "consent.wrong_purpose": "Consent was given, but not for this purpose.",
    "consent.not_yet_valid": "Consent begins in the future.",
    "consent.expired": "Consent has ended.",
    "consent.withdrawn": "Consent was withdrawn.",
    "consent.refused": "The subject refused.",
    "consent.wrong_subject": "The grant names another subject.",
    "consent.corrupt": "A consent record does not verify.",
    "consent.clock_set_back": "The clock stands earlier than the last recorded event.",
    "consent.invalid_request": "The grant asked for is not valid (no purpose, no term, no notice).",
    "consent.illegal_transition": "A consent record cannot follow the one before it.",
    "consent.not_countersigned": "The policy asks for the controller's signature, and the consent has none that verifies.",
    "consent.revocation_stale": "The consent depends on revocation lists, and no fresh one has been seen.",
    "consent.revocation_older": "The revocation list is older than one seen before.",
    "consent.revocation_fork": "The issuer signed two different revocation lists of one epoch.",
    "consent.unknown_issuer": "The policy names no issuer of revocation lists, or no controller.",
    # acquisition
    "acquisition.unreadable": "The picture is not one that can be decoded.",
    "acquisition.too_large": "The picture has more pixels than the device accepts.",
    "acquisition.too_small": "The picture has too few pixels to hold a face.",
    "acquisition.invalid_frame": "The array is not an (H, W, 3) uint8 RGB frame.",
    "acquisition.no_decoder": "No picture decoder is installed.",
    "acquisition.camera": "The camera gave no frame.",
    "acquisition.no_face": "No face was found.",
    "acquisition.several_faces": "More than one face was found where one was expected.",
    "acquisition.no_landmarks": "The detector gives no landmarks to align by.",
    "acquisition.low_quality": "The face sample does not reach the quality floor.",
    "acquisition.presentation_attack": "The sample was classified as a presentation attack.",
    "acquisition.pad_undetermined": "Presentation attack detection could not decide.",
    # enrolment
    "enrolment.no_frames": "No frame was given.",
    "enrolment.no_usable_frame": "None of the frames could be used.",
    "enrolment.samples_disagree": "The frames do not show one and the same person.",
    "enrolment.not_enrolled": "The subject has no template for this contract.",
    # comparison
    "comparison.non_match": "The probe does not match at the operating point asked for.",
    "comparison.contract_mismatch": "Two embeddings come from different contracts and cannot be compared.",
    "comparison.no_operating_point": "The model pack has no threshold for the error rate asked for.",
    "comparison.invalid_margin": "The margin over the runner-up is not a difference of cosines.",
    "comparison.empty_gallery": "There is no template to search.",
    "comparison.invalid_embedding": "The embedder returned a vector that is not finite or has no length.",
    # vault and keys
    "vault.not_found": "There is no vault here.",
    "vault.already_exists": "A vault exists here already.",
    "vault.corrupt": "The vault does not verify.",
    "vault.rolled_back": "The vault is older than the state the keystore remembers.",
    "vault.newer_version": "The vault was written by a newer Facekeep.",
    "vault.wrong_key": "The key does not open this vault.",
    "vault.no_key": "No key was given, or the key provider cannot give one.",
    "vault.insecure_key": "The key is readable by others or too weak.",
    "vault.sealed": "An envelope does not open in this context.",
    "vault.busy": "Another process holds the vault.",
    "vault.read_only": "The vault cannot be written.",
    "vault.disk_full": "The disk is full.",
    "vault.io": "The operating system refused a read or a write.",
    "vault.closed": "The vault is closed.",
    "vault.invalid_identifier": "A subject identifier is empty, too long or not printable.",
    # model packs and runtimes
    "model.unknown_pack": "No pack of this name is known.",
    "model.not_installed": "The pack is known but its files are not here.",
    "model.invalid_manifest": "The manifest is not valid.",
    "model.hash_mismatch": "A model file is not the one the manifest names.",
    "model.download_failed": "The download did not complete.",
    "model.disk_full": "The disk is full; nothing of the model was kept.",
    "model.io": "The operating system refused to read or write a model file.",
    "model.not_permitted": "The pack's licence or training data is refused by the policy in force.",
    "model.wrong_task": "The pack does another task.",
    "model.other_in_use": "Stored templates belong to other models than those asked for.",
    "model.runtime_missing": "The runtime that the build needs is not installed or does not work here.",
    "model.invalid_model": "The runtime cannot load or run the model.",
    # audit
    "audit.broken_chain": "The audit trail was changed, reordered or cut.",
    "audit.bad_signature": "The head of the audit trail is not signed by this device.",
    "audit.truncated": "The audit trail is shorter than its signed head says.",
    "audit.invalid_event": "The event is not one the trail may hold.",
    "audit.invalid_entry": "A log entry or a submitted batch is not of the form expected.",
    "audit.wrong_sequence": "A batch does not continue the device's trail where the log stands.",
    "audit.from_the_future": "An entry is dated later than the receiver's clock allows.",
    "audit.invalid_policy": "The policy to audit by is not valid.",
    "audit.violation": "The log is intact, but what it records breaks the policy.",
    # log
    "log.malformed": "A checkpoint, tile, bundle, proof or request of the transparency log is not well formed.",
    "log.bad_signature": "A checkpoint of the log is not signed by a key the policy names, or carries a false signature.",
    "log.no_quorum": "Too few witnesses cosigned the checkpoint.",
    "log.bad_proof": "An inclusion or consistency proof does not verify.",
    "log.fork": "The log showed two histories: one of its checkpoints does not continue another.",
    "log.stale": "The log shows an older state than one seen before, or than the policy allows.",
    "log.incomplete": "A file of the log is missing, cut or not part of it.",
    "log.unreachable": "The log's address gave no usable answer.",
    "log.io": "The operating system refused to read or write the log.",
    "log.refused": "The log server refused what it was sent; its reason is in the message.",
    "log.not_enrolled": "This device is not enrolled with a log server.",
    # two-person rule
    "confirmation.pending": "The result stays sealed: not enough operators have confirmed.",
    "confirmation.unknown": "No identification of this name waits for confirmation.",
    "confirmation.expired": "The time to confirm has passed; the result was destroyed.",
    "confirmation.void": "Somebody in the result withdrew or was erased; the result was destroyed.",
    "confirmation.same_operator": "This operator has confirmed already.",
    "confirmation.unknown_operator": "The operator was not enrolled when the search ran, or is not now.",
    "confirmation.bad_signature": "The confirmation is not signed by the operator's key over this identification.",
    "confirmation.too_few_operators": "Fewer operators are enrolled than have to confirm.",
    "confirmation.too_many": "Too many identifications wait for confirmation.",
    "confirmation.invalid_operator": "The operator's name or key cannot be used.",
    "confirmation.invalid_policy": "The number of confirmations asked for is not one that can be kept.",
    # retention and erasure
    "retention.invalid_policy": "The retention policy is not valid.",
    "retention.no_policy": "No retention policy was adopted on this device.",
    "retention.invalid_certificate": "A retention certificate does not verify.",
    "erasure.not_erased": "The subject is still in the vault.",
    "erasure.residue": "Something of an erased subject is left.",
    "erasure.incomplete": "A store could not be read to its end, so nothing can be said of it.",
    "erasure.invalid_receipt": "A receipt of erasure is not well formed or does not verify.",
    # trust
    "trust.bad_signature": "A signature does not verify.",
    "trust.malformed": "A signed document is not well formed.",
    # federated rounds
    "federation.not_joined": "This device takes part in no federation.",
    "federation.invalid_policy": "The federation policy is not valid.",
    "federation.malformed": "A message of a round is not well formed.",
    "federation.wrong_step": "A message came out of order, or a second time.",
    "federation.unknown_round": "The round is not the one in progress on this device.",
    "federation.replayed_plan": "The plan is not newer than the last round this device answered.",
    "federation.plan_refused": "The plan asks for what this device's policy does not allow.",
    "federation.expired": "The plan's deadline has passed.",
    "federation.not_a_member": "The roster or the cohort does not hold this device, or somebody it was shown.",
    "federation.cohort_too_small": "Fewer devices take part than the policy demands.",
    "federation.no_quorum": "Too few devices confirmed who survived the round.",
    "federation.already_revealed": "This device has answered the unmasking of this round.",
    "federation.budget_spent": "The round would spend more privacy than the policy allows.",
    "federation.no_accounting": "The package that accounts for privacy is not installed.",
    "federation.nothing_to_contribute": "No subject with consent for this purpose has anything to contribute.",
    "federation.invalid_update": "An update is not of the shape, the type or the range the plan states.",
    "federation.aborted": "The round was aborted; nothing of it was opened.",
    "federation.clock": "The clock of the device and the times of the plan do not go together.",
    # releases
    "release.malformed": "A release is not well formed.",
    "release.not_signed": "Too few of the keys in the policy signed the release.",
    "release.older": "The release is not newer than the one in use or one refused before.",
    "release.wrong_parent": "The release does not continue the one in use.",
    "release.expired": "The release's term is over.",
    "release.wrong_model": "The release belongs to another model or contract.",
    "release.not_logged": "The release has no proof that it is in the transparency log.",
    "release.failed_selftest": "The released model failed its self-test here and was rolled back.",
    "release.gate": "The evaluation gate did not let the model pass.",
    "release.none": "There is no release to use or to go back to.",
    # demo
    "demo.refused_directory": "The directory for the demo's page cannot be used.",
    "demo.no_people": "No picture in the folder says who is on it.",
    # selftest
    "selftest.leak": "Bytes derived from an image left memory unsealed.",
    "selftest.failed": "The selftest could not complete.",
}


class FacekeepError(Exception):
    """Root of every error that crosses Facekeep's interface.

    Attributes:
        code: stable identifier such as "consent.expired"; one of `CODES`.
    """

    branch: ClassVar[str] = ""

    def __init__(self, code: str, message: str) -> None:
        if code not in CODES or (self.branch and code.split(".", 1)[0] not in self.branch.split("|")):
            raise ValueError(f"{code!r} is not a code of {type(self).__name__}")
        super().__init__(message)
        self.code = code

    def __str__(self) -> str:
        return f"{self.args[0]} [{self.code}]"

    def __reduce__(self) -> tuple[type[FacekeepError], tuple[str, str]]:
        return type(self), (self.code, self.args[0])


class ConsentError(FacekeepError):
    """No valid consent for what was asked; nothing was captured or computed."""

    branch = "consent"


class AcquisitionError(FacekeepError):
    """A frame could not be turned into an admitted face sample (a failure to acquire, FTA)."""

    branch = "acquisition"


class EnrolmentError(FacekeepError):
    """A subject could not be enrolled (a failure to enrol, FTE), or is not enrolled."""

    branch = "enrolment"


class ComparisonError(FacekeepError):
    """A comparison could not be made or decided."""

    branch = "comparison"


class NonMatchError(ComparisonError):
    """Raised by `require_match` when the decision is a non-match."""


class VaultError(FacekeepError):
    """Storage or keys: nothing was opened or written."""

    branch = "vault"


class ModelError(FacekeepError):
    """A model pack or a runtime cannot be used."""

    branch = "model"


class AuditError(FacekeepError):
    """The audit trail does not verify."""

    branch = "audit"


class LogError(FacekeepError):
    """The transparency log does not verify, or could not be read or written."""

    branch = "log"


class ConfirmationError(FacekeepError):
    """An identification under the two-person rule stays sealed."""

    branch = "confirmation"


class RetentionError(FacekeepError):
    """The retention policy or a certificate cannot be used."""

    branch = "retention"


class ErasureError(FacekeepError):
    """An erasure cannot be shown to be complete."""

    branch = "erasure"


class TrustError(FacekeepError):
    """A signature or a signed document does not verify."""

    branch = "trust"


class FederationError(FacekeepError):
    """A federated round, or a message of one, was refused; nothing was contributed or opened."""

    branch = "federation"


class ReleaseError(FacekeepError):
    """A model release was refused; the model in use stays."""

    branch = "release"


class SelftestError(FacekeepError):
    """The selftest found a leak or could not run."""

    branch = "selftest"


class DemoError(FacekeepError):
    """The demo could not begin or could not write its page."""

    branch = "demo"
