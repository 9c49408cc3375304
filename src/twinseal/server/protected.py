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

_JOINING = ("Pd", "Pc")  # dashes, underscores
_ALIKE = str.maketrans("01i|", "olll", "\u4e00\u30fc\u3161")  # wide letters that are a stroke: dashes too
# Letters of Greek, Cyrillic, Armenian and phonetic Latin with the ASCII letter that they are drawn like (after Unicode
# UTS 39, confusables.txt): for a name that has no ASCII letter at all, so that plants may name models in their script.
_DRAWN_LIKE = str.maketrans(
    "\u03b1\u03b5\u03b7\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7\u03c9\u03f2"
    "\u0430\u0432\u0433\u0435\u043a\u043c\u043d\u043e\u043f\u0440\u0441\u0442\u0443\u0445\u0446\u0455\u0456\u0458"
    "\u04bb\u04cf\u0501\u051b\u051d\u0578\u057d\u0570\u0585\u0561\u0131\u0251\u0261\u0269\u0280\u029f\u1d0d\u1d18\u1d1c",
    "aenlkuvoptuxwc" + "abrekmhonpctyxusij" + "hldqwnuhowliglrlmpu",
)
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

        No other name is made by case, form (NFKC) or accents, spaces, dashes and underscores, signs that are not shown,
        0 for O, 1 or I for l, rn for m; nor by letters of another script among ASCII letters, or drawn like them.
        """
        shown = _plain(str(name))
        if not any(sign.isascii() and sign.isalpha() for sign in unicodedata.normalize("NFKC", str(name))):
            shown = shown.translate(_DRAWN_LIKE)  # in another script: it is no wild card
            return shown in map(_plain, self.home.anchor().models)
        return any(_reads_as(shown, _plain(model)) for model in self.home.anchor().models)

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
    """A name without what a reader does not see, or may not tell apart."""
    shown = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    kept = (sign for sign in shown if _is_seen(sign))
    return "".join(kept).translate(_ALIKE).replace("rn", "m")


def _is_seen(sign: str) -> bool:
    category = unicodedata.category(sign)
    return category[0] not in "CMZ" and category not in _JOINING


def _reads_as(shown: str, model: str) -> bool:
    """Whether a name can be read as a model's. A letter that is not ASCII stands for any one, if it is not wide (CJK).

    Another sign that is not ASCII stands for any one too, or for a dash, which is not looked at.
    """
    places = {0}
    for sign in shown:
        after = {place + 1 for place in places if model[place : place + 1] == sign}
        if not sign.isascii() and unicodedata.east_asian_width(sign) != "W":
            is_letter = unicodedata.category(sign) in ("Ll", "Lo")
            after = {place + 1 for place in places if place < len(model)} | (set() if is_letter else places)
        places = after
    return len(model) in places
