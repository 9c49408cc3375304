"""Keys: where private keys are kept, how they are opened, and how public keys are compared.

In reading order:

    key.py           the signer, key pairs, .pub files
    public_keys.py   public keys: their one form, fingerprints
    passkeys.py      keys that sign by WebAuthn, in a browser
    key_files.py     private keys in PEM files (the scheme `file:`)
    pkcs8.py         how such a file is encrypted, and what one guess of its passphrase costs
    token_uris.py    RFC 7512: which key in which token (the scheme `pkcs11:`)
    tokens.py        private keys in smart cards and hardware security modules
    passphrases.py   where a passphrase comes from when nobody is asked
    keyring.py       all keys of one home, their roles, and what is wrong with them

A newcomer opens `key.py` first: `open_signer` and `fingerprint` are what the rest of twinseal uses.
"""
