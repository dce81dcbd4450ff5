"""Signed notes with several signatures, read without trusting any. Source: https://c2sp.org/signed-note."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from facekeep.tlog.keys import NoteKey, is_key_name
from facekeep.tlog.numbers import malformed, parse_base64, to_base64

LARGEST_NOTE_BYTES: Final = 1 << 16
MOST_SIGNATURES: Final = 64
_DASH = "— "


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One signature, not yet verified.

    Attributes:
        name: name of the key that is said to have signed.
        key_id: 4 bytes.
        signature: what follows them.
    """

    name: str
    key_id: bytes
    signature: bytes

    def to_text(self) -> str:
        """Return the line with its newline."""
        return f"{_DASH}{self.name} {to_base64(self.key_id + self.signature)}\n"

    @classmethod
    def parse(cls, line: str) -> SignatureLine:
        """Return the signature of a line without its newline.

        Raises:
            LogError: "log.malformed".
        """
        words = line.split(" ")
        if len(words) != 3 or words[0] != _DASH.strip() or not is_key_name(words[1]):
            raise malformed("A signature line is a dash, a name and base64")
        blob = parse_base64(words[2], "A signature")
        if len(blob) < 5:
            raise malformed("A signature has a key hash of 4 bytes and at least one more")
        return cls(words[1], blob[:4], blob[4:])

    def is_by(self, key: NoteKey) -> bool:
        """Return whether the line says it was made by `key`; whether it was is for a signature check to say."""
        return self.name == key.name and self.key_id == key.key_id


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text and the signatures under it. Nothing is verified: `TrustPolicy.verify` does that.

    Attributes:
        text: ends in a newline.
        signatures: in the order of the note.
    """

    text: str
    signatures: tuple[SignatureLine, ...]

    def to_text(self) -> str:
        """Return the note."""
        return self.text + "\n" + "".join(line.to_text() for line in self.signatures)

    def with_signatures(self, *lines: SignatureLine) -> SignedNote:
        """Return the note with further signatures at its end; one that is there already is not added again."""
        return SignedNote(self.text, (*self.signatures, *(line for line in lines if line not in self.signatures)))

    @classmethod
    def parse(cls, data: bytes | str) -> SignedNote:
        """Return the note of its bytes.

        Raises:
            LogError: "log.malformed".
        """
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        if len(raw) > LARGEST_NOTE_BYTES:
            raise malformed(f"A note has at most {LARGEST_NOTE_BYTES} bytes")
        try:
            note = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise malformed("A note is UTF-8") from None
        if any(c < " " and c != "\n" for c in note):
            raise malformed("A note has no control character but the newline")
        text, separator, lines = note.rpartition("\n\n")
        if not separator or not lines.endswith("\n"):
            raise malformed("A note is a text, an empty line and signature lines")
        found = lines[:-1].split("\n")
        if len(found) > MOST_SIGNATURES:
            raise malformed(f"A note has at most {MOST_SIGNATURES} signatures")
        return cls(text + "\n", tuple(SignatureLine.parse(line) for line in found))
