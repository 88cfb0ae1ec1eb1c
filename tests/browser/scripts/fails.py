"""Fail, with <script>alert(1)</script> in its help."""


def main(text: str = "<img src=x onerror=hacked=1>") -> None:
    raise ValueError(text)
