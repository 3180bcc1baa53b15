"""What every document shares: frozen, strict, versioned, digested, written as canonical JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finetune_exe.atomic import write_file
from finetune_exe.errors import FineTuneError


class Value(BaseModel):
    """A part of a document: frozen, strictly typed, refusing keys it does not know."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        populate_by_name=True,
        protected_namespaces=(),
    )


class Document(Value):
    """Something one phase hands to the next, or the program to a person."""

    schema_number: ClassVar[int] = 1

    schema_: int = Field(alias="schema", default=1)
    """Version of this document's form."""
    inputs: dict[str, str] = Field(default_factory=dict)
    """Digest of every document this one was made from, by its name."""

    def canonical_json(self) -> bytes:
        """Write the document so that equal documents are equal bytes: sorted keys, no spaces, UTF-8."""
        return _canonical(self.model_dump(mode="json", by_alias=True))

    def pretty_json(self) -> str:
        """Write the document for a person: indented, in the order of its fields."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), ensure_ascii=False, indent=2) + "\n"

    def digest(self) -> str:
        """Name the content: the first 32 hex digits of the SHA-256 of the canonical JSON."""
        return _named(self.canonical_json())

    def is_named(self, digest: str | None) -> bool:
        """Say whether a digest is this document's: by its content now, or as the version that wrote it gave it.

        That version may have lacked keys, which are read as their defaults.
        """
        as_written = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return digest in (self.digest(), _named(_canonical(as_written)))

    def write(self, path: Path) -> None:
        """Write the document as JSON in one step."""
        write_file(path, self.pretty_json().encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a document from JSON.

        Raises:
            FineTuneError: C06 for another schema number, C07 where the file is damaged.
        """
        try:
            content: Any = json.loads(path.read_bytes())
        except (OSError, ValueError) as fault:
            raise _damaged(cls.__name__, path, str(fault)) from fault
        cls.require_schema(content.get("schema") if isinstance(content, dict) else None, path)
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as fault:
            raise _damaged(cls.__name__, path, first_fault(fault)) from fault

    @classmethod
    def require_schema(cls, number: object, path: Path) -> None:
        """Refuse a document of another form than this version reads.

        Raises:
            FineTuneError: C06 for another schema number.
        """
        if number != cls.schema_number:
            raise FineTuneError(
                "C06",
                what=f"{cls.__name__} has schema {number!r}; this version reads schema {cls.schema_number}",
                where=str(path),
                why="its fields may mean something else",
                fix="make it again with this version, or install the version that wrote it",
            )


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _named(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def first_fault(fault: ValidationError) -> str:
    """Say the first thing wrong in one line: path and message."""
    error = fault.errors(include_url=False)[0]
    return f"{'.'.join(map(str, error['loc'])) or 'document'}: {error['msg']}"


def _damaged(kind: str, path: Path, why: str) -> FineTuneError:
    return FineTuneError(
        "C07",
        what=f"this is no readable {kind}",
        where=str(path),
        why=why,
        fix="restore the file, or run again the step that writes it",
    )
