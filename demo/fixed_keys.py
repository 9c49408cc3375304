"""Keys that are the same in every run, where numbers follow from a signature: the salt of the split does."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from twinseal.files import write_whole
from twinseal.trust.root.home import Home


def write_fixed_key(home: Home, holder: str, number: int) -> None:
    """The key pair with the private scalar `number`, where `init_demo` finds and takes it. It protects nothing."""
    private = ec.derive_private_key(number, ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    home.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(home.keys / f"{holder}.pem", pem, mode=0o600)
    write_whole(home.keys / f"{holder}.pub", public)
