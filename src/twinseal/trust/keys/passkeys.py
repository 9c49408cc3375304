"""Passkeys: keys that sign by WebAuthn (level 3), ES256, with a person's touch. Verified offline: the only door to it.

The key type `webauthn`, scheme `webauthn-es256`, has the value {"public", "rp_id", "origin", "credential_id"}. What it
signed with, and for whom, is pinned with the key: an assertion that another site asked for is none.

A signature's `sig` is the hex of canonical JSON (`assertions`), so TUF metadata, DSSE envelopes and review files keep
their formats. One touch signs several texts: the challenge is the SHA-256 of the canonical JSON of `digests`, the
SHA-256 of each text. Numbered as in the body of `verify_signature`:

1. the value is hex of canonical JSON of exactly these fields, at most 8 KiB; base64url without padding
2. 1 to 8 digests, each once, and that of the text among them
3. the authenticator data is 37 bytes: no extension, no attested key; the client data is at most 2 KiB of strict JSON,
   of a page that no other site embeds
4. the library agrees: type, challenge, origin, relying party, user present and verified, and the signature itself

The counter of an authenticator is compared where there is something to compare it with (`twinseal.trust.release`).

Example:
    digests, bytes_to_sign = challenge([statement, role])
    sig = signature_value(assertion_of_the_browser, digests)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, Signature, SSlibKey
from securesystemslib.signer import Key as LibraryKey

from twinseal.digests import canonical_json, parse_json, sha256
from twinseal.errors import EvidenceError, SignatureError
from twinseal.trust.keys.assertions import (
    MAX_DIGESTS,
    MAX_VALUE_BYTES,
    challenge_of,
    check_authenticator_data,
    check_client_data,
    decode,
    encode,
    parse_value,
)
from twinseal.trust.keys.public_keys import Key, public_key

KEY_TYPE, SCHEME = "webauthn", "webauthn-es256"
FILE_SCHEMA = "https://twinseal.dev/passkey/v1"
MAX_RP_ID, MAX_ORIGIN = 253, 300
MAX_CREDENTIAL_ID_BYTES = 1023  # WebAuthn level 3, section 4: credential ID
ES256 = -7  # COSE, RFC 9053
PARTS = ("public", "rp_id", "origin", "credential_id")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_ORIGIN = re.compile(r"(https?)://([a-z0-9.-]+)(?::([1-9][0-9]{0,4}))?\Z")
_DEFAULT_PORTS = {"https": "443", "http": "80"}  # a browser never writes these
_AGAIN = "Make the passkey again, on the page where reviewers sign in, with a device that asks for a PIN or finger."


class Passkey(LibraryKey):  # type: ignore[misc]  # the library is skipped by mypy
    """The public half of a passkey, and the site that it is for.

    Law: `Passkey.from_dict(key.keyid, key.to_dict()) == key`.

    Args:
        public: P-256, canonical PEM.
        rp_id: The domain that the authenticator made it for.
        origin: The one address whose page may ask for a signature: https://<host>[:port], the host being rp_id or below
            it; http only for localhost.
        credential_id: The authenticator's name for it, base64url without padding.

    Raises:
        SignatureError: A part does not fit this description.
    """

    def __init__(self, public: str, rp_id: str, origin: str, credential_id: str) -> None:
        _check_site(rp_id, origin)
        try:
            length = len(decode(credential_id))
        except UnverifiedSignatureError as error:
            raise SignatureError(f"passkey: credential id: {error}") from error
        if not 1 <= length <= MAX_CREDENTIAL_ID_BYTES:
            raise SignatureError(
                f"passkey: expected a credential id of 1 to {MAX_CREDENTIAL_ID_BYTES} bytes, got {length}"
            )
        public_key(public, f"passkey of {origin}")
        keyval = {"public": public, "rp_id": rp_id, "origin": origin, "credential_id": credential_id}
        super().__init__(self._keyid(keyval), KEY_TYPE, SCHEME, keyval)

    @staticmethod
    def _keyid(keyval: dict[str, str]) -> str:
        """As the library computes it for every other key: the SHA-256 of the canonical JSON of type, scheme, value."""
        return sha256(encode_canonical({"keytype": KEY_TYPE, "scheme": SCHEME, "keyval": keyval}).encode())

    @property
    def origin(self) -> str:
        """The one address whose page may ask for a signature."""
        return str(self.keyval["origin"])

    @property
    def site(self) -> dict[str, str]:
        """All of its value but the public key."""
        return {name: self.keyval[name] for name in PARTS[1:]}

    @classmethod
    def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> Passkey:
        """The passkey that TUF metadata describes.

        Raises:
            ValueError: It is none, has fields that nobody knows, or another identifier than its own.
        """
        keyval = key_dict.get("keyval")
        if set(key_dict) != {"keytype", "scheme", "keyval"} or not isinstance(keyval, dict):
            raise ValueError(
                f"passkey: expected keytype, scheme and keyval, got {str(sorted(map(str, key_dict)))[:80]}"
            )
        if (key_dict["keytype"], key_dict["scheme"]) != (KEY_TYPE, SCHEME) or set(keyval) != set(PARTS):
            raise ValueError(f"passkey: expected a value of {', '.join(PARTS)}, got {str(keyval)[:80]}")
        try:
            key = cls(**keyval)
        except SignatureError as error:
            raise ValueError(str(error)) from error
        if key.keyid != keyid:
            raise ValueError("passkey: expected the identifier that its value has, got another")
        key_dict.clear()  # as the library's own do: what is left would be unknown
        return key

    def to_dict(self) -> dict[str, Any]:
        """As TUF metadata describes it."""
        return {"keytype": KEY_TYPE, "scheme": SCHEME, "keyval": dict(self.keyval)}

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        """Refuse a signature that is not this passkey's over `data`, made with a verified person present.

        Raises:
            UnverifiedSignatureError: It is not; whatever is wrong with it.
        """
        try:
            value = parse_value(signature.signature)  # 1
            if sha256(data) not in value["digests"]:  # 2
                raise UnverifiedSignatureError("passkey: expected a touch for these bytes, got one for others")
            expected = challenge_of(value["digests"])
            check_authenticator_data(decode(value["authenticator_data"]))  # 3
            check_client_data(decode(value["client_data"]), "webauthn.get", expected, self.origin)
            self._ask_library(value, expected)  # 4
        except UnverifiedSignatureError:
            raise
        except Exception as error:  # whatever the library makes of hostile bytes is a refusal
            raise UnverifiedSignatureError(
                f"passkey: expected a valid assertion, got another ({str(error)[:200]})"
            ) from error

    def _ask_library(self, value: Mapping[str, Any], expected: bytes) -> None:
        from webauthn import verify_authentication_response  # noqa: PLC0415  # most twins never see a passkey

        credential = self.keyval["credential_id"]
        response = {
            "clientDataJSON": value["client_data"],
            "authenticatorData": value["authenticator_data"],
            "signature": value["signature"],
        }
        verify_authentication_response(
            credential={"id": credential, "rawId": credential, "type": "public-key", "response": response},
            expected_challenge=expected,
            expected_rp_id=self.keyval["rp_id"],
            expected_origin=self.origin,
            credential_public_key=_cose_key(self.keyval["public"]),
            credential_current_sign_count=0,
            require_user_verification=True,
        )


KEY_FOR_TYPE_AND_SCHEME[(KEY_TYPE, SCHEME)] = Passkey


@dataclass(frozen=True)
class PasskeySigner:
    """Signs with a passkey: one assertion for all texts.

    Attributes:
        public_key: The passkey.
        ask: Gives the authenticator's assertion over a challenge, in the form of `PublicKeyCredential.toJSON()`.
    """

    public_key: Passkey
    ask: Callable[[bytes], Mapping[str, Any]]

    def sign_all(self, payloads: Sequence[bytes]) -> list[Signature]:
        """A signature over each of `payloads`, by one touch.

        Raises:
            SignatureError: What came is no assertion.
        """
        return signatures_from(self.public_key, self.ask(challenge(payloads)[1]), payloads)


def challenge(payloads: Iterable[bytes]) -> tuple[list[str], bytes]:
    """What one touch signs for `payloads`: their digests, in order, and the challenge over these.

    Raises:
        ValueError: There are none, more than 8, or one twice.
    """
    digests = [sha256(payload) for payload in payloads]
    if not 1 <= len(digests) <= MAX_DIGESTS or len(set(digests)) != len(digests):
        raise ValueError(f"challenge: expected 1 to {MAX_DIGESTS} texts, each once, got {len(digests)}")
    return digests, challenge_of(digests)


def signature_value(assertion: Mapping[str, Any], digests: Iterable[str]) -> str:
    """The `sig` that an assertion stands for, unverified: `Passkey.verify_signature` judges it.

    Args:
        assertion: From the browser: `PublicKeyCredential.toJSON()` after `navigator.credentials.get`.
        digests: From `challenge`.

    Raises:
        SignatureError: It is no assertion.
    """
    response = assertion.get("response") if isinstance(assertion, Mapping) else None
    if not isinstance(response, Mapping):
        raise SignatureError(f"passkey: expected the answer of an authenticator, got {str(assertion)[:80]}")
    value: dict[str, Any] = {"digests": list(digests)}
    names = {"authenticator_data": "authenticatorData", "client_data": "clientDataJSON", "signature": "signature"}
    value |= {ours: response.get(theirs) for ours, theirs in names.items()}
    try:
        sig = canonical_json(value).hex()
        parse_value(sig)
    except (UnverifiedSignatureError, ValueError, TypeError) as error:
        raise SignatureError(
            f"passkey: expected the answer of an authenticator, got something else ({error})"
        ) from error
    return sig


def signatures_from(key: Passkey, assertion: Mapping[str, Any], payloads: Sequence[bytes]) -> list[Signature]:
    """The signatures over each of `payloads` that one assertion of `key` stands for, unverified.

    Raises:
        SignatureError: It is no assertion.
    """
    sig = signature_value(assertion, challenge(payloads)[0])
    return [Signature(key.keyid, sig) for _ in payloads]


def check_touch(key: Passkey, assertion: Mapping[str, Any], payloads: Sequence[bytes], holder: str) -> list[Signature]:
    """The signatures that one assertion of `key` stands for, verified: for a page that says at once what is wrong.

    Raises:
        SignatureError: It is no assertion, or not by this passkey over these texts; says why.
    """
    found = signatures_from(key, assertion, payloads)
    try:
        key.verify_signature(found[0], payloads[0])
    except UnverifiedSignatureError as error:
        raise SignatureError(
            f"passkey of {holder}: expected a touch for exactly these texts, on this page, got another ({error})",
            remedy="Open the page again, read it, and sign again. If that fails too, tell a custodian.",
        ) from error
    return found


def passkey_from_registration(credential: Mapping[str, Any], *, challenge: bytes, rp_id: str, origin: str) -> Passkey:
    """The passkey that an authenticator has made; its attestation statement, if there is one, is not looked at.

    Args:
        credential: From the browser: `PublicKeyCredential.toJSON()` after `navigator.credentials.create`.
        challenge: The bytes that it was asked with.
        rp_id: The relying party that it was made for.
        origin: The address of the page.

    Raises:
        SignatureError: It is for another site or challenge, no ES256 key, or its user was not verified; says which.
    """
    try:
        found = _verify_registration(credential, challenge, rp_id, origin)
        return Passkey(_pem(found.credential_public_key), rp_id, origin, encode(found.credential_id))
    except SignatureError as error:
        error.remedy = error.remedy or _AGAIN
        raise
    except Exception as error:  # as in verify_signature
        raise SignatureError(
            f"passkey: expected an ES256 passkey that verifies its user, for {str(origin)[:80]}, got another ({error})",
            remedy=_AGAIN,
        ) from error


def _verify_registration(credential: Mapping[str, Any], challenge: bytes, rp_id: str, origin: str) -> Any:
    from webauthn import verify_registration_response  # noqa: PLC0415  # as above
    from webauthn.helpers import encode_cbor, parse_cbor  # noqa: PLC0415
    from webauthn.helpers.cose import COSEAlgorithmIdentifier  # noqa: PLC0415

    response = credential["response"]
    check_client_data(decode(response["clientDataJSON"]), "webauthn.create", challenge, origin)
    made = parse_cbor(decode(response["attestationObject"]))
    plain = encode(encode_cbor({"fmt": "none", "attStmt": {}, "authData": made["authData"]}))
    name = credential["id"]
    found = verify_registration_response(
        credential={
            "id": name,
            "rawId": credential["rawId"],
            "type": credential["type"],
            "response": {"clientDataJSON": response["clientDataJSON"], "attestationObject": plain},
        },
        expected_challenge=challenge,
        expected_rp_id=rp_id,
        expected_origin=origin,
        require_user_verification=True,
        supported_pub_key_algs=[COSEAlgorithmIdentifier(ES256)],
    )
    if encode(found.credential_id) != name:
        raise SignatureError("passkey: expected the key of the credential that was made, got another's")
    return found


def sign_count(sig: str) -> int:
    """The authenticator's counter in a signature's value; 0 when it keeps none.

    Raises:
        UnverifiedSignatureError: It is no value of a passkey's signature.
    """
    data = decode(parse_value(sig)["authenticator_data"])
    check_authenticator_data(data)
    return int.from_bytes(data[33:37], "big")


def public_file(key: Key) -> bytes:
    """The content of the .pub file of any key: PEM, or the JSON of a passkey."""
    if isinstance(key, Passkey):
        return canonical_json({"schema": FILE_SCHEMA, **key.keyval}) + b"\n"
    return str(key.keyval["public"]).encode()


def from_file(data: bytes, where: str) -> Passkey:
    """The passkey that a .pub file holds.

    Raises:
        SignatureError: It holds something else.
    """
    try:
        value = parse_json(data, where, limit=MAX_VALUE_BYTES)
    except EvidenceError as error:
        raise SignatureError(str(error)) from error
    if not isinstance(value, dict) or set(value) != {"schema", *PARTS} or value["schema"] != FILE_SCHEMA:
        raise SignatureError(f"{where}: expected a passkey of {FILE_SCHEMA}, got {str(value)[:80]}")
    return Passkey(**{name: value[name] for name in PARTS})


def _check_site(rp_id: object, origin: object) -> None:
    """Refuse a site that no browser would let a passkey work on, or that is not written as a browser writes it."""
    if not isinstance(rp_id, str) or len(rp_id) > MAX_RP_ID or not _HOST.match(rp_id):
        raise SignatureError(f"passkey: expected a domain in lower case as rp id, got {str(rp_id)[:80]!r}")
    found = _ORIGIN.match(origin) if isinstance(origin, str) and len(origin) <= MAX_ORIGIN else None
    scheme, host, port = found.groups() if found else ("", "", None)
    below = host == rp_id or ("." in rp_id and host.endswith(f".{rp_id}"))
    secure = scheme == "https" or (rp_id == host == "localhost")
    if not found or not _HOST.match(host) or not below or not secure:
        raise SignatureError(
            f"passkey: expected an origin of https://{rp_id} or below it, got {str(origin)[:80]!r}",
            remedy="http is for trying out, on localhost alone.",
        )
    if port is not None and (int(port) > 65535 or port == _DEFAULT_PORTS[scheme]):
        raise SignatureError(f"passkey: expected an origin as a browser writes it, got {str(origin)[:80]!r}")


def _cose_key(pem: str) -> bytes:
    """A P-256 key as COSE (RFC 9053, section 7.1.1): what authenticators call it by."""
    from webauthn.helpers import encode_cbor  # noqa: PLC0415  # as above

    numbers: Any = serialization.load_pem_public_key(pem.encode("ascii")).public_numbers()  # type: ignore[union-attr]
    x, y = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
    return bytes(encode_cbor({1: 2, 3: ES256, -1: 1, -2: x, -3: y}))


def _pem(cose: bytes) -> str:
    from webauthn.helpers import decode_credential_public_key, decoded_public_key_to_cryptography  # noqa: PLC0415

    return str(
        SSlibKey.from_crypto(decoded_public_key_to_cryptography(decode_credential_public_key(cose))).keyval["public"]
    )
