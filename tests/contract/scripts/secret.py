from pydantic import SecretStr


def main(user: str, password: SecretStr, path: str = "") -> dict[str, int]:
    import time
    from pathlib import Path

    while path and not Path(path).exists():
        time.sleep(0.005)
    return {user: len(password.get_secret_value())}
