"""The request: what reviewers are asked to sign, as it lies in models/release/ between `submit` and `register`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from twinseal.errors import SignatureError
from twinseal.files import write_whole
from twinseal.trust.release.release import Release

RELEASE_FILE, ROLE_FILE = "release.json", "role.json"


@dataclass(frozen=True)
class Request:
    """What reviewers are asked to sign.

    Attributes:
        release: The release to be decided on.
        release_bytes: Its exact bytes.
        role_bytes: The unsigned TUF role that lists it.
    """

    release: Release
    release_bytes: bytes
    role_bytes: bytes

    @classmethod
    def read(cls, directory: Path) -> Request:
        """The request in `directory`, as `write` left it.

        Raises:
            SignatureError: There is none.
            EvidenceError: It is malformed.
        """
        try:
            release, role = (directory / RELEASE_FILE).read_bytes(), (directory / ROLE_FILE).read_bytes()
        except OSError as error:
            raise SignatureError(
                f"{directory}: expected a release that waits for approval, got none ({error.strerror})",
                remedy="Make a candidate first: dvc repro",
            ) from error
        return cls(Release.from_bytes(release, str(directory / RELEASE_FILE)), release, role)

    def write(self, directory: Path) -> None:
        """Leave it in `directory`: the role last, so that a half-written request is none.

        Raises:
            OSError: A file cannot be written.
        """
        (directory / ROLE_FILE).unlink(missing_ok=True)
        write_whole(directory / RELEASE_FILE, self.release_bytes)
        write_whole(directory / ROLE_FILE, self.role_bytes)
