"""Secret parameters on disk: encrypted with a key that lies beside the database, and only until the job has ended."""

from __future__ import annotations

from pathlib import Path

from remoterun.access import write_private
from remoterun.errors import Unavailable


class Seal:
    """Encrypt and decrypt with the data folder's own key, made when it is first needed.

    Parameters:
        path: the file of the key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def seal(self, data: bytes) -> bytes:
        """Encrypt."""
        from cryptography.fernet import Fernet

        if not self._path.exists():
            write_private(self._path, Fernet.generate_key())
        return Fernet(self._path.read_bytes()).encrypt(data)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt.

        Raises:
            Unavailable: the key is gone, or another one.
        """
        from cryptography.fernet import Fernet, InvalidToken

        try:
            return Fernet(self._path.read_bytes()).decrypt(sealed)
        except (OSError, ValueError, InvalidToken) as error:
            raise Unavailable(f"the secret parameters cannot be read with the key {self._path}") from error
