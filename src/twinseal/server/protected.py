"""Protected names: the models that the anchor lists. Under them MLflow shows what was approved, and nothing else.

Whoever may write to MLflow can press "Register model", move an alias or rename a model. Under a protected name each
such change is a claim: this candidate is the release that reviewers approved. The claim is verified when it is made, in
numbered steps, and refused unless all of them pass:

1. the repository of record of this home has published a release of the model
2. k of n reviewers, whom the anchor pins now, have signed it
3. it names the candidate that is claimed
4. the candidate's files are those of the release: bytes, the builder's signature, the evidence, its chain
   (`trust.release.candidate.verify_release`)

No twin relies on this: it verifies all of it again. It keeps people from taking the registry for an approval.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from twinseal.errors import EvidenceError, RegistryError
from twinseal.trust.release import repository
from twinseal.trust.release.candidate import verify_release
from twinseal.trust.release.release import Release
from twinseal.trust.root.home import Home

REVIEW = "Have the candidate reviewed: its page in MLflow links to the review."


@dataclass(frozen=True)
class ProtectedNames:
    """Decides which changes of the registry are true claims.

    Attributes:
        home: The deployment: its anchor, read anew for each decision, and its repository of record.
        folder_of: The folder of the files of a candidate, by its id in MLflow.
    """

    home: Home
    folder_of: Callable[[str], Path]

    def covers(self, name: object) -> bool:
        """Whether `name` is protected; or looks like one that is, so that people could take it for that.

        Letters that differ in case or form only, spaces, and signs that are not shown make no other name.
        """
        return _plain(str(name)) in {_plain(model) for model in self.home.anchor().models}

    def require_release(self, name: str) -> Release:
        """The release of the model `name` that enough reviewers have signed: steps 1 and 2.

        Raises:
            RegistryError: There is none, or `name` only looks like a model's name.
            ThresholdError: Too few of today's reviewers have signed it.
            ExpiredError, RootError: The anchor or the repository is out of date or damaged.
        """
        anchor = self.home.anchor()
        if name not in anchor.models:
            raise RegistryError(
                f"{name[:60]!r}: expected a name that cannot be taken for that of a protected model, got one that can",
                remedy=f"Protected are: {', '.join(anchor.models)}. Choose another name.",
            )
        release = repository.current_release(self.home, name)  # 1
        if release is None:
            raise RegistryError(
                f"{name}: expected a release that {anchor.roles['reviewer'].threshold} reviewers have approved, "
                "got none: MLflow alone cannot register this model",
                remedy=REVIEW,
            )
        anchor.check_current(datetime.now(UTC))
        count = repository.approvals_of(self.home, name)  # 2
        if count is not None:
            count.require_complete()
        return release

    def require_claim(self, name: str, model_id: str) -> Release:
        """The release of the model `name`, once the candidate `model_id` is verified to be it: steps 1 to 4.

        Raises:
            RegistryError: The release names another candidate; or as `require_release`.
            TrustError, EvidenceError, GateRefusedError: The candidate's files are not those that were signed.
        """
        release = self.require_release(name)
        if model_id != release.mlflow_model_id:  # 3
            raise RegistryError(
                f"{name}: expected the candidate that release {release.version} names ({release.mlflow_model_id}), "
                f"got {model_id[:60] or 'none'}: it was not approved",
                remedy=REVIEW,
            )
        folder = self.folder_of(model_id)
        if not folder.is_dir():
            raise EvidenceError(f"{name}: expected the files of the candidate {model_id}, got none")
        verify_release(folder, release, self.home.anchor())  # 4
        return release


def _plain(name: str) -> str:
    """A name without what a reader does not see."""
    shown = unicodedata.normalize("NFKC", name).casefold()
    return "".join(letter for letter in shown if unicodedata.category(letter)[0] not in "CZ")
