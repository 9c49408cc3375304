"""The policy as files: every YAML file of policy/, its content and its digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinseal.config import read_yaml
from twinseal.digests import sha256_file
from twinseal.errors import EvidenceError
from twinseal.evidence import Subject
from twinseal.files import FileRecord, tree_digest
from twinseal.policy_entries import FOLDER, part_subjects


@dataclass(frozen=True)
class Policy:
    """All of policy/, as it is now.

    Attributes:
        files: Every YAML file, named `policy/…`, sorted.
        content: The value of each, by the name of the file.
    """

    files: tuple[FileRecord, ...]
    content: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Policy:
        """The policy in `folder`.

        Raises:
            ConfigError: A file is no YAML.
            EvidenceError: There is no file.
        """
        paths = sorted(folder.glob("*.yaml"))
        if not paths:
            raise EvidenceError(f"{folder}: expected the files of a policy, got none")
        records = tuple(FileRecord(f"{FOLDER}/{p.name}", p.stat().st_size, sha256_file(p)) for p in paths)
        return cls(records, {path.name: read_yaml(path) for path in paths})

    @property
    def digest(self) -> Subject:
        """All of it, as one digest."""
        return Subject(FOLDER, tree_digest(self.files))

    @property
    def part_subjects(self) -> tuple[Subject, ...]:
        """What stages name of it; see `policy_entries.part_subjects`."""
        return part_subjects(self.content)

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """Each file, and all of it."""
        return (*(Subject(record.path, record.sha256) for record in self.files), self.digest)
