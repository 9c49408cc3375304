"""The request for review: what reviewers are asked to sign, in models/release/ from `submit` until `register`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from twinseal.errors import SignatureError
from twinseal.files import write_whole
from twinseal.reading import read_regular, require_folder
from twinseal.trust.release.release import MAX_RELEASE_BYTES, Release
from twinseal.trust.root.metadata import MAX_METADATA_BYTES

RELEASE_FILE, ROLE_FILE = "release.json", "role.json"


@dataclass(frozen=True)
class Request:
    """What reviewers are asked to sign.

    Attributes:
        release: The release to decide on.
        role_bytes: The unsigned TUF role that lists it, from `repository.stage`.
    """

    release: Release
    role_bytes: bytes

    @property
    def release_bytes(self) -> bytes:
        """The exact bytes of release.json: a release has one canonical form."""
        return self.release.to_bytes()

    @classmethod
    def read(cls, directory: Path) -> Request:
        """The request that `write` left in `directory`.

        Raises:
            SignatureError: There is none.
            EvidenceError: It is malformed.
        """
        try:
            require_folder(directory)
            release = read_regular(directory / RELEASE_FILE, MAX_RELEASE_BYTES)
            role = read_regular(directory / ROLE_FILE, MAX_METADATA_BYTES)
        except OSError as error:
            raise SignatureError(
                f"{directory}: expected a release that waits for approval, got none ({error.strerror})",
                remedy="Make a candidate first: dvc repro",
            ) from error
        return cls(Release.from_bytes(release, str(directory / RELEASE_FILE)), role)

    def write(self, directory: Path) -> None:
        """Write it to `directory`: the role last, so that a half-written request cannot be read.

        Raises:
            OSError: A file cannot be written.
        """
        (directory / ROLE_FILE).unlink(missing_ok=True)
        write_whole(directory / RELEASE_FILE, self.release_bytes)
        write_whole(directory / ROLE_FILE, self.role_bytes)
