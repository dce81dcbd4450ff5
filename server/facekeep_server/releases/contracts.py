"""What embeddings of the fleet's packs are made by, as `facekeep federate contract` wrote it: for the id, and to feed the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from facekeep.canonical import parse_canonical
from facekeep.contract import InputContract, contract_id_with
from facekeep_server.errors import ServerError

_KEYS: Final = {"v", "detector", "alignment", "embedder"}
LARGEST: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class ContractDescription:
    """A description.

    Attributes:
        input: how pixels become the input of the embedder.
    """

    input: InputContract
    _fields: dict[str, Any] = field(repr=False)

    def contract_of(self, model_sha256: str) -> str:
        """Return the contract of embeddings made with a model file in the place of the embedder's own."""
        return contract_id_with(self._fields, model_sha256)

    @classmethod
    def parse(cls, data: bytes) -> ContractDescription:
        """Return the description of a file.

        Raises:
            ServerError: "server.invalid_request".
        """
        try:
            fields = parse_canonical(data) if len(data) <= LARGEST else None
            if not isinstance(fields, dict) or fields.keys() != _KEYS or fields["v"] != 1:
                raise ValueError
            stated: dict[str, Any] = dict(fields["embedder"]["input"])
            size = stated["size_px"]
            stated |= {name: tuple(float(value) for value in stated[name]) for name in ("mean", "std")}
            stated |= {"size_px": None if size is None else (int(size[0]), int(size[1]))}
            found = InputContract(**(stated | {"crop_scale": float(stated["crop_scale"])}))
        except (ValueError, KeyError, TypeError):
            raise ServerError(
                "server.invalid_request", "The contract is not the file that `facekeep federate contract` writes on a device."
            ) from None
        if found.crop != "arcface-112" or found.size_px not in {None, (112, 112)}:
            raise ServerError("server.invalid_request", "The gate evaluates embedders that take aligned crops of 112 by 112.")
        return cls(found, fields)
