"""Tables. Instants are text (RFC 3339, UTC, milliseconds): they sort, and read the same on every database."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# SQLite keeps a table in the order of its key, and numbers rows by itself, only where it calls the key INTEGER.
_ROWID = BigInteger().with_variant(Integer(), "sqlite")
_INSTANT = String(24)


class Base(DeclarativeBase):
    """Metadata of every table."""


class Device(Base):
    """A device that may submit, and where its trail stands in the log."""

    __tablename__ = "devices"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    label: Mapped[str] = mapped_column(String(64))
    enrolled_at: Mapped[str] = mapped_column(_INSTANT)
    revoked_at: Mapped[str | None] = mapped_column(_INSTANT)
    trail_size: Mapped[int] = mapped_column(BigInteger, default=0)
    trail_edge: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    trail_last: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    trail_time: Mapped[str | None] = mapped_column(_INSTANT)


class EnrolmentCode(Base):
    """A one-time code, as a hash."""

    __tablename__ = "enrolment_codes"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    salt: Mapped[bytes] = mapped_column(LargeBinary(16))
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    label: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[str] = mapped_column(_INSTANT)
    expires_at: Mapped[str] = mapped_column(_INSTANT)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    used_at: Mapped[str | None] = mapped_column(_INSTANT)
    device: Mapped[str | None] = mapped_column(String(32))


class Token(Base):
    """A bearer token of an auditor or administrator, as a hash."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    salt: Mapped[bytes] = mapped_column(LargeBinary(16))
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    role: Mapped[str] = mapped_column(String(16))
    label: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[str] = mapped_column(_INSTANT)
    expires_at: Mapped[str] = mapped_column(_INSTANT)
    revoked_at: Mapped[str | None] = mapped_column(_INSTANT)


class Nonce(Base):
    """A nonce that a device has used; kept until its request would be too old anyway."""

    __tablename__ = "nonces"

    device: Mapped[str] = mapped_column(String(32), primary_key=True)
    nonce: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[str] = mapped_column(_INSTANT, index=True)


class Entry(Base):
    """A leaf of the log. What is beside `body` is cut out of it, for searching."""

    __tablename__ = "entries"
    __table_args__ = (
        UniqueConstraint("device", "kind", "seq"),
        Index("ix_entries_subject", "subject", "number"),
        Index("ix_entries_event", "event", "number"),
    )

    number: Mapped[int] = mapped_column(_ROWID, primary_key=True, autoincrement=False)
    leaf_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    device: Mapped[str] = mapped_column(String(32))
    kind: Mapped[int] = mapped_column(Integer)
    seq: Mapped[int] = mapped_column(BigInteger)
    event: Mapped[str | None] = mapped_column(String(64))
    outcome: Mapped[str | None] = mapped_column(String(64))
    subject: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    at: Mapped[str | None] = mapped_column(_INSTANT)
    body: Mapped[bytes] = mapped_column(LargeBinary)


class StoredTile(Base):
    """A tile of the tree: up to 256 hashes of one level. Only the last tile of a level is ever rewritten, by a longer one."""

    __tablename__ = "tiles"

    level: Mapped[int] = mapped_column(Integer, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hashes: Mapped[bytes] = mapped_column(LargeBinary)


class LogHead(Base):
    """The one row that says how long the log is; whoever appends holds it."""

    __tablename__ = "log_head"
    __table_args__ = (CheckConstraint("id = 1", name="only_one"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    origin: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    root: Mapped[bytes] = mapped_column(LargeBinary(32))


class TreeHead(Base):
    """Every head that was ever committed, so that an auditor can ask what was published when."""

    __tablename__ = "tree_heads"

    size: Mapped[int] = mapped_column(_ROWID, primary_key=True, autoincrement=False)
    root: Mapped[bytes] = mapped_column(LargeBinary(32))
    committed_at: Mapped[str] = mapped_column(_INSTANT)


class LogKey(Base):
    """A key that signs checkpoints: its public half, and until when it signs."""

    __tablename__ = "log_keys"

    id: Mapped[str] = mapped_column(String(8), primary_key=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    created_at: Mapped[str] = mapped_column(_INSTANT)
    retires_at: Mapped[str | None] = mapped_column(_INSTANT)


class Incident(Base):
    """Something refused or changed that an auditor has to see. Codes and numbers; evidence only where a device signed it."""

    __tablename__ = "incidents"

    id: Mapped[int] = mapped_column(_ROWID, primary_key=True, autoincrement=True)
    at: Mapped[str] = mapped_column(_INSTANT)
    code: Mapped[str] = mapped_column(String(64), index=True)
    device: Mapped[str | None] = mapped_column(String(32))
    number: Mapped[int | None] = mapped_column(BigInteger)
    evidence: Mapped[bytes | None] = mapped_column(LargeBinary)


class PublishedHead(Base):
    """The one checkpoint that enough witnesses have seen: what is published where witnesses are configured."""

    __tablename__ = "published_head"
    __table_args__ = (CheckConstraint("id = 1", name="only_one_published"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    note: Mapped[str] = mapped_column(Text)
    witnessed_at: Mapped[str] = mapped_column(_INSTANT)


class WitnessState(Base):
    """Where a witness stood when it was asked last."""

    __tablename__ = "witnesses"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    cosigned_at: Mapped[str | None] = mapped_column(_INSTANT)
    asked_at: Mapped[str] = mapped_column(_INSTANT)
    outcome: Mapped[str] = mapped_column(String(64))


class StoredRevocationList(Base):
    """The newest revocation list of an issuer, as it was signed."""

    __tablename__ = "revocation_lists"

    issuer: Mapped[str] = mapped_column(String(255), primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)
    head: Mapped[bytes] = mapped_column(LargeBinary)
    note: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[str] = mapped_column(_INSTANT)
