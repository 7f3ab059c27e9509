"""`pypilot token`: keys and tokens of service accounts where there is no API server: for tests, and for compose files.

The key stays with whoever made it; the control plane gets only its public half (`--token-keys`).
"""

import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click


@click.group()
def token() -> None:
    """Keys and tokens of service accounts, for a mesh without a cluster."""


@token.command("keys")
@click.option("--key", type=click.Path(path_type=Path), required=True, help="Private key (PEM) to write, mode 0600.")
@click.option("--jwks", type=click.Path(path_type=Path), required=True, help="Public key (JWKS) to write.")
def keys(key: Path, jwks: Path) -> None:
    """Make a key, and the file for `pypilot serve --token-keys`."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from jwt.algorithms import ECAlgorithm

    made = ec.generate_private_key(ec.SECP256R1())
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        public: dict[str, Any] = {**ECAlgorithm.to_jwk(made.public_key(), as_dict=True), "alg": "ES256", "use": "sig"}
        jwks.write_text(json.dumps({"keys": [public]}, indent=1) + "\n")
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None


@token.command("mint")
@click.option("--key", type=click.Path(path_type=Path), required=True, help="Private key (PEM) of `token keys`.")
@click.option("--namespace", required=True, help="Of the service account.")
@click.option("--service-account", default="default", show_default=True, help="Its name.")
@click.option("--audience", default="istio-ca", show_default=True, help="For whom it is.")
@click.option("--lifetime", type=click.IntRange(60), default=86_400, show_default=True, help="Seconds that it holds.")
def mint(key: Path, namespace: str, service_account: str, audience: str, lifetime: int) -> None:
    """Print a token of a service account."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        signer = load_pem_private_key(key.read_bytes(), password=None)
    except OSError as error:
        raise click.ClickException(f"{key}: {error.strerror}") from None
    except (ValueError, TypeError):
        raise click.ClickException(f"{key}: not an unencrypted PEM key") from None
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise click.ClickException(f"{key}: not a key of `pypilot token keys`")
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": "pypilot",
        "sub": f"system:serviceaccount:{namespace}:{service_account}",
        "aud": [audience],
        "iat": now,
        "exp": now + lifetime,
    }
    click.echo(jwt.encode(claims, signer, "ES256"))
    click.echo(f"holds until {datetime.fromtimestamp(now + lifetime).astimezone():%Y-%m-%d %H:%M:%S %z}", err=True)
