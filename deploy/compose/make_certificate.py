"""make_certificate.py DIRECTORY: an authority (root.crt) and, as a Secret, a certificate for shop.example; once."""

import os
import sys
from pathlib import Path

from pypilot.cli.demo.certificates import Authority

directory = Path(sys.argv[1])
secret = directory / "shop-credential.yaml"
if not secret.exists():
    authority = Authority("docker-compose example")
    authority.write(directory / "root.crt")
    text = authority.issue("shop.example").secret_yaml("shop-credential", "shop")
    # The control plane's group may read it, and nobody else.
    partial = secret.with_suffix(".partial")
    partial.touch(mode=0o640)
    os.chown(partial, 0, 65532)
    partial.write_text(text)
    partial.rename(secret)
